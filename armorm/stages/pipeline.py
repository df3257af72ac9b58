"""The pipeline, once: running, planning, OpenLineage and the documentation walk this tuple."""

from collections.abc import Mapping
from typing import Any, Final

from armorm.features.checks.contamination import CONTAMINATION
from armorm.features.checks.quality import QUALITY
from armorm.features.embedding.embed import BESIDE, EMBED
from armorm.features.ingest.dataset import INGEST
from armorm.features.ingest.forgotten import FORGOTTEN
from armorm.features.store.stage import Computed, Part, Stage
from armorm.stages.decorrelate import DECORRELATE
from armorm.stages.evaluate import EVALUATE
from armorm.stages.gate import GATE
from armorm.stages.model import MODEL
from armorm.stages.preference import PREFERENCE_STAGE
from armorm.stages.promote import PROMOTE
from armorm.stages.regress import REGRESS
from armorm.stages.statistics import STATISTICS

PIPELINE: Final[tuple[Stage, ...]] = (
    INGEST,
    QUALITY,
    CONTAMINATION,
    EMBED,
    STATISTICS,
    REGRESS,
    PREFERENCE_STAGE,
    DECORRELATE,
    GATE,
    MODEL,
    EVALUATE,
)
"""In the order in which they run. Promotion is no part of it: it is a decision about what the pipeline has made."""


STAGES: Final[Mapping[str, Stage]] = {stage.name: stage for stage in (*PIPELINE, *BESIDE, FORGOTTEN, PROMOTE)}
"""All that leave artifacts, by name."""


def computed(*parts: Part) -> list[Computed[Any]]:
    """The stages of some parts that make one artifact each: all but the ingest and the embedding."""
    return [stage for stage in PIPELINE if isinstance(stage, Computed) and stage.part in parts]

"""The training prompt that is nearest in meaning to each prompt of a benchmark, by the vectors that are there.

The check `contamination` compares words and leaves prompts out. This one finds what was paraphrased or translated, to
be looked at: the cosine from which on two prompts are one depends on the backbone, so nothing is left out by it.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa

from armorm.features.catalog.inventory import rows_of
from armorm.features.catalog.views import connect
from armorm.features.checks import contamination
from armorm.features.embedding import embed
from armorm.features.store import Made, Store
from armorm.features.store.json_records import Summary
from armorm.features.store.stage import Computed, OnProgress
from armorm.features.tables import SCHEMAS, write_parquet
from armorm.features.vectors.shards import FeatureReader
from armorm.maths.nearest import nearest
from armorm.stages.common import in_blas_threads, stage_recipe

STAGE: Final = "near_prompts"
STAGE_VERSION: Final = 1

CLOSE: Final = 0.9
"""The cosine from which on prompts are counted as close."""


@dataclass(frozen=True, slots=True)
class NearPrompts(Summary):
    """How near training prompts come to those of benchmarks."""

    n_prompts: int = 0
    """Prompts of benchmarks that have a vector."""
    n_close: int = 0
    """Those whose nearest training prompt is close."""


@in_blas_threads
def _make(store: Store, backbone_id: str, settings: None, on_progress: OnProgress) -> Made:
    """Look for the nearest training prompt of each."""
    reader = FeatureReader(store, backbone_id)
    with connect(store) as catalog:
        training = "SELECT prompt_id FROM training_ratings UNION SELECT prompt_id FROM training_pairs"
        trained = [id for (id,) in catalog.execute(f"{training} ORDER BY prompt_id").fetchall()]
        asked = catalog.execute(
            "SELECT DISTINCT prompt_id, dataset FROM preferences WHERE split = 'evaluation' ORDER BY ALL"
        ).fetchall()
    trained = [id for id, has in zip(trained, reader.has("prompt", trained), strict=True) if has]
    known = reader.has("prompt", [id for id, _ in asked])
    asked = [of for of, has in zip(asked, known, strict=True) if has]
    columns: list[object] = [[] for _ in SCHEMAS[STAGE]]
    n_close = 0
    if trained and asked:
        ids, datasets = zip(*asked, strict=True)
        row_E, cosine_E = nearest(reader.gather("prompt", ids), reader.rows("prompt", trained))
        columns = [np.array(trained, dtype=object)[row_E], ids, datasets, cosine_E.astype(np.float64)]
        n_close = int((cosine_E >= CLOSE).sum())
    table = pa.Table.from_arrays(
        [pa.array(of, field.type) for of, field in zip(columns, SCHEMAS[STAGE], strict=True)], schema=SCHEMAS[STAGE]
    )
    objects = {STAGE: store.objects.put("parquet", partial(write_parquet, table=table))}
    return Made(objects, NearPrompts(len(asked), n_close))


NEAR_PROMPTS: Final[Computed[None]] = Computed(
    name=STAGE,
    version=STAGE_VERSION,
    part="evaluate",
    after=(embed.STAGE, contamination.STAGE),
    record=NearPrompts,
    line_of=lambda of: (
        f"{of.n_close:,} of {of.n_prompts:,} benchmark prompts have a training prompt of a cosine of {CLOSE} or more: "
        "see `armorm ask near_benchmark`"
    ),
    recipe_of=stage_recipe,
    work_of=rows_of("preferences"),
    make=_make,
)
"""The training prompt nearest to each prompt of a benchmark."""

"""The pipeline, once: running, planning, lineage, OpenLineage and the documentation walk this tuple.

`python -m armorm.stages.pipeline` prints it as a Markdown table.
"""

from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Final, get_args

from armorm import stages
from armorm.features.checks.contamination import CONTAMINATION
from armorm.features.checks.quality import QUALITY
from armorm.features.embedding.embed import BESIDE, EMBED
from armorm.features.ingest.dataset import INGEST
from armorm.features.ingest.forgotten import FORGOTTEN
from armorm.features.store.stage import Computed, Part, Stage


def _stages() -> Iterator[Stage]:
    """Yield the stages before training, and every one that a module of this folder makes."""
    yield from (FORGOTTEN, INGEST, QUALITY, CONTAMINATION, EMBED, *BESIDE)
    for name in sorted(f"{stages.__name__}.{module.name}" for module in iter_modules(stages.__path__)):
        if name != __name__:
            yield from (of for of in vars(import_module(name)).values() if isinstance(of, Stage) and of.code == name)


def _in_order(found: Mapping[str, Stage]) -> Iterator[Stage]:
    """Yield the stages part by part, each after those that it waits for."""
    order = [*TopologicalSorter({name: stage.after for name, stage in found.items()}).static_order()]
    for part in get_args(Part):
        yield from (found[name] for name in order if found[name].part == part)


STAGES: Final[Mapping[str, Stage]] = {stage.name: stage for stage in _stages()}
"""All that leave artifacts, by name."""

PIPELINE: Final = tuple(_in_order(STAGES))
"""Those that a run makes, in the order in which they run."""


def computed(*parts: Part) -> list[Computed[Any]]:
    """Return the stages of some parts that make one artifact each: all but the ingest and the embedding."""
    return [stage for stage in PIPELINE if isinstance(stage, Computed) and stage.part in parts]


def table() -> str:
    """Return the pipeline as a Markdown table."""
    head = ("stage", "part", "after", "rows", "splits"), ("---",) * 5
    rows = ((s.name, str(s.part), ", ".join(s.after), s.rows or "", ", ".join(s.splits) or "all") for s in PIPELINE)
    return "\n".join(f"| {' | '.join(row)} |" for row in (*head, *rows))


if __name__ == "__main__":
    print(table())

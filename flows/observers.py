"""Who is told of what the store's writer does: OpenLineage, where it is configured."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from features.hashes import hashed_once
from features.openlineage import LineageObserver, StageCode, observe
from features.store import Writer
from flows.settings import Settings

API_KEY = "OPENLINEAGE_API_KEY"
"""Of the environment, as for all of OpenLineage: a key is in no file."""


@contextmanager
def writing(settings: Settings, command: str) -> Iterator[Writer]:
    """The writer of the configured store, observed as configured; files are hashed once, for its plan and its work.

    Raises:
        StoreBusy: another process is writing.
    """
    observing = observers(settings)
    try:
        with settings.open_store().writing(command, observers=observing) as writer, hashed_once():
            yield writer
    finally:
        for observer in observing:
            observer.close()


def observers(settings: Settings) -> list[LineageObserver]:
    """For `Store.writing(.., observers=)`; none by default.

    Raises:
        InputError: OpenLineage is configured and its client is not installed.
    """
    if not settings.openlineage:
        return []
    return [
        observe(
            settings.openlineage,
            root=settings.root,
            store=settings.open_store().place,
            stages=stages(),
            api_key=os.environ.get(API_KEY),
        )
    ]


def stages() -> dict[str, StageCode]:
    """The code of every stage, and the splits that enter its result where it is not all of them."""
    from armorm.stages import decorrelate, evaluate, gate, model, promote, regress, statistics
    from features import contamination, quality, rejected
    from features.embedding import canary, embed, unfinished
    from features.ingest import dataset

    splits = {
        statistics.STAGE: statistics.SPLITS,
        regress.STAGE: ("train", "validation", "test"),
        gate.STAGE: ("train", "validation"),
    }
    modules = (
        *(dataset, quality, contamination, embed, statistics),
        *(regress, decorrelate, gate, model, evaluate, promote),
    )
    code = {module.STAGE: StageCode(module.__name__, splits.get(module.STAGE, ())) for module in modules}
    code |= {module.SLOT: StageCode(module.__name__) for module in (canary, rejected, unfinished)}
    return code | {stage: StageCode(embed.__name__) for stage in (embed.BACKBONE_STAGE, embed.COVERAGE)}

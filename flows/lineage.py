"""Who is told of what the store's writer does: OpenLineage, where it is configured."""

import os

from features.openlineage import LineageObserver, StageCode, observe
from flows.settings import Settings

API_KEY = "OPENLINEAGE_API_KEY"
"""Of the environment, as for all of OpenLineage: a key is in no file."""


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
            store=settings.store_path,
            stages=stages(),
            api_key=os.environ.get(API_KEY),
        )
    ]


def stages() -> dict[str, StageCode]:
    """The code of every stage, and the splits that enter its result where it is not all of them."""
    from armorm.stages import decorrelate, evaluate, gate, model, regress
    from features import contamination, quality
    from features.embedding import embed
    from features.ingest import dataset

    splits = {regress.STAGE: ("train", "validation", "test"), gate.STAGE: ("train", "validation")}
    modules = (dataset, quality, contamination, embed, regress, decorrelate, gate, model, evaluate)
    code = {module.STAGE: StageCode(module.__name__, splits.get(module.STAGE, ())) for module in modules}
    return code | {embed.BACKBONE_STAGE: StageCode(embed.__name__)}

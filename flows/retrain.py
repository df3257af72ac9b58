"""After an embedding: whether the data have moved so far from those of the newest model that another one is due."""

from prefect import get_run_logger

from features.change import MODEL, change_since_training, due
from features.store import Store
from flows.events import CHANGED, emit
from flows.settings import Settings


def tell_change(store: Store, settings: Settings) -> None:
    """Says how far they have moved, and emits an event when it is far enough."""
    logger, change = get_run_logger(), change_since_training(store)
    if change is None:
        logger.info("since training: no model was trained yet: one is due")
        emit(CHANGED, store, {"why": "no model was trained yet", "model": None})
        return
    logger.info(f"since training: {change.line}")
    if why := due(change, settings.retrain):
        logger.info(f"since training: another model is due: {why}")
        payload = {
            "why": why,
            "model": store.head().artifacts[MODEL].artifact_id,
            "before": change.before,
            "after": change.after,
            "rows": change.rows,
            "drift": change.drift,
        }
        emit(CHANGED, store, payload)

"""What happened to a store, told to Prefect, whose automations begin what follows; never a text, never a secret."""

from typing import Any, Final

from prefect.events import emit_event

from armorm.features.secrets import redacted
from armorm.features.store import Store, content_id

COMMITTED: Final = "armorm.snapshot.committed"
"""Ingest has come to its end, and there is something to embed."""

CHANGED: Final = "armorm.data.changed"
"""The data have moved so far from those of the present model that another one is due."""


def resource_id(store: Store) -> str:
    """Return a store's name in events: the same on every machine that sees it at this address."""
    return f"armorm.store.{content_id(store.place)[:16]}"


def emit(event: str, store: Store, payload: dict[str, Any]) -> None:
    """Tell Prefect's server, if there is one; a run does not wait for it, nor fail with it."""
    emit_event(
        event,
        resource={"prefect.resource.id": resource_id(store), "prefect.resource.name": redacted(store.place)},
        payload=payload,
    )

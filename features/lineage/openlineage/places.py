"""What events say of a store that no recipe does. Without the client of OpenLineage."""

from pathlib import Path

from armorm.features.store.storage import without_credentials


def store_namespace(store: str | Path) -> str:
    """Return the store's address as the namespace of its datasets: absolute, and without credentials."""
    text = str(store)
    return without_credentials(text) if "://" in text else Path(text).absolute().as_uri()

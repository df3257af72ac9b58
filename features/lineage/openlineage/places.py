"""What events say of a store that no recipe does. Without the client of OpenLineage."""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

CONTAINER_BEFORE_HOST: Final = ("abfs", "abfss", "wasb", "wasbs")
"""Schemes of addresses where `name@host` is a container and no user."""


def store_namespace(store: str | Path) -> str:
    """Return the store's address as the namespace of its datasets: absolute, and without credentials."""
    text = str(store)
    return without_credentials(text) if "://" in text else Path(text).absolute().as_uri()


def without_credentials(uri: str) -> str:
    """Return an address without user, password, query and fragment: each of them may hold a secret."""
    parts = urlsplit(uri)
    user, at, host = parts.netloc.rpartition("@")
    if at and parts.scheme in CONTAINER_BEFORE_HOST and ":" not in user:
        host = parts.netloc
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))

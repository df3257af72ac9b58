"""JSON records as objects of the store: each says its format."""

import json
from collections.abc import Mapping
from typing import Any, Final

from features.store import ObjectRef, Store, canonical_json
from features.tables import check_format

FORMAT: Final = 2
"""Of a record; a later one is refused by name. A record of format 1 stands bare, and does not say which it is."""


def encode_record(record: Any) -> bytes:
    """A JSON value with its format around it; equal values give equal bytes."""
    return canonical_json({"format": FORMAT, "record": record})


def read_record(store: Store, ref: ObjectRef) -> Any:
    """The checked JSON value that an object holds.

    Raises:
        StoreError: it was written by a later version.
    """
    document = json.loads(store.objects.read_bytes(ref))
    if not (isinstance(document, Mapping) and document.keys() == {"format", "record"}):
        return document
    check_format(f"{ref.sha256}.json", document["format"], FORMAT)
    return document["record"]

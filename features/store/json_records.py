"""JSON records as objects of the store: each says its format."""

from collections.abc import Mapping
from typing import Any, Final

from armorm.features.documents import parse_json
from armorm.features.errors import CorruptObject
from armorm.features.store import ObjectRef, Store, canonical_json
from armorm.features.tables import check_format

FORMAT: Final = 2
"""The format of records; later ones are refused. A record of format 1 stands bare and does not state it."""


def encode_record(record: Any) -> bytes:
    """Return a JSON value with its format around it; equal values give equal bytes."""
    return canonical_json({"format": FORMAT, "record": record})


def read_record(store: Store, ref: ObjectRef) -> Any:
    """Return the checked JSON value that an object holds.

    Raises:
        CorruptObject: it holds no JSON.
        StoreError: it was written by a later version.
    """
    try:
        document = parse_json(store.objects.read_bytes(ref))
    except ValueError as error:
        raise CorruptObject(f"{ref.sha256}.json", f"a record that is none ({error})", "one of a stage") from error
    if not (isinstance(document, Mapping) and document.keys() == {"format", "record"}):
        return document
    check_format(f"{ref.sha256}.json", document["format"], FORMAT)
    return document["record"]

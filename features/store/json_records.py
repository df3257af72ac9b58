"""JSON records: as objects of the store, each of which says its format, and in the summaries of manifests."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from armorm.features.documents import decode, encode, parse_json
from armorm.features.errors import CorruptObject
from armorm.features.store import Artifact, ObjectRef, Store, canonical_json
from armorm.features.tables import check_format

FORMAT: Final = 2
"""The format of records; later ones are refused. A record of format 1 stands bare and does not state it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts and figures that stand in the manifest, so that listing needs no object."""

    measured: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    """The seconds and amounts of its making."""


def put_record(store: Store, record: Any) -> ObjectRef:
    """Keep a record with its format around it; equal records give equal bytes."""
    return store.objects.put_bytes("json", canonical_json({"format": FORMAT, "record": encode(record)}))


def read_record(store: Store, artifact: Artifact, of: type[T]) -> T:
    """Return the record of an artifact.

    Raises:
        CorruptObject: it is of another form.
        StoreError: it was written by a later version.
    """
    ref = artifact.objects["record"]
    with _refusing(f"{ref.sha256}.json", artifact.recipe.stage):
        return decode(of, read_json(store, ref))


def read_summary(artifact: Artifact, of: type[T]) -> T:
    """Return what an artifact's summary says, which needs no object.

    Raises:
        CorruptObject: it is of another form.
    """
    with _refusing(f"summary of {artifact.recipe.slot}", artifact.recipe.stage):
        return decode(of, artifact.summary)


def read_json(store: Store, ref: ObjectRef) -> Any:
    """Return the checked JSON value that an object holds.

    Raises:
        CorruptObject: it holds no JSON.
        StoreError: it was written by a later version.
    """
    with _refusing(f"{ref.sha256}.json"):
        document = parse_json(store.objects.read_bytes(ref))
    if not (isinstance(document, Mapping) and document.keys() == {"format", "record"}):
        return document
    check_format(f"{ref.sha256}.json", document["format"], FORMAT)
    return document["record"]


@contextmanager
def _refusing(place: str, stage: str = "") -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise CorruptObject(place, f"a record that is none ({error})", f"one of stage {stage or 'its own'}") from error

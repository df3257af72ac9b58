"""Names that people give: tags of snapshots, and which model and backbone are promoted. Each change is a commit."""

from collections.abc import Iterator
from typing import Final, Literal

from armorm.features.errors import NotInStore, StoreError
from armorm.features.store import Artifact, Pointer, Snapshot, Store, Writer
from armorm.features.store.store import utc_now

Promoted = Literal["model", "backbone"]

PROMOTED: Final[tuple[Promoted, ...]] = ("model", "backbone")


def tag(writer: Writer, name: str, snapshot: Snapshot) -> Pointer:
    """Give a name to a snapshot, which is kept as long as it bears it.

    Raises:
        StoreError: the name cannot be one, or there is nothing to name.
    """
    _check_tag(name)
    if not snapshot.number:
        raise StoreError(f"got tag {name} for the store before its first run; expected a snapshot; run `armorm run`")
    pointer = Pointer("snapshot", snapshot.snapshot_id, snapshot.number, utc_now())
    writer.point(name, pointer)
    return pointer


def untag(writer: Writer, name: str) -> None:
    """Take a name away from a snapshot.

    Raises:
        NotInStore: no snapshot bears it.
    """
    _check_tag(name)
    _standing(writer.store, name)
    writer.point(name, None)


def promote(writer: Writer, kind: Promoted, id_prefix: str) -> Pointer:
    """Make a model or a backbone the one that is used where none is named; only a pointer moves.

    Raises:
        NotInStore: the store has none whose id begins so, or several.
    """
    found = {id: snapshot for id, snapshot in _holders(writer.store, kind) if id.startswith(id_prefix)}
    if len(found) != 1:
        known = ", ".join(dict(_holders(writer.store, kind))) or "none"
        raise NotInStore(f"got {kind} {id_prefix}, of which the store has {len(found)}; expected one of: {known}")
    ((id, snapshot),) = found.items()
    pointer = Pointer(kind, id, snapshot.number, utc_now())
    writer.point(kind, pointer)
    return pointer


def rollback(writer: Writer, name: str) -> Pointer:
    """Point a name to what it pointed to before.

    Raises:
        NotInStore: it never pointed elsewhere, or what it pointed to was collected.
    """
    store, current = writer.store, _standing(writer.store, name)
    for snapshot in store.history():
        earlier = snapshot.pointers.get(name)
        if earlier and (earlier.kind, earlier.id) != (current.kind, current.id):
            if store.manifests.read(earlier.number).expired:
                raise NotInStore(f"got {name}, which pointed to {earlier.id}; that has expired and was collected")
            pointer = Pointer(earlier.kind, earlier.id, earlier.number, utc_now())
            writer.point(name, pointer)
            return pointer
    raise NotInStore(f"got {name}, which points to {current.id} and never pointed elsewhere; nothing to roll back to")


def promoted(store: Store, kind: Promoted) -> str | None:
    """Return the id of the promoted model or backbone."""
    pointer = store.head().pointers.get(kind)
    return pointer.id if pointer else None


def backbone_of(store: Store, snapshot: Snapshot) -> str:
    """Return the backbone that is meant where none is named: the promoted one, else the last that was used.

    Raises:
        NotInStore: the snapshot holds no vectors.
    """
    held = snapshot.within("backbone")
    if not held:
        raise NotInStore("got a snapshot without vectors; expected some; run `armorm embed`")
    chosen = promoted(store, "backbone")
    return chosen if chosen in held else max(held, key=lambda id: held[id].created_at)


def _standing(store: Store, name: str) -> Pointer:
    pointers = store.head().pointers
    if name not in pointers:
        raise NotInStore(f"got {name}; expected one of {', '.join(pointers) or 'none: there is no name yet'}")
    return pointers[name]


def _check_tag(name: str) -> None:
    if name in PROMOTED:
        raise StoreError(f"got tag {name}; expected another name: `armorm promote {name}` sets that one")


def _holders(store: Store, kind: Promoted) -> Iterator[tuple[str, Snapshot]]:
    """Yield every model or backbone with a snapshot that holds it, the newest last."""
    for snapshot in reversed(list(store.history())):
        for slot, artifact in snapshot.artifacts.items():
            if artifact.recipe.stage == kind:
                yield _id(kind, slot, artifact), snapshot


def _id(kind: Promoted, slot: str, artifact: Artifact) -> str:
    return artifact.artifact_id if kind == "model" else slot.removeprefix("backbone/")

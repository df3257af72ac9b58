"""What people mean by a name: a snapshot, a model or a backbone of a store."""

from armorm.features.errors import NotInStore
from armorm.features.store import Pointer, Snapshot, Store


def find_named(store: Store, name: str) -> Pointer:
    """Find a pointer by its name, by a snapshot's name, or by the beginning of a model's or backbone's id.

    Raises:
        NotInStore: the store has none, or several.
    """
    if pointer := store.head().pointers.get(name):
        return pointer
    try:
        return _snapshot(store.snapshot(name))
    except NotInStore as error:
        found = {(p.kind, p.id): p for p in _holders(store) if p.id.startswith(name)}
        if not found:
            raise NotInStore(f"{error}; nor is it the beginning of a model's or backbone's id") from error
    if len(found) > 1:
        listed = ", ".join(f"{kind} {id}" for kind, id in found)
        raise NotInStore(f"got {name}, by which {listed} may be meant; expected one of them; write more of its id")
    (pointer,) = found.values()
    return pointer


def _snapshot(snapshot: Snapshot) -> Pointer:
    return Pointer("snapshot", snapshot.snapshot_id, snapshot.number, snapshot.created_at)


def _holders(store: Store) -> list[Pointer]:
    """Return every model and backbone, with the newest snapshot that holds it as the last of its kind and id."""
    pointers = []
    for snapshot in reversed(list(store.history())):
        for slot, artifact in snapshot.artifacts.items():
            if artifact.recipe.stage == "model":
                pointers.append(Pointer("model", artifact.artifact_id, snapshot.number, artifact.created_at))
            elif artifact.recipe.stage == "backbone":
                pointers.append(Pointer("backbone", slot.split("/")[1], snapshot.number, artifact.created_at))
    return pointers

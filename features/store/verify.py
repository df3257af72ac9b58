"""Integrity: every byte of every snapshot is covered by a checksum, and this compares them."""

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from features.errors import CorruptObject, NotInStore
from features.store import manifests, objects
from features.store.artifacts import ObjectRef
from features.store.store import Store, Writer

QUARANTINE = "quarantine"

_DAMAGE = (CorruptObject, NotInStore, OSError)
"""Not `StoreError`: of a network that fails, or a later version's format, no file has to be set aside."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not what was written."""

    name: str
    """In the store."""
    problem: str
    ref: ObjectRef | None = None
    """Of an object; none for a manifest."""
    slots: tuple[str, ...] = ()
    """Of an object: the slots of the newest snapshot that it is part of."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was compared, and what is damaged."""

    n_manifests: int
    n_objects: int
    n_bytes: int
    damages: tuple[Damage, ...]

    @property
    def line(self) -> str:
        """For a person."""
        found = f"{len(self.damages)} damaged" if self.damages else "all as they were written"
        return f"{self.n_manifests} manifests, {self.n_objects} objects, {self.n_bytes / 1e6:,.1f} MB: {found}"


@dataclass(frozen=True, slots=True)
class _Use:
    ref: ObjectRef
    slots: tuple[str, ...]


def verify(
    store: Store,
    *,
    share: float = 1.0,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verified:
    """Compares the checksums of all manifests, and of the objects of all snapshots that have not expired.

    Args:
        store: whatever its state.
        share: of the objects, drawn at random; 1 for all.
        seed: of the draw.
        on_progress: called with bytes compared so far, and bytes in all.
    """
    damages, uses = _manifests(store)
    drawn = {name: use for name, use in uses.items() if share >= 1 or random.Random(f"{seed} {name}").random() < share}
    done, total = 0, sum(use.ref.size_bytes for use in drawn.values())
    for name, use in drawn.items():
        try:
            store.objects.check(use.ref)
        except _DAMAGE as error:
            damages.append(Damage(name, str(error), use.ref, use.slots))
        done += use.ref.size_bytes
        on_progress(done, total)
    if any(damage.ref for damage in damages):
        _, named = _manifests(store)  # again: what a collection took meanwhile is no damage
        damages = [damage for damage in damages if not damage.ref or damage.name in named]
    return Verified(len(store.manifests.numbers()), len(drawn), total, tuple(damages))


def quarantine(writer: Writer, damages: tuple[Damage, ...]) -> list[str]:
    """Takes damaged files out of the way, and what they were part of out of the newest snapshot; gives its slots.

    The next run makes again what is gone, which heals older snapshots too where the same bytes come out.
    """
    storage, newest = writer.store.storage, max(writer.store.manifests.numbers(), default=0)
    lost = [int(match[1]) for damage in damages if (match := manifests.NAME.fullmatch(damage.name))]
    for damage in damages:
        with suppress(NotInStore):
            storage.move(damage.name, f"{QUARANTINE}/{damage.name}")
    for number in sorted(lost, reverse=True):
        if number < newest:
            writer.store.manifests.replace_damaged(number)
    slots = sorted({slot for damage in damages for slot in damage.slots})
    if slots and newest not in lost:  # else the snapshot before is the newest one now
        writer.commit_all([], remove=slots)
    return slots


def _manifests(store: Store) -> tuple[list[Damage], Mapping[str, _Use]]:
    """Damaged manifests, and the objects that the others name."""
    damages: list[Damage] = []
    refs: dict[str, ObjectRef] = {}
    slots: dict[str, list[str]] = {}
    sha256: str | None = None
    numbers = store.manifests.numbers()
    newest = max([*numbers, store.manifests.promised()], default=0)
    for number in range(1, newest + 1):
        try:
            sha256 = store.manifests.check(number, sha256)
            snapshot = store.manifests.read(number)
        except _DAMAGE as error:
            damages.append(Damage(manifests.name_of(number), str(error)))
            sha256 = None
            continue
        for slot, artifact in snapshot.artifacts.items():
            for ref in {**artifact.objects, **artifact.provenance}.values():
                refs[objects.name_of(ref)] = ref
                if number == newest:
                    slots.setdefault(objects.name_of(ref), []).append(slot)
    return damages, {name: _Use(ref, tuple(slots.get(name, ()))) for name, ref in refs.items()}

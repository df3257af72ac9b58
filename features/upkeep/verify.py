"""Integrity: every byte of every snapshot is covered by a checksum, and this compares them."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from armorm.features.errors import CorruptObject, NotInStore
from armorm.features.store import manifests, objects
from armorm.features.store.artifacts import ObjectRef
from armorm.features.store.store import Store, Writer
from armorm.features.units import size

QUARANTINE = "quarantine"

MAX_GAP = 1000
"""Manifests that are named one by one where all of many in a row are missing."""

_DAMAGE = (CorruptObject, NotInStore, OSError)
"""Not `StoreError`: of a network that fails, or a later version's format, no file has to be set aside."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not what was written."""

    name: str
    """Its name in the store."""
    problem: str
    ref: ObjectRef | None = None
    """The object; None for a manifest."""
    slots: tuple[str, ...] = ()
    """The slots of the newest snapshot that the object is part of."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was compared, and what is damaged."""

    n_manifests: int
    n_objects: int
    n_bytes: int
    damages: tuple[Damage, ...]

    @property
    def line(self) -> str:
        """One line for people."""
        found = f"{len(self.damages)} damaged" if self.damages else "all as they were written"
        return f"{self.n_manifests} manifests, {self.n_objects} objects, {size(self.n_bytes)}: {found}"


@dataclass(frozen=True, slots=True)
class _Use:
    ref: ObjectRef
    slots: tuple[str, ...]
    stated: Mapping[int, tuple[int, ...]]
    """Size in bytes to the snapshots that state it."""


def verify(
    store: Store,
    *,
    share: float = 1.0,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verified:
    """Compare the checksums of all manifests, and of the objects of all snapshots that have not expired.

    Ids and sizes that manifests state are compared with the content that they are of.

    Args:
        store: whatever its state.
        share: of the objects, drawn at random; 1 for all.
    """
    damages, uses = _manifests(store)
    drawn = {name: use for name, use in uses.items() if share >= 1 or random.Random(f"{seed} {name}").random() < share}
    done, total = 0, sum(use.ref.size_bytes for use in drawn.values())
    for name, use in drawn.items():
        try:
            store.objects.check(use.ref)
            damages += _wrong_sizes(name, store.objects.path(use.ref).stat().st_size, use.stated)
        except _DAMAGE as error:
            damages.append(Damage(name, str(error), use.ref, use.slots))
        done += use.ref.size_bytes
        on_progress(done, total)
    if any(damage.ref for damage in damages):
        _, named = _manifests(store)  # again: what a collection took meanwhile is no damage
        damages = [damage for damage in damages if not damage.ref or damage.name in named]
    return Verified(len(store.manifests.numbers()), len(drawn), total, tuple({d.name: d for d in damages}.values()))


def quarantine(writer: Writer, damages: tuple[Damage, ...]) -> list[str]:
    """Move damaged files to the trash, and take what held them out of the newest snapshot; return its slots.

    The next run makes again what is gone, which heals older snapshots too where the same bytes come out.
    """
    storage = writer.store.storage
    lost = [int(match[1]) for damage in damages if (match := manifests.NAME.fullmatch(damage.name))]
    newest, left = max(writer.store.manifests.numbers(), default=0), None
    with suppress(*_DAMAGE):
        _, snapshot, missing = writer.store.manifests.check(newest, None)
        left = snapshot if missing or newest not in lost else None
    for damage in damages:
        with suppress(NotInStore):
            storage.move(damage.name, f"{QUARANTINE}/{damage.name}")
    newest = max(writer.store.manifests.numbers(), default=0)
    for number in sorted(lost, reverse=True):
        if number < newest:
            writer.store.manifests.replace_damaged(number)
    writer.store.manifests.promise(newest)
    slots = sorted({slot for damage in damages for slot in damage.slots})
    if left:  # else the snapshot before is the newest one now
        writer.restore(left, without=slots)
    return slots


def _wrong_sizes(name: str, size_bytes: int, stated: Mapping[int, tuple[int, ...]]) -> list[Damage]:
    """Return the manifests that state another size than that of an object whose checksum is right."""
    return [
        Damage(
            manifests.name_of(number),
            f"{manifests.name_of(number)}: got {stated_bytes} bytes for {name}; expected {size_bytes}, which it has; "
            "restore the manifest, or repair the store",
        )
        for stated_bytes, numbers in stated.items()
        if stated_bytes != size_bytes
        for number in numbers
    ]


def _expected(numbers: Sequence[int], promised: int) -> Iterator[int]:
    """The numbers of all snapshots that have to be there. Of a gap that no loss explains, such as before a number that
    was damaged itself, the first ones stand for all."""
    for after, number in pairwise([0, *numbers, max([*numbers, promised], default=0) + 1]):
        yield from range(after + 1, min(number, after + 1 + MAX_GAP))
        if number <= max(numbers, default=0):
            yield number


def _manifests(store: Store) -> tuple[list[Damage], Mapping[str, _Use]]:
    """Return damaged manifests, and the objects that the others name."""
    damages: list[Damage] = []
    refs: dict[str, ObjectRef] = {}
    slots: dict[str, list[str]] = {}
    stated: dict[str, dict[int, list[int]]] = {}
    sha256: str | None = None
    numbers, promised = store.manifests.numbers(), 0
    try:
        promised = store.manifests.promised()
    except _DAMAGE as error:
        damages.append(Damage(manifests.NEWEST, str(error)))
    newest = max([*numbers, promised], default=0)
    for number in _expected(numbers, promised):
        try:
            sha256, snapshot, missing = store.manifests.check(number, sha256)
        except _DAMAGE as error:
            damages.append(Damage(manifests.name_of(number), str(error)))
            sha256 = None
            continue
        damages += [Damage(manifests.name_of(number), str(error)) for error in missing]
        for slot, ref in snapshot.refs():
            name = objects.name_of(ref)
            refs[name] = ref
            stated.setdefault(name, {}).setdefault(ref.size_bytes, []).append(number)
            if number == newest and slot:
                slots.setdefault(name, []).append(slot)
    uses = {}
    for name, ref in refs.items():
        sizes = {size: tuple(numbers) for size, numbers in stated[name].items()}
        uses[name] = _Use(ref, tuple(slots.get(name, ())), sizes)
    return damages, uses

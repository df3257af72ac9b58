"""The store: immutable objects, snapshots over them, and commits that are never lost."""

import fcntl
import os
import random
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import count, islice
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import uuid4

from armorm.features.documents import encode
from armorm.features.errors import NotInStore, StoreBusy, StoreError
from armorm.features.store import leases
from armorm.features.store.artifacts import Artifact, ObjectRef, Pointer, Recipe, Run, Snapshot, why_stale
from armorm.features.store.manifests import EMPTY, Manifests
from armorm.features.store.objects import Objects
from armorm.features.store.storage import Storage, make_folder, open_storage, sweep

POINTER: Final = re.compile(r"[a-z][a-z0-9._-]*")

RESERVED: Final = ("head", "previous")


class Store:
    """A store for readers: it never waits and never sees half a commit."""

    def __init__(self, place: Path | str, *, cache: Path | None = None) -> None:
        self.address, self.cache = str(place), cache
        """What another process opens the same store by."""
        self.storage: Storage = open_storage(place, cache)
        self.objects = Objects(self.storage)
        self.manifests = Manifests(self.storage, self.objects)

    @property
    def place(self) -> str:
        """The folder or address, for people."""
        return self.storage.place

    def head(self) -> Snapshot:
        """Return the newest snapshot; an empty one for a store that nothing was written to."""
        return self.manifests.newest()

    def history(self) -> Iterator[Snapshot]:
        """Yield all snapshots, newest first; those that have expired hold no artifacts."""
        for number in reversed(self.manifests.numbers()):
            yield self.manifests.read(number)

    def find(self, stage: str, id_prefix: str = "") -> Artifact:
        """Return the newest artifact of a stage whose id begins with `id_prefix`.

        Raises:
            NotInStore: there is none; the message lists what there is.
        """
        known: dict[str, Artifact] = {}
        for snapshot in self.history():
            for artifact in snapshot.artifacts.values():
                if artifact.recipe.stage == stage:
                    known.setdefault(artifact.artifact_id, artifact)
            found = [artifact for id, artifact in known.items() if id.startswith(id_prefix)]
            if found:
                return max(found, key=lambda artifact: artifact.created_at)
        listed = ", ".join(known) or "none"
        raise NotInStore(
            f"got {stage} {id_prefix or '(newest)'}; the store at {self.place} has: {listed}; run `armorm run`"
        )

    def snapshot(self, name: str) -> Snapshot:
        """Return a snapshot by what people call it.

        Args:
            name: `head`; `previous`, as it was before the last run, which is empty before the first one; a tag; a
                number; the beginning of an id; or a date or time (ISO 8601, UTC unless it says otherwise): the newest
                one that was there by then.

        Raises:
            NotInStore: there is none, or several, or it has expired.
        """
        found = self._named(name)
        if len(found) != 1:
            raise NotInStore(
                f"got snapshot {name}, of which the store at {self.place} has {len(found)}; expected head, previous, a "
                f"tag, a number from 1 to {self.head().number}, the beginning of an id, or a date; see `armorm tag`"
            )
        if found[0].expired:
            raise NotInStore(
                f"got snapshot {name}, which has expired and was collected; expected one that is kept; "
                "tag what is to be kept, or change [retention]"
            )
        return found[0]

    def _named(self, name: str) -> list[Snapshot]:
        head = self.head()
        if name == "head":
            return [head]
        if pointer := head.pointers.get(name):
            return [self.manifests.read(pointer.number)] if pointer.kind == "snapshot" else []
        if re.fullmatch(r"\d{1,8}", name):
            return [self.manifests.read(int(name))] if int(name) in self.manifests.numbers() else []
        if name == "previous":
            earlier = (s for s in self.history() if s.run and head.run and s.run.run_id != head.run.run_id)
            return [next(earlier, EMPTY)]
        if at := _time(name):
            by_then = (s for s in self.history() if datetime.fromisoformat(s.created_at) <= at)
            return list(islice(by_then, 1))
        return list(
            {s.snapshot_id: s for s in reversed(list(self.history())) if s.snapshot_id.startswith(name)}.values()
        )

    @contextmanager
    def writing(
        self,
        command: str,
        *,
        wait_s: float = 0,
        alone: bool = False,
        observers: Sequence["Observer"] = (),
        kind: leases.Kind = "write",
    ) -> Iterator["Writer"]:
        """Give the one writer on this machine, until the block ends or the process dies.

        Args:
            command: what is at work, for the record and for others who have to wait.
            wait_s: how long to wait for another writer of this machine.
            alone: whether to make way for the writers of other machines too, where the store lies in no folder. Their
                commits never collide, but the work of two that do the same does.
            observers: told of everything that is made.
            kind: `gc` to collect, which excludes the writers of all machines.

        Raises:
            StoreBusy: another process is writing.
        """
        lock_path = self.storage.lock_path
        try:
            make_folder(lock_path.parent)
        except OSError as error:
            raise StoreError(
                f"{lock_path.parent}: got a path where no folder can be made ({error.strerror}); expected one for the "
                "store; change `store` in the configuration"
            ) from error
        with lock_path.open("a+") as lock:
            _lock(lock, self.place, wait_s)
            taken = leases.take(lock, f"pid {os.getpid()}, {command}")
            sweep(self.storage)
            writer = Writer(self, command, observers)
            newest = max(self.manifests.numbers(), default=0)
            with leases.holding(self.storage, writer.run.run_id, kind, command, newest, taken, alone=alone):
                yield writer


@dataclass(frozen=True, slots=True)
class Made:
    """What a stage has made, before it is committed."""

    objects: Mapping[str, ObjectRef]
    summary: Any = field(default_factory=dict)
    """A record, or JSON values by name."""
    provenance: Mapping[str, ObjectRef] = field(default_factory=dict)
    pointers: Mapping[str, Pointer] = field(default_factory=dict)
    """Names that point elsewhere from the same commit on."""


@dataclass(frozen=True, slots=True)
class Done:
    """An artifact that now stands in its slot."""

    artifact: Artifact
    reason: str | None
    """Why it was made, in words; None when it stood as it is."""


class Observer(Protocol):
    """An observer that is told what a writer makes."""

    def started(self, run: Run, recipe: Recipe) -> None:
        """Note that an artifact is about to be made."""

    def completed(self, run: Run, artifact: Artifact) -> None:
        """Note that it was committed."""

    def failed(self, run: Run, recipe: Recipe, error: BaseException) -> None:
        """Note that it could not be made."""


class Writer:
    """The right to commit; got from `Store.writing`.

    A commit is compare-and-set: it creates the manifest after the newest one. Where another machine was faster, the
    same change is made to what that one has committed, so neither is lost.
    """

    def __init__(self, store: Store, command: str, observers: Sequence[Observer] = ()) -> None:
        self.store = store
        self.run = Run(run_id=uuid4().hex[:16], command=command, started_at=utc_now(), code_version=version("armorm"))
        self._observers = observers

    def ensure(self, recipe: Recipe, make: Callable[[], Made], *, work: Mapping[str, int] | None = None) -> Done:
        """Make and commit what the recipe says, unless the newest snapshot holds it.

        Args:
            work: what there is to work through, as far as it is known before: `rows`, `bytes`, `steps`. It is kept
                beside the time that it took, as `measured` in the summary, so that `plan` knows this store's speeds.
        """
        existing = self.store.head().artifacts.get(recipe.slot)
        reason = why_stale(recipe, existing)
        if existing and not reason:
            return Done(existing, None)
        for observer in self._observers:
            observer.started(self.run, recipe)
        try:
            started = time.monotonic()
            made = make()
            artifact = self._artifact(recipe, with_measured(made, time.monotonic() - started, work or {}))
            self._change({recipe.slot: artifact}, (), made.pointers)
        except BaseException as error:
            for observer in self._observers:
                observer.failed(self.run, recipe, error)
            raise
        self._tell_completed([artifact])
        return Done(artifact, reason)

    def commit(self, recipe: Recipe, made: Made) -> Artifact:
        """Put an artifact into its slot, in a new snapshot."""
        return self.commit_all([(recipe, made)])[0]

    def commit_all(self, changes: Sequence[tuple[Recipe, Made]], *, remove: Collection[str] = ()) -> list[Artifact]:
        """Put artifacts into their slots and take slots out, in one new snapshot; older snapshots keep them."""
        artifacts = [self._artifact(recipe, made) for recipe, made in changes]
        self._change({artifact.recipe.slot: artifact for artifact in artifacts}, remove)
        for recipe, _ in changes:
            for observer in self._observers:
                observer.started(self.run, recipe)
        self._tell_completed(artifacts)
        return artifacts

    def restore(self, snapshot: Snapshot, *, without: Collection[str]) -> None:
        """Put what a damaged snapshot still has on top of the newest one, and take slots out."""
        artifacts = {slot: artifact for slot, artifact in snapshot.artifacts.items() if slot not in without}
        self._change(artifacts, without, {**dict.fromkeys(self.store.head().pointers), **snapshot.pointers})

    def put_back(self, snapshot: Snapshot, slots: Collection[str]) -> None:
        """Let some slots hold again what they hold in a snapshot; those that it lacks are taken out."""
        held = {slot: snapshot.artifacts[slot] for slot in slots if slot in snapshot.artifacts}
        self._change(held, set(slots) - held.keys())

    def point(self, name: str, target: Pointer | None) -> None:
        """Give a name to something, or take it away.

        Raises:
            StoreError: the name cannot be told from a number, an id or a date.
        """
        if not POINTER.fullmatch(name) or name in RESERVED or re.fullmatch("[0-9a-f]{6,}", name):
            raise StoreError(
                f"got name {name}; expected a letter and then lower-case letters, digits and -_., but no word that "
                f"could be an id, and none of {', '.join(RESERVED)}; choose another"
            )
        self._change({}, (), {name: target})

    def _artifact(self, recipe: Recipe, made: Made) -> Artifact:
        return Artifact(recipe, made.objects, self.run.run_id, utc_now(), encode(made.summary), made.provenance)

    def _tell_completed(self, artifacts: Sequence[Artifact]) -> None:
        for artifact in artifacts:
            for observer in self._observers:
                observer.completed(self.run, artifact)

    def _change(
        self,
        added: Mapping[str, Artifact],
        removed: Collection[str] = (),
        pointers: Mapping[str, Pointer | None] | None = None,
    ) -> None:
        for lost in count(1):
            begun = time.monotonic()
            head = self.store.head()
            artifacts = {s: a for s, a in head.artifacts.items() if s not in removed} | dict(added)
            names = {n: p for n, p in {**head.pointers, **(pointers or {})}.items() if p}
            changed = [*added, *removed]
            if _same(artifacts, head.artifacts, changed) and names == head.pointers:
                return  # another machine has made the same
            snapshot = replace(
                EMPTY,
                number=head.number + 1,
                parent_sha256=self.store.manifests.sha256(head.number),
                created_at=utc_now(),
                run=self.run,
                artifacts=artifacts,
                pointers=names,
                parts=head.parts,
            )
            if self.store.manifests.create(snapshot):
                return
            # Random back-off, so that writers who lost one commit do not all race for the next.
            time.sleep(random.uniform(0, lost * (time.monotonic() - begun)))


def with_measured(made: Made, seconds: float, work: Mapping[str, float]) -> Made:
    """Return what was made, with its time and its amounts; a stage may have counted more of them itself."""
    summary = encode(made.summary)
    measured = {"seconds": round(seconds, 3), **work, **summary.get("measured", {})}
    return replace(made, summary={**summary, "measured": measured})


def _same(one: Mapping[str, Artifact], other: Mapping[str, Artifact], slots: Collection[str]) -> bool:
    def identities(artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
        found = {slot: artifacts[slot] for slot in slots if slot in artifacts}
        return {slot: (a.recipe.key, a.artifact_id, a.provenance) for slot, a in found.items()}

    return identities(one) == identities(other)


def _lock(lock: Any, place: str, wait_s: float) -> None:
    """Take the machine's lock, which the kernel frees when the process ends in whatever way."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise StoreBusy(
                    f"{place}: another armorm process ({leases.holder(lock)}) is writing; wait for it or stop it"
                ) from error
            time.sleep(0.005)


def _time(text: str) -> datetime | None:
    """Parse a date (as its last moment) or a time."""
    if not re.match(r"\d{4}-\d{2}-\d{2}", text):
        return None
    try:
        at = datetime.fromisoformat(text if len(text) > 10 else f"{text}T23:59:59.999999")
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def utc_now() -> str:
    """Return the time in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")

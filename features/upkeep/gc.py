"""Collection: what no kept snapshot refers to goes to the trash, and from there away.

Mark: the objects of every snapshot that is kept. Sweep: first the other snapshots expire, so that nobody finds them any
more; then the objects that none of the kept ones names are moved to `trash/`; what lay there for long is deleted. A
collection that is stopped anywhere leaves a store in which every snapshot that can be opened is whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from armorm.features.store import leases, objects
from armorm.features.store.artifacts import Snapshot
from armorm.features.store.storage import StoredFile
from armorm.features.store.store import Store, Writer
from armorm.features.units import size

TRASH: Final = "trash"

_STAMP: Final = "%Y%m%dT%H%M%S"


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """`[retention]`: which snapshots are kept, besides the newest one and those that a name points to."""

    keep_days: float = 30
    """Snapshots younger than this are kept."""
    keep_last: int = 10
    """So many of the newest ones are kept, however old they are."""
    grace_hours: float = 24
    """No object younger than this is collected, referred to or not: somebody may be about to commit it."""
    trash_days: float = 7
    """So long what was collected lies in the trash."""

    def __post_init__(self) -> None:
        for name in ("keep_days", "grace_hours", "trash_days"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: got {getattr(self, name)}; expected 0 or more")
        if self.keep_last < 1:
            raise ValueError(f"keep_last: got {self.keep_last}; expected 1 or more")


@dataclass(frozen=True, slots=True)
class Collection:
    """What is to be collected, or was."""

    expired: tuple[int, ...]
    """Numbers of snapshots."""
    swept: tuple[StoredFile, ...]
    """Objects that go to the trash."""
    deleted: tuple[StoredFile, ...]
    """Files of the trash."""
    n_kept_snapshots: int
    n_kept_objects: int

    @property
    def line(self) -> str:
        """One line for people."""
        return (
            f"{len(self.expired)} snapshots expire, {_told(self.swept)} to the trash, {_told(self.deleted)} deleted "
            f"from it; {self.n_kept_snapshots} snapshots with {self.n_kept_objects} objects are kept"
        )


def plan_collection(store: Store, settings: RetentionSettings, *, now: datetime | None = None) -> Collection:
    """Return what a collection would do now."""
    now = now or datetime.now(UTC)
    snapshots = [snapshot for snapshot in store.history() if not snapshot.expired]
    numbers = _kept(store, snapshots, settings, now)
    kept = [snapshot for snapshot in snapshots if snapshot.number in numbers]
    marked = {objects.name_of(ref) for snapshot in kept for _, ref in snapshot.refs()}
    found = list(store.storage.files(objects.FOLDER))
    old = now - timedelta(hours=settings.grace_hours)
    trash = now - timedelta(days=settings.trash_days)
    return Collection(
        expired=tuple(sorted(snapshot.number for snapshot in snapshots if snapshot.number not in numbers)),
        swept=tuple(file for file in found if file.name not in marked and file.modified_at <= old),
        deleted=tuple(file for file in store.storage.files(TRASH) if _stamp(file) <= trash),
        n_kept_snapshots=len(kept),
        n_kept_objects=len(marked),
    )


def collect(
    writer: Writer,
    settings: RetentionSettings,
    *,
    now: datetime | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Collection:
    """Collect it. The writer is of kind `gc`: no other one is at work, on whatever machine.

    Args:
        writer: from `store.writing(.., kind="gc")`.
    """
    now = now or datetime.now(UTC)
    storage = writer.store.storage
    plan = plan_collection(writer.store, settings, now=now)
    steps: list[Callable[[], None]] = [
        *(lambda number=number: writer.store.manifests.expire(number) for number in plan.expired),
        *(lambda name=file.name: storage.move(name, f"{TRASH}/{now:{_STAMP}}/{name}") for file in plan.swept),
        *(lambda name=file.name: storage.remove(name) for file in plan.deleted),
    ]
    for done, step in enumerate(steps, start=1):
        step()
        on_progress(done, len(steps))
    return plan


def _kept(store: Store, snapshots: Sequence[Snapshot], settings: RetentionSettings, now: datetime) -> set[int]:
    """Return the numbers of the snapshots that stay; `snapshots` are the newest first."""
    young = now - timedelta(days=settings.keep_days)
    return {
        *(snapshot.number for snapshot in snapshots[: settings.keep_last]),
        *(snapshot.number for snapshot in snapshots if datetime.fromisoformat(snapshot.created_at) > young),
        *(pointer.number for pointer in store.head().pointers.values()),
        *(lease.snapshot for lease in leases.active(store.storage) if lease.kind == "read"),
    }


def _stamp(file: StoredFile) -> datetime:
    """Return when a file was moved to the trash; the file's own time is that of its writing."""
    return datetime.strptime(file.name.split("/")[1], _STAMP).replace(tzinfo=UTC)


def _told(files: Sequence[StoredFile]) -> str:
    return f"{len(files)} files ({size(sum(file.size_bytes for file in files))})"

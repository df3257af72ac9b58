"""Leases: which machines work on a store at this moment, so that `gc` deletes nothing under their hands.

    leases/<run>.json   {"kind": "write", "command": .., "host": .., "pid": .., "snapshot": .., "expires_at": ..}

Writers of several machines do not wait for each other, commits being compare-and-set; `gc` and writers exclude each
other. Each announces itself first and looks for the other after that, so at least one of two that meet withdraws.

A lease is of somebody who was killed if the lock that it names was taken by somebody else since. A lock is named by a
random id that is made each time it is taken and stands in the locked file: host names, process ids and paths are alike
in containers and cloned machines. Whose lock cannot be told so, such as on another machine, is waited for.
"""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, TextIO
from uuid import uuid4

from armorm.features.documents import parse_object
from armorm.features.errors import NotInStore, StoreBusy, StoreError
from armorm.features.store.storage import Storage

FOLDER: Final = "leases"

Kind = Literal["write", "gc", "read"]

LASTS: Final = timedelta(minutes=5)
"""From its last renewal: what the clocks of the machines may differ by has to be less."""

RENEWED_EVERY_S: Final = 60


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease: who works on the store, and until when."""

    run_id: str
    kind: Kind
    command: str
    host: str
    pid: int
    snapshot: int
    """The newest snapshot when the work began; a reader's is kept until it ends."""
    expires_at: str
    """UTC, ISO 8601."""
    lock: str
    """The id of the lock that the holder has; of readers, none."""

    @property
    def name(self) -> str:
        """The name of the lease's file."""
        return f"{FOLDER}/{self.run_id}.json"

    @property
    def expired(self) -> bool:
        """Whether its holder has ceased to renew it."""
        return datetime.fromisoformat(self.expires_at) < datetime.now(UTC)


def active(storage: Storage) -> list[Lease]:
    """Return the leases that have not expired."""
    leases = [_read(storage, file.name) for file in storage.files(FOLDER) if file.name.endswith(".json")]
    return [lease for lease in leases if lease and not lease.expired]


@dataclass(frozen=True, slots=True)
class Taken:
    """A lock that the caller holds."""

    id: str
    before: frozenset[str] = frozenset()
    """Ids under which the same file was locked before, as far as they are known: their holders have ended. More than
    the last one, since that may have been killed before it did away with the leases of those before it."""


NO_LOCK: Final = Taken("")

KEPT_IDS: Final = 100
"""So many earlier holders are known: one killed after another, within the time that a lease lasts."""


def take(lock: TextIO, holder: str) -> Taken:
    """Give a lock that has just been taken an id of its own, which replaces the one before in the locked file."""
    last = _read_lock(lock)
    before: list[str] = []
    if all(last.get(name) == value for name, value in _this_file(lock).items()):
        earlier = last.get("before")
        before = [*map(str, earlier if isinstance(earlier, list) else []), str(last.get("id", ""))][-KEPT_IDS:]
    id = uuid4().hex
    lock.truncate(0)
    lock.write(json.dumps({"id": id, "holder": holder, "before": before, **_this_file(lock)}))
    lock.flush()
    return Taken(id, frozenset(before))


def holder(lock: TextIO) -> str:
    """Return who says to hold a lock, for people."""
    return str(_read_lock(lock).get("holder", "unknown"))


def _read_lock(lock: TextIO) -> dict[str, Any]:
    lock.seek(0)
    try:
        return parse_object(lock.read())
    except ValueError:  # empty, or of an earlier version
        return {}


def _this_file(lock: TextIO) -> dict[str, str]:
    """Return what tells a lock's file from a copy of it, as of a cloned disk, whose holder may well be alive."""
    found = os.fstat(lock.fileno())
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {"boot": boot.read_text().strip() if boot.exists() else "", "file": f"{found.st_dev}:{found.st_ino}"}


@contextmanager
def holding(
    storage: Storage, run_id: str, kind: Kind, command: str, snapshot: int, lock: Taken, *, alone: bool = False
) -> Iterator[Lease]:
    """Hold a lease while the block runs, renewed in the background.

    Args:
        lock: that the caller holds; `NO_LOCK` for a reader.
        alone: whether writers of other machines are to be waited for as well. Of two that begin at once both may
            withdraw; each tries again after a random time, so that they do not livelock.

    Raises:
        StoreBusy: `gc` works on the store, or is to begin while others write; or others write, and it is to be alone.
    """
    lease = Lease(run_id, kind, command, socket.gethostname(), os.getpid(), snapshot, _expiry(), lock.id)
    storage.replace(lease.name, _content(lease))
    ended = threading.Event()
    renewal = threading.Thread(target=_renew, args=(storage, lease, ended), daemon=True)
    try:
        for other in active(storage):
            if other.run_id != run_id and other.kind != "read":
                _make_way(storage, lease, other, lock, alone=alone)
        renewal.start()
        yield lease
    finally:
        ended.set()
        if renewal.is_alive():
            renewal.join(timeout=10)  # else it might write the lease again
        with suppress(OSError, StoreError):  # what remains expires, and is no reason to fail a run that is done
            storage.remove(lease.name)


def _make_way(storage: Storage, lease: Lease, other: Lease, lock: Taken, *, alone: bool) -> None:
    if other.lock and other.lock in lock.before:
        storage.remove(other.name)
    elif lease.kind != "read" and (alone or "gc" in (lease.kind, other.kind)):
        reason = "nothing can be collected" if lease.kind == "gc" else "it must end"
        raise StoreBusy(
            f"{storage.place}: another armorm process ({other.command} on {other.host}, pid {other.pid}) is at work, "
            f"and {reason} before; wait for it; if it was killed, its lease ends at {other.expires_at}"
        )


def _renew(storage: Storage, lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(RENEWED_EVERY_S):
        with suppress(OSError, StoreError):  # tried again in a minute, four times before the lease ends
            storage.replace(lease.name, _content(replace(lease, expires_at=_expiry())))


def _read(storage: Storage, name: str) -> Lease | None:
    try:
        lease = Lease(**parse_object(storage.read(name)))
        return None if lease.expired else lease
    except (NotInStore, ValueError, TypeError):  # ended since it was listed, or no lease of ours
        return None


def _content(lease: Lease) -> bytes:
    return json.dumps(asdict(lease)).encode()


def _expiry() -> str:
    return (datetime.now(UTC) + LASTS).isoformat(timespec="seconds")

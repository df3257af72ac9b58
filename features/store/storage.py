"""Where a store's files lie: a local folder, or an object store past one machine; neither knows what is in them.

A name is a relative path such as `objects/ab/abcd.parquet`. Whatever is written appears whole or not at all.
"""

import atexit
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from armorm.features.errors import CorruptObject, NotInStore, StoreError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_process_id = uuid4().hex[:8]
"""Random, of this process."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a store, as it is listed."""

    name: str
    size_bytes: int
    modified_at: datetime


class Storage(Protocol):
    """What a store needs of the place where it lies."""

    place: str
    """The path, or the address without credentials, for people."""
    scratch: Path
    """A folder on this machine for files that are not finished; see `scratch_path` and `sweep`."""
    lock_path: Path
    """The file whose lock a writer of this machine holds."""

    def create(self, name: str, content: bytes) -> bool:
        """Write a file under a name that nobody has taken; False, and nothing written, where it is taken.

        Of several that create one name at the same time, exactly one is told True, and what it wrote is durable.
        """

    def replace(self, name: str, content: bytes) -> None:
        """Write a file, whether or not the name is taken."""

    def keep(self, name: str, file: Path) -> None:
        """Move a finished file from `scratch` to a name that says its content."""

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            NotInStore: there is no such file.
        """

    def local(self, name: str) -> Path:
        """Return the file's path on this machine; the file is fetched first if need be.

        Raises:
            NotInStore: there is no such file.
        """

    def local_path(self, name: str) -> Path:
        """Return where `local` puts the file, whether or not it is there."""

    def drop_local(self, name: str) -> bool:
        """Forget a copy on this machine that can be fetched again; False where the file itself lies here."""

    def files(self, folder: str, *, after: str = "") -> Iterator[StoredFile]:
        """Return the files below a folder, in no order, as far as their names come after `after`."""

    def move(self, name: str, to: str) -> None:
        """Give a file another name; what bore that name before is gone."""

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""


class LocalFolder:
    """A store in a folder of this machine. Every change is synced to the disk before it counts as done."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.place = str(root)
        self.scratch = root / "tmp"
        self.lock_path = root / "lock"

    def create(self, name: str, content: bytes) -> bool:
        path, temporary = self.root / name, scratch_path(self)
        make_folder(path.parent)
        try:
            _write(temporary, content)
            os.link(temporary, path)  # unlike a rename, this fails where the name is taken
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        sync(path.parent)
        return True

    def replace(self, name: str, content: bytes) -> None:
        temporary = scratch_path(self)
        try:
            _write(temporary, content)
            self._rename(temporary, self.root / name)
        finally:
            temporary.unlink(missing_ok=True)

    def keep(self, name: str, file: Path) -> None:
        final = self.root / name
        if final.exists() and file_sha256(final) == file_sha256(file):
            os.utime(final)  # young again for `gc`: whoever puts it is about to refer to it
            sync(final.parent)  # who wrote it may have been stopped before that
            return
        _make_read_only(file)
        sync(file)
        self._rename(file, final)

    def read(self, name: str) -> bytes:
        try:
            return self.local(name).read_bytes()
        except FileNotFoundError as error:  # it has gone since
            raise _absent(self.local_path(name)) from error

    def local(self, name: str) -> Path:
        path = self.local_path(name)
        if not path.exists():
            raise _absent(path)
        if not path.is_file():  # reading a pipe or a device may never come to an end
            raise CorruptObject(path, "something that is no regular file", "a file of the store")
        return path

    def local_path(self, name: str) -> Path:
        return self.root / name

    def drop_local(self, name: str) -> bool:
        return False

    def files(self, folder: str, *, after: str = "") -> Iterator[StoredFile]:
        for parent, _, names in os.walk(self.root / folder):
            within = Path(parent).relative_to(self.root).as_posix()
            for name in (f"{within}/{name}" for name in names):
                if name > after and (file := self._file(name)):
                    yield file

    def move(self, name: str, to: str) -> None:
        try:
            self._rename(self.local_path(name), self.root / to)  # whatever it is: damage is moved as well
        except FileNotFoundError as error:
            raise _absent(self.local_path(name)) from error
        sync((self.root / name).parent)

    def remove(self, name: str) -> None:
        path = self.root / name
        if path.exists():
            path.unlink(missing_ok=True)
            sync(path.parent)

    def _file(self, name: str) -> StoredFile | None:
        """Return a file as it is listed; None if it has gone since its folder was read."""
        try:
            status = (self.root / name).stat()
        except FileNotFoundError:
            return None
        return StoredFile(name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def _rename(self, path: Path, final: Path) -> None:
        make_folder(final.parent)
        os.replace(path, final)
        sync(final.parent)


SCHEMES: Final = ("s3", "gs", "az")

TIMEOUT: Final = timedelta(seconds=30)
"""The time of all attempts of one request to an object store."""


class ObjectStorage:
    """A store on S3, GCS, Azure or what speaks their protocols, through obstore, with a cache on this machine.

    Credentials and endpoints come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ..) alone.
    """

    def __init__(self, url: str, cache: Path) -> None:
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        self.place = without_credentials(url)
        folder = cache / hashlib.sha256(self.place.encode()).hexdigest()[:16]
        self.scratch = folder / "tmp"
        self.lock_path = folder / "lock"
        self._cache = folder
        if urlsplit(url).scheme not in SCHEMES:  # obstore opens others, but they cannot create if absent
            raise StoreError(f"got store {self.place}; expected a folder or one of {', '.join(SCHEMES)}://; correct it")
        try:
            self._store: ObjectStore = from_url(url, retry_config={"max_retries": 5, "retry_timeout": TIMEOUT})
        except (BaseError, ValueError) as error:
            raise StoreError(
                f"got store {self.place}; expected an address that can be opened: {_first(error)}"
            ) from error

    def create(self, name: str, content: bytes) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._explained("write", name):
            try:
                obstore.put(self._store, name, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                # A request whose answer was lost is sent again, and then finds what it wrote itself.
                return self.read(name) == content
        return True

    def replace(self, name: str, content: bytes) -> None:
        import obstore

        with self._explained("write", name):
            obstore.put(self._store, name, content)

    def keep(self, name: str, file: Path) -> None:
        import obstore

        with self._explained("write", name):
            if self._size(name) != file.stat().st_size:
                obstore.put(self._store, name, file)
        cached = self.local_path(name)
        cached.parent.mkdir(parents=True, exist_ok=True)
        _make_read_only(file)
        os.replace(file, cached)

    def read(self, name: str) -> bytes:
        import obstore

        with self._explained("read", name):
            return bytes(obstore.get(self._store, name).bytes())

    def local(self, name: str) -> Path:
        import obstore

        path = self.local_path(name)
        if path.exists():
            return path
        temporary = scratch_path(self)
        try:
            with self._explained("read", name), temporary.open("wb") as file:
                for part in obstore.get(self._store, name).stream(min_chunk_size=8 << 20):
                    file.write(part)
            path.parent.mkdir(parents=True, exist_ok=True)
            _make_read_only(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def local_path(self, name: str) -> Path:
        return self._cache / name

    def drop_local(self, name: str) -> bool:
        self.local_path(name).unlink(missing_ok=True)
        return True

    def files(self, folder: str, *, after: str = "") -> Iterator[StoredFile]:
        import obstore

        with self._explained("list", folder):
            for batch in obstore.list(self._store, folder, offset=after or None):
                for file in batch:
                    yield StoredFile(file["path"], file["size"], file["last_modified"])

    def move(self, name: str, to: str) -> None:
        import obstore

        with self._explained("move", name):
            obstore.rename(self._store, name, to)
        self.drop_local(name)

    def remove(self, name: str) -> None:
        import obstore

        with self._explained("delete", name), suppress(FileNotFoundError):
            obstore.delete(self._store, name)
        self.drop_local(name)

    def _size(self, name: str) -> int | None:
        import obstore

        try:
            return int(obstore.head(self._store, name)["size"])
        except FileNotFoundError:
            return None

    @contextmanager
    def _explained(self, verb: str, name: str) -> Iterator[None]:
        """Turn what obstore raises, which is pages long, into one line."""
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            raise _absent(f"{self.place}/{name}") from error
        except BaseError as error:
            raise StoreError(
                f"{self.place}: cannot {verb} {name}: {type(error).__name__}: {_first(error)}; "
                "check the address, the credentials in the environment and the network, then run again"
            ) from error


def open_storage(place: Path | str, cache: Path | None = None) -> Storage:
    """Return a folder, or what an address such as `s3://bucket/folder` names.

    Args:
        cache: of an address: where fetched files are kept; by default below the user's own cache folder.

    Raises:
        StoreError: its name is no text.
    """
    if str(place) != str(place).encode(errors="replace").decode():
        raise StoreError(f"got a store at {str(place)!a}, which is not UTF-8; expected Unicode; rename it")
    if isinstance(place, str) and "://" in place:
        return ObjectStorage(place, cache or default_cache())
    return LocalFolder(Path(place))


def default_cache() -> Path:
    """Return the folder for fetched objects, below the user's own cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "armorm"


def _make_read_only(file: Path) -> None:
    """Take from everybody the right to write into a file: what bears the name of its content is never changed."""
    file.chmod(file.stat().st_mode & 0o444)


CONTAINER_BEFORE_HOST: Final = ("abfs", "abfss", "wasb", "wasbs")
"""Schemes of addresses where `name@host` is a container and no user."""


def without_credentials(url: str) -> str:
    """Return an address without user, password, query and fragment: each of them may hold a secret."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if at and parts.scheme in CONTAINER_BEFORE_HOST and ":" not in user:
        host = parts.netloc
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


def scratch_path(storage: Storage) -> Path:
    """Return a fresh name for an unfinished file, which `sweep` leaves alone while this process lives."""
    make_folder(storage.scratch)
    _hold_marker(storage.scratch)
    return storage.scratch / f"{_process_id}-{uuid4().hex}"


def sweep(storage: Storage) -> None:
    """Delete the unfinished files of processes that are no more: readers, too, have some, and may be at work.

    Each process holds the lock of a marker, `<random>.lock`, while it lives, and its files are named after that.
    """
    for marker in sorted(storage.scratch.glob("*.lock")):
        if marker.stem != _process_id:
            _remove_unlocked(marker)
    alive = {marker.stem for marker in storage.scratch.glob("*.lock")}
    for leftover in storage.scratch.glob("*"):
        if leftover.name.partition("-")[0].removesuffix(".lock") in alive:
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            with suppress(OSError):  # what cannot be deleted now is tried again by the next one
                leftover.unlink()


_markers: Final[dict[Path, int]] = {}
"""The descriptor of this process's locked marker in each scratch folder; its lock ends with the process."""

_marking = threading.Lock()
"""Held while a marker is made: a thread that opened it as well would wait for the lock of its own process for ever."""


def _hold_marker(scratch: Path) -> None:
    """Lock this process's marker, unless it is locked already."""
    marker = scratch / f"{_process_id}.lock"
    with _marking:
        while not (scratch in _markers and marker.exists()):
            descriptor = os.open(marker, os.O_CREAT | os.O_RDWR, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # one that sweeps may have removed it between the two calls
            if marker.exists() and marker.stat().st_ino == os.fstat(descriptor).st_ino:
                _markers[scratch] = descriptor
            else:
                os.close(descriptor)


@atexit.register
def _remove_markers() -> None:
    for scratch in _markers:
        with suppress(OSError):
            (scratch / f"{_process_id}.lock").unlink(missing_ok=True)


def _begin_anew() -> None:
    """Give a forked process an id and markers of its own: its parent holds the locks of those that it has copied."""
    global _process_id, _marking
    _process_id = uuid4().hex[:8]
    _marking = threading.Lock()
    _markers.clear()


os.register_at_fork(after_in_child=_begin_anew)


def _remove_unlocked(marker: Path) -> None:
    """Remove the marker of a process that has ended."""
    with suppress(OSError):
        descriptor = os.open(marker, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            marker.unlink()
        except BlockingIOError:  # it lives
            pass
        finally:
            os.close(descriptor)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_file(path: Path, content: bytes) -> None:
    """Write a file outside of a store that readers see before or after, never half."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write to, which has the name once the block is over, and is gone if that raises."""
    unfinished = folder.with_name(f".{folder.name}.{uuid4().hex}")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished)
        raise


def sync(path: Path) -> None:
    """Make a file's or folder's last change survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    sync(path)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that lack; each is part of the folder above it, which has to be synced too."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def _absent(place: object) -> NotInStore:
    return NotInStore(f"{place}: got no such file; expected a file of the store; restore it from a copy")


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]

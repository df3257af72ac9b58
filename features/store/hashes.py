"""Hashes of files that others write: native files, and a backbone's."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from armorm.features.store import storage

Stamp = tuple[int, int, int, int]
"""Inode, size, and the times of the last change of content and of anything."""

_KNOWN: Final = ContextVar[dict[Path, tuple[Stamp, str]] | None]("known", default=None)


@contextmanager
def hashed_once() -> Iterator[None]:
    """Read each file for its hash once within the block: a run plans, and then does, what depends on it.

    A file that is touched meanwhile is read again. Between runs nothing is remembered: change is found by content.
    """
    token = _KNOWN.set({})
    try:
        yield
    finally:
        _KNOWN.reset(token)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    known = _KNOWN.get()
    if known is None:
        return storage.file_sha256(path)
    stamp = _stamp(path)
    if path not in known or known[path][0] != stamp:
        known[path] = stamp, storage.file_sha256(path)
    return known[path][1]


def _stamp(path: Path) -> Stamp:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns

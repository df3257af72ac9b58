"""Immutable objects in a local folder: written once, named by their content, checked on first read.

    objects/ab/abcd...ef.parquet

A file appears under its name whole or not at all: it is written under `tmp/`, synced, then renamed.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from features.errors import CorruptObject, NotInStore
from features.store.artifacts import ObjectRef


class ObjectFolder:
    """The `objects/` part of a store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: set[str] = set()

    def put(self, format: str, write: Callable[[Path], None]) -> ObjectRef:
        """Keeps what `write` puts into the path that it is given."""
        temporary = temporary_path(self.root)
        try:
            write(temporary)
            ref = ObjectRef(file_sha256(temporary), temporary.stat().st_size, format)
            self._keep(temporary, self._path(ref))
        finally:
            temporary.unlink(missing_ok=True)
        self._verified.add(ref.sha256)
        return ref

    def put_bytes(self, format: str, content: bytes) -> ObjectRef:
        """Keeps `content`."""
        return self.put(format, lambda path: _write_bytes(path, content))

    def path(self, ref: ObjectRef) -> Path:
        """The object's file, after its checksum was compared once in this process.

        Raises:
            NotInStore: the file is gone.
            CorruptObject: its bytes are not those that were written.
        """
        path = self._path(ref)
        if not path.exists():
            raise NotInStore(f"{path}: got no such file; expected an object of the store; restore it from a copy")
        if ref.sha256 not in self._verified:
            actual = file_sha256(path)
            if actual != ref.sha256:
                raise CorruptObject(path, f"content with SHA-256 {actual[:16]}..", f"{ref.sha256[:16]}..")
            self._verified.add(ref.sha256)
        return path

    def read_bytes(self, ref: ObjectRef) -> bytes:
        """The object's checked content."""
        return self.path(ref).read_bytes()

    def _path(self, ref: ObjectRef) -> Path:
        return self.root / "objects" / ref.sha256[:2] / f"{ref.sha256}.{ref.format}"

    def _keep(self, temporary: Path, final: Path) -> None:
        if final.exists() and file_sha256(final) == final.stem:
            return
        final.parent.mkdir(parents=True, exist_ok=True)
        sync(temporary)
        os.replace(temporary, final)
        sync(final.parent)


def temporary_path(root: Path) -> Path:
    """A fresh name below `tmp/` of a store, on the same file system as its objects."""
    folder = root / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / uuid4().hex


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file that readers see before or after, never half."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def sync(path: Path) -> None:
    """Makes a file's or folder's last change survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)

"""Immutable objects: written once, named by their content, checked on first read.

objects/ab/abcd...ef.parquet
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from armorm.features.errors import CorruptObject
from armorm.features.store.artifacts import ObjectRef
from armorm.features.store.storage import Storage, file_sha256, scratch_path

FOLDER: Final = "objects"


class Objects:
    """The `objects/` part of a store."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._verified: set[str] = set()

    def put(self, format: str, write: Callable[[Path], object]) -> ObjectRef:
        """Keep what `write` puts into the path that it is given."""
        temporary = scratch_path(self._storage)
        try:
            write(temporary)
            ref = ObjectRef(file_sha256(temporary), temporary.stat().st_size, format)
            self._storage.keep(name_of(ref), temporary)
        finally:
            temporary.unlink(missing_ok=True)
        self._verified.add(ref.sha256)
        return ref

    def put_bytes(self, format: str, content: bytes) -> ObjectRef:
        """Keep `content`."""
        return self.put(format, lambda path: path.write_bytes(content))

    def path(self, ref: ObjectRef) -> Path:
        """Return the object's file on this machine, after its checksum was compared once in this process.

        Raises:
            NotInStore: the file is gone.
            CorruptObject: its bytes are not those that were written.
        """
        path = self._storage.local(name_of(ref))
        if ref.sha256 not in self._verified:
            try:
                self._check(ref, path)
            except CorruptObject:
                if not self._storage.drop_local(name_of(ref)):
                    raise
                path = self._storage.local(name_of(ref))  # only the copy on this machine may have been damaged
                self._check(ref, path)
        return path

    def check(self, ref: ObjectRef) -> None:
        """Compare the checksum of the file itself, whatever was compared before or is kept on this machine.

        Raises:
            NotInStore: the file is gone.
            CorruptObject: its bytes are not those that were written.
        """
        self._verified.discard(ref.sha256)
        self._storage.drop_local(name_of(ref))
        self._check(ref, self._storage.local(name_of(ref)))

    def read_bytes(self, ref: ObjectRef) -> bytes:
        """Return the object's checked content."""
        return self.path(ref).read_bytes()

    def _check(self, ref: ObjectRef, path: Path) -> None:
        actual = file_sha256(path)
        if actual != ref.sha256:
            raise CorruptObject(path, f"content with SHA-256 {actual[:16]}..", f"{ref.sha256[:16]}..")
        self._verified.add(ref.sha256)


def name_of(ref: ObjectRef) -> str:
    """Return the name of an object's file."""
    return f"{FOLDER}/{ref.sha256[:2]}/{ref.sha256}.{ref.format}"

"""The store's objects as a filesystem of DuckDB that knows nothing else and cannot write.

DuckDB's `allowed_paths` lets a query read a file and write it as well. Objects are therefore named `objects://<file>`,
and whatever is not the reading of a known object is refused here, whichever statement or method asks for it.
"""

import os
import threading
from datetime import UTC, datetime
from io import RawIOBase
from pathlib import Path
from typing import Any, Final

from fsspec import AbstractFileSystem

PREFIX: Final = "objects://"


class ObjectFiles(AbstractFileSystem):  # type: ignore[misc]
    """The files that were added, by name."""

    protocol = "objects"
    cachable = False  # fsspec would hand out one instance for all connections

    def __init__(self) -> None:
        super().__init__()
        self._paths: dict[str, Path] = {}

    def add(self, path: Path) -> str:
        """Make a file readable, and return the name that DuckDB finds it by."""
        self._paths[path.name] = path
        return f"{PREFIX}{path.name}"

    def open(self, path: str, mode: str = "rb", **_: Any) -> "_ObjectFile":
        """Open a known file for reading.

        Raises:
            PermissionError: it would be written, or it is not known.
        """
        name = path.removeprefix(PREFIX)
        if mode != "rb" or name not in self._paths:
            raise PermissionError(f"got {path} to open as {mode}; expected to read an object: the store is read-only")
        return _ObjectFile(self._paths[name])

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return size and time of a known file.

        Raises:
            FileNotFoundError: it is not known.
        """
        name = path.removeprefix(PREFIX)
        if name not in self._paths:
            raise FileNotFoundError(path)
        found = self._paths[name].stat()
        return {"name": f"{PREFIX}{name}", "size": found.st_size, "type": "file", "mtime": found.st_mtime}

    def modified(self, path: str) -> datetime:
        """Return when a known file was last changed."""
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    def exists(self, path: str, **_: Any) -> bool:
        """Return whether a file is known."""
        return path.removeprefix(PREFIX) in self._paths

    def glob(self, path: str, **_: Any) -> list[str]:
        """Return the file itself if it is known; patterns find nothing."""
        return [path] if self.exists(path) else []

    def ls(self, path: str, detail: bool = False, **_: Any) -> list[Any]:
        """Return nothing: files are read by name."""
        return []


class _ObjectFile(RawIOBase):
    """A file that each thread reads at a position of its own, since DuckDB seeks and reads in two calls."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self._size = os.fstat(self._descriptor).st_size
        self._of_thread = threading.local()

    def tell(self) -> int:
        return getattr(self._of_thread, "position", 0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._size}[whence]
        self._of_thread.position = start + offset
        return start + offset

    def read(self, size: int = -1) -> bytes:
        at = self.tell()
        read = os.pread(self._descriptor, self._size - at if size < 0 else size, at)
        self._of_thread.position = at + len(read)
        return read

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()

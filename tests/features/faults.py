"""A machine that fails: whatever changes files below a folder is counted, and one step of it fails or is the last.

A step is the creation, writing, syncing, renaming, linking or deletion of one file, or the making of one folder.
"""

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore.exceptions import GenericError

Kind = Literal["full", "broken", "unsure", "crash"]
"""`full`: ENOSPC, from then on whatever needs space fails; `broken`: EIO, once; `unsure`: EIO, though the step took
effect, as a network file system can do it; `crash`: nothing after it is done by this process."""

NEEDS_SPACE = ("create", "write", "mkdir", "link", "replace")


class Crash(BaseException):
    """The process ends here: nobody catches this."""


@dataclass
class Faults:
    """The steps so far, and what is to happen at one of them."""

    root: Path
    at: int = 0
    """The step that fails, from 1; 0 for none."""
    kind: Kind = "broken"
    steps: list[str] = field(default_factory=list)

    @property
    def struck(self) -> bool:
        """Whether the step that fails has come."""
        return 0 < self.at <= len(self.steps)

    def begin(self, at: int = 0, kind: Kind = "broken") -> None:
        """Counts from the start."""
        self.at, self.kind = at, kind
        self.steps.clear()

    def step(self, what: str, path: Path, act: Callable[[], Any], half: Callable[[], object] | None = None) -> Any:
        """Does a step, or fails at it; `half` does the half of it, where there is such a thing."""
        if not path.is_relative_to(self.root):
            return act()
        if self.kind == "crash" and self.struck:
            raise Crash  # cleaning up is left to the next process
        self.steps.append(f"{what} {path.relative_to(self.root).as_posix()}")
        if not (len(self.steps) == self.at or (self.kind == "full" and self.struck and what in NEEDS_SPACE)):
            return act()
        if self.kind == "unsure":
            getattr(act(), "close", lambda: None)()
        elif half:
            half()
        if self.kind == "crash":
            raise Crash
        number = errno.ENOSPC if self.kind == "full" else errno.EIO
        raise OSError(number, os.strerror(number), str(path))


class HalfFile(io.FileIO):
    """A file that takes the half of the first bytes, and then no more."""

    def write(self, content: Any, /) -> int:
        super().write(bytes(content)[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def faults(root: Path) -> Iterator[Faults]:
    """Watches a folder while the block runs. Nothing is synced for real: that takes long, and is told by the steps."""
    watch = Faults(root)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "link", "mkdir", "unlink", "rmdir"):
            patch.setattr(os, name, _counted(watch, name, getattr(os, name)))
        patch.setattr(os, "fsync", lambda descriptor: watch.step("sync", _path_of(descriptor), lambda: None))
        patch.setattr(Path, "open", _open(watch, Path.open))
        patch.setattr(Path, "write_bytes", _write_bytes(watch))
        patch.setattr(pa, "OSFile", _arrow_file(watch, pa.OSFile))
        patch.setattr(pq, "write_table", _parquet_file(watch, pq.write_table))
        yield watch


@dataclass
class LostRequests:
    """The requests to an object store so far, and which of them fails."""

    at: int = 0
    took_effect: bool = False
    """Whether only the answer was lost."""
    requests: list[str] = field(default_factory=list)

    def begin(self, at: int = 0, *, took_effect: bool = False) -> None:
        """Counts from the start."""
        self.at, self.took_effect = at, took_effect
        self.requests.clear()

    def request(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        """A function of obstore that fails when its turn comes."""

        def called(store: Any, path: str, *args: Any, **options: Any) -> Any:
            self.requests.append(f"{name} {path}")
            if len(self.requests) != self.at:
                return original(store, path, *args, **options)
            if self.took_effect:
                original(store, path, *args, **options)
            raise GenericError("the network is gone")

        return called


@contextmanager
def lost_requests() -> Iterator[LostRequests]:
    """Watches every request to an object store while the block runs."""
    watch = LostRequests()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("put", "get", "head", "list", "delete", "copy"):
            patch.setattr(obstore, name, watch.request(name, getattr(obstore, name)))

        def rename(store: Any, path: str, to: str) -> None:  # which is two requests
            obstore.copy(store, path, to)
            obstore.delete(store, path)

        patch.setattr(obstore, "rename", rename)
        yield watch


def _counted(watch: Faults, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any, dir_fd: int | None = None, **options: Any) -> Any:
        if dir_fd is not None:
            options["dir_fd"] = dir_fd
        changed = Path(os.fsdecode(args[1] if name in ("replace", "link") else args[0]))
        path = changed if dir_fd is None else _path_of(dir_fd) / changed
        return watch.step(name, path, lambda: original(*args, **options))

    return called


def _open(watch: Faults, original: Callable[..., Any]) -> Callable[..., Any]:
    def called(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        def act() -> Any:
            return original(path, mode, *args, **options)

        return watch.step("create", path, act) if set(mode) & set("wax") else act()

    return called


def _write_bytes(watch: Faults) -> Callable[[Path, bytes], int]:
    def write(path: Path, content: bytes) -> int:
        with io.open(path, "wb") as file:  # noqa: UP020  # not the patched one
            return file.write(content)

    def called(path: Path, content: bytes) -> int:
        watch.step("create", path, lambda: write(path, b""))
        return int(
            watch.step("write", path, lambda: write(path, content), lambda: write(path, content[: len(content) // 2]))
        )

    return called


def _arrow_file(watch: Faults, original: Callable[..., Any]) -> Callable[..., Any]:
    def called(path: str, mode: str) -> Any:
        try:
            return watch.step("write", Path(path), lambda: original(path, mode))
        except OSError:
            return HalfFile(path, "w")  # the error comes out of Arrow itself, as it would

    return called


def _parquet_file(watch: Faults, original: Callable[..., Any]) -> Callable[..., Any]:
    def called(table: pa.Table, path: Path, **options: Any) -> None:
        try:
            watch.step("write", path, lambda: original(table, path, **options))
        except OSError:
            with HalfFile(path, "w") as file:
                original(table, file, **options)

    return called


def _path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()

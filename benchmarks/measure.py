"""What benchmarks share: options, tables, versions, work in a new process, the memory of one, vectors of a store."""

import argparse
import platform
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from armorm.features.store import Made, Recipe, Writer
from armorm.features.vectors.shards import Feature, slot_of, write_shard

Result = TypeVar("Result")

SHARD_ROWS = 4096


def options(description: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """Return a parser of options of these names, with their defaults' types: a flag for False, `1,2` for a list."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(flag, action="store_true")
        elif isinstance(default, list):
            of = type(default[0])
            parser.add_argument(flag, type=lambda text, of=of: [of(one) for one in text.split(",")], default=default)
        else:
            parser.add_argument(flag, type=type(default), default=default)
    return parser


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]] = ()) -> None:
    """Print a table as Markdown, each row as soon as it is there."""
    print(f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|")
    for row in rows:
        print_row(*row)


def print_row(*cells: object) -> None:
    """Print one more row of a table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def packages(*names: str) -> str:
    """Return the versions of Python and of packages."""
    return ", ".join([f"Python {platform.python_version()}", *map(_package, names)])


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} not installed"


def in_process(work: Callable[..., Result], *given: object) -> Result:
    """Return what a function gives in a new process, whose memory is its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *given).result()


def memory_mb(field: str, pid: int | str = "self") -> float:
    """Return a field of a process's status, such as VmHWM; 0 where it has ended.

    `ru_maxrss` is of no use: a new process takes it over from the one that has started it.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), 0.0)


class Peaks:
    """The largest memory while a block runs, in each tenth of its work; whoever works sets `share`, from 0 to 1."""

    def __init__(self, measure_mb: Callable[[], float], *, every_s: float = 0.01) -> None:
        self.share = 0.0
        self.tenths_mb = [0.0] * 10
        self._measure_mb, self._every_s = measure_mb, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    @property
    def most_mb(self) -> float:
        """The largest of all."""
        return max(self.tenths_mb)

    def print_tenths(self) -> None:
        """Print a table of one row as Markdown."""
        print_table([*(f"{10 * n} %" for n in range(1, 11)), "all over the first tenth"])
        print_row(*(f"{peak:.0f} MB" for peak in self.tenths_mb), f"{self.most_mb / self.tenths_mb[0]:.3f}")

    def __enter__(self) -> "Peaks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            tenth = min(int(self.share * 10), 9)
            self.tenths_mb[tenth] = max(self.tenths_mb[tenth], self._measure_mb())
            if self._over.wait(self._every_s):
                return


def write_vectors(
    writer: Writer, backbone: str, kind: str, ids: Sequence[str], draw: Callable[[tuple[int, int]], np.ndarray]
) -> None:
    """Commit float16 shards of drawn vectors, whose width is that of the backbone."""
    width = writer.store.head().within("backbone")[backbone].summary["hidden_size"]
    for start in range(0, len(ids), SHARD_ROWS):
        block = ids[start : start + SHARD_ROWS]
        vectors = draw((len(block), width)).astype(np.float32)
        features = [Feature(kind, id, 9, False, vector) for id, vector in zip(block, vectors, strict=True)]
        objects = write_shard(writer.store, backbone, {}, features, vector_type="float16")
        recipe = Recipe(slot_of(backbone, objects["shard"]), "embed", 1, {}, {})
        writer.commit(recipe, Made(objects, {"rows": len(block), "width": width}))

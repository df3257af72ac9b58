"""What `test_bounded.py` has done in a process of its own; in a module that is imported at once there."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path


def failing() -> float:
    return 1 / 0


def leaving(temporary: str) -> None:
    """Stand for a query that spills and is killed with the one that asked."""
    Path(temporary).mkdir()
    (Path(temporary) / "spilled").write_text("much")


def sleeping(seconds: float) -> None:
    """Stand for a query that is at work."""
    time.sleep(seconds)


def printing() -> list[int]:
    """Print before answering."""
    print("something")
    os.write(1, b"else\n")
    return [1]


def signalled() -> list[int]:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), number)
    return [1]


def counting(n: int) -> Iterator[int]:
    yield from range(n)


def spinning() -> Iterator[int]:
    """Yield something, and come to no end."""
    yield 1
    while True:
        pass

"""Work on many pieces in several processes, in order and with few pieces in memory."""

import gc
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MapInOrder = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


@contextmanager
def processes(n_bytes: int, *, enough: int = 1 << 26) -> Iterator[MapInOrder]:
    """Give a `map` over all cores, or over this process alone if there is less than `enough` to read.

    A process takes about a second to start. Pieces are taken as they are needed: two for each process are under way.
    """
    n_workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if n_workers == 1 or n_bytes < enough:
        yield map
        return
    with ProcessPoolExecutor(n_workers, get_context("spawn"), initializer=_begin) as pool:

        def in_order(function: Callable[[T], R], pieces: Iterable[T]) -> Iterator[R]:
            under_way: deque[Future[R]] = deque()
            for piece in pieces:
                under_way.append(pool.submit(function, piece))
                if len(under_way) >= 2 * n_workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()

        try:
            yield in_order
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _begin() -> None:
    """Make a process end with the one that started it, and spare it the garbage collection.

    Nothing here makes cycles, and a collection would look at every row again and again.
    """
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C the parent hears, too
    parent = parent_process()
    if parent:
        Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()

"""The store's writer: who is told of what it does (OpenLineage, where it is configured), and how long it waits."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Final, Literal

from prefect import get_run_logger

from armorm.features.errors import StoreBusy
from armorm.features.lineage.openlineage import LineageObserver, observe
from armorm.features.secrets import redact_error
from armorm.features.store import Writer
from armorm.features.store.hashes import hashed_once
from armorm.features.units import in_words, parse_duration
from armorm.flows.configuration.scheduled import BY_HAND, RunLimits
from armorm.flows.configuration.settings import Settings

API_KEY = "OPENLINEAGE_API_KEY"
"""The environment variable of the key, as for all of OpenLineage: a key is in no file."""


TRIED_EVERY_S = (1, 3)
"""A busy store; at times that differ, so that waiting writers do not livelock."""

AGAIN_S: Final = 0.01
"""Seconds from an end that Python ignored to the next try."""


@contextmanager
def writing(
    settings: Settings, command: str, limits: RunLimits = BY_HAND, *, kind: Literal["write", "gc"] = "write"
) -> Iterator[Writer]:
    """Give the writer of the configured store, observed as configured; files are hashed once for plan and work.

    Raises:
        StoreBusy: another process is writing, for longer than is to be waited.
        TimeoutError: the block took longer than it may. What it has committed is kept.
    """
    store, observing = settings.open_store(), observers(settings)
    try:
        with ExitStack() as stack:
            writer = _wait_for(
                lambda alone: stack.enter_context(store.writing(command, alone=alone, observers=observing, kind=kind)),
                limits,
            )
            with time_limit(limits.work), hashed_once():
                yield writer
    except Exception as error:
        redact_error(error)  # Prefect keeps its text with the run
        raise
    finally:
        for observer in observing:
            observer.close()


class _OutOfTime(BaseException):
    """Not an `Exception`, so that nothing on the way takes it for a failure that can be tried again."""


@contextmanager
def time_limit(limit: str) -> Iterator[None]:
    """End the block when its time is over, whatever it does.

    An alarm raises an exception in the main thread. Python ignores an exception that is raised within a destructor or
    the callback of a weak reference, and says so to `sys.unraisablehook`: the alarm is then set again.

    Raises:
        TimeoutError: the block took longer, also where another error came of that, as Prefect missing a task run.
    """
    if not limit:
        yield
        return
    over = done = False

    def raise_it(number: int, frame: FrameType | None) -> None:
        nonlocal over
        if not done:
            over = True
            raise _OutOfTime

    def set_again(ignored: "sys.UnraisableHookArgs") -> None:
        if ignored.exc_type is _OutOfTime:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        else:
            hook(ignored)

    hook, sys.unraisablehook = sys.unraisablehook, set_again
    handler = signal.signal(signal.SIGALRM, raise_it)
    signal.setitimer(signal.ITIMER_REAL, parse_duration(limit))
    try:
        yield
        done = True
    except BaseException as error:
        if over and isinstance(error, (Exception, _OutOfTime)):
            raise TimeoutError(f"the run took longer than its time limit, {limit}") from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        sys.unraisablehook = hook


def _wait_for(begin: Callable[[bool], Writer], limits: RunLimits) -> Writer:
    """Wait for a writer that is alone on all machines: if two are to do the same, the second finds it done."""
    wait_s = parse_duration(limits.wait) if limits.wait else 0
    deadline, told = time.monotonic() + wait_s, False
    while True:
        try:
            return begin(wait_s > 0)
        except StoreBusy as error:
            if time.monotonic() >= deadline:
                raise
            if not told:
                get_run_logger().info(f"{error}; this run waits, {in_words(wait_s)} at most")
                told = True
            time.sleep(random.uniform(*TRIED_EVERY_S))


def observers(settings: Settings) -> list[LineageObserver]:
    """Return the observers for `Store.writing(.., observers=)`; none by default.

    Raises:
        InputError: OpenLineage is configured and its client is not installed.
    """
    if not settings.openlineage:
        return []
    from armorm.stages.pipeline import STAGES

    return [
        observe(
            settings.openlineage,
            root=settings.root,
            store=settings.open_store().place,
            stages=STAGES,
            api_key=os.environ.get(API_KEY),
        )
    ]

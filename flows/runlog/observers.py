"""The store's writer: who is told of what it does (OpenLineage, where it is configured), and how long it waits."""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

from prefect import get_run_logger
from prefect.utilities.timeout import timeout

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
    work_s = parse_duration(limits.work) if limits.work else None
    try:
        with ExitStack() as stack:
            writer = _wait_for(
                lambda alone: stack.enter_context(store.writing(command, alone=alone, observers=observing, kind=kind)),
                limits,
            )
            with timeout(work_s), _timed_out(limits), hashed_once():
                yield writer
    except Exception as error:
        redact_error(error)  # Prefect keeps its text with the run
        raise
    finally:
        for observer in observing:
            observer.close()


@contextmanager
def _timed_out(limits: RunLimits) -> Iterator[None]:
    """Give its name to an error that the time limit caused within Prefect, which misses its task run then."""
    began, work_s = time.monotonic(), parse_duration(limits.work) if limits.work else None
    try:
        yield
    except ValueError as error:
        if work_s and time.monotonic() - began >= work_s:
            raise TimeoutError(f"the run took longer than its time limit, {limits.work}") from error
        raise


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

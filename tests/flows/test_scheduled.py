"""What a schedule adds to a flow: it waits for a busy store, ends in time, records its success, and tells of change."""

import logging
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from armorm.features.errors import StoreBusy, TooOld
from armorm.features.store import Store
from armorm.features.store.freshness import last_runs
from armorm.features.upkeep.verify import verify
from armorm.flows.configuration.scheduled import RunLimits
from armorm.flows.embed import embed
from armorm.flows.ingest import ingest
from armorm.flows.runlog import events
from armorm.flows.runlog.observers import time_limit
from armorm.flows.upkeep import freshness, gc
from armorm.flows.upkeep import verify as verify_flow
from tests.damage import overwrite

pytestmark = pytest.mark.usefixtures("server", "in_process")

Told = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def small(config: Path) -> Path:
    """A configuration of one dataset."""
    text = config.read_text()
    start, end = text.index("[datasets.ultrafeedback]"), text.index("[split]")
    config.write_text(text[:start] + text[end:])
    return config


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """The events that are emitted."""
    found: Told = []
    monkeypatch.setattr(events, "emit_event", lambda event, resource, payload: found.append((event, payload)))
    return found


def test_ingest_tells_of_change_and_of_what_still_waits(small: Path, told: Told) -> None:
    store = Store(small.parent / "store")
    ingest(small)
    ((event, payload),) = told
    head = store.head()
    assert (event, payload["number"], payload["snapshot_id"]) == (events.COMMITTED, head.number, head.snapshot_id)
    assert payload["changed"].keys() == {"helpsteer"}
    assert payload["changed"]["helpsteer"].keys() == {"added"}
    assert payload["changed"]["helpsteer"]["added"] > 100
    ingest(small)
    assert [payload["changed"] for _, payload in told[1:]] == [{}]  # nothing has changed, and nothing was embedded
    embed(small)
    ingest(small)
    assert [event for event, _ in told[2:]] == [events.CHANGED]  # no model was trained yet; the third ingest is silent
    assert last_runs(store).keys() == {"ingest", "embed"}


def test_a_run_on_a_schedule_waits_for_a_busy_store_and_says_so(
    small: Path, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    store, begun, done = Store(small.parent / "store"), threading.Event(), threading.Event()

    def write() -> None:
        with store.writing("armorm train"):
            begun.set()
            done.wait()

    other = threading.Thread(target=write)
    other.start()
    begun.wait()
    with pytest.raises(StoreBusy, match="armorm train"):
        ingest(small)

    def end_when_waited_for() -> None:
        while "10 min" not in caplog.text and other.is_alive():
            done.wait(0.02)
        done.set()

    with caplog.at_level(logging.INFO, logger="prefect.flow_runs"):
        ending = threading.Thread(target=end_when_waited_for)
        ending.start()
        ingest(small, RunLimits(wait="10m"))
    ending.join()
    other.join()
    assert re.search(rf"\bpid {os.getpid()}, armorm train\b.* 10 min\b", caplog.text)


def test_a_run_that_takes_too_long_ends_and_leaves_a_valid_store(config: Path, told: Told) -> None:
    state = ingest(config, RunLimits(work="0.2s"), return_state=True)
    assert state.name == "TimedOut"
    store = Store(config.parent / "store")
    assert verify(store).damages == ()
    assert list((config.parent / "store" / "leases").iterdir()) == []
    assert "ingest" not in last_runs(store)
    assert told == []


def test_a_time_limit_holds_where_python_ignores_the_exception_that_it_raises() -> None:
    class Slow:
        def __del__(self) -> None:
            time.sleep(0.3)  # the limit falls in here, where an exception is ignored

    def work() -> None:
        Slow()
        time.sleep(60)

    with pytest.raises(TimeoutError), time_limit("0.1s"):
        work()
    with time_limit("0.1s"):
        pass
    time.sleep(0.2)  # it is over with its block


def test_upkeep_says_what_it_finds_and_fails_where_the_command_does(small: Path, told: Told) -> None:
    ingest(small)
    assert "damaged" not in verify_flow(small)
    planned, collected = gc(small), gc(small, delete=True)
    assert planned.startswith(collected)
    assert planned != collected
    assert "ingest" in freshness(small, "1h")
    with pytest.raises(TooOld, match=r"^(?!.* ago;).* 1 h;.*`armorm train`"):
        freshness(small, "1h", "train")
    damaged = min((small.parent / "store" / "objects").rglob("*.parquet"))
    content = damaged.read_bytes()
    damaged.chmod(0o644)
    overwrite(damaged, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(Exception, match=r"1 damaged.*armorm verify --repair"):
        verify_flow(small)
    overwrite(damaged, content)

"""Fresh is what has succeeded lately: a stage alone or in a whole run, and the line as its oldest stage."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from armorm.features.errors import TooOld
from armorm.features.store import Store, Writer
from armorm.features.store.freshness import RUN, STAGES, last_runs, record_success, require_fresh


def age(store: Store, name: str, days: int) -> None:
    """Makes a success look older than it is."""
    path = f"runs/{name}.json"
    document = json.loads(store.storage.read(path))
    before = datetime.now(UTC) - timedelta(days=days)
    store.storage.replace(path, json.dumps(document | {"finished_at": before.isoformat()}).encode())


def test_nothing_is_known_of_a_new_store(store: Store) -> None:
    assert last_runs(store) == {}
    with pytest.raises(TooOld, match=r"^(?!.* ago).* 1 min;.*`armorm run`"):
        require_fresh(store, 60)
    with pytest.raises(TooOld, match=r"^(?!.* ago).* 1 min;.*`armorm ingest`"):
        require_fresh(store, 60, "ingest")


def test_a_whole_run_counts_for_each_of_its_stages(anywhere: Store) -> None:
    with anywhere.writing("armorm run") as writer:
        record_success(writer, RUN)
    assert last_runs(anywhere).keys() == {*STAGES, RUN}
    for of in (*STAGES, RUN):
        require_fresh(anywhere, 60, of)


def test_the_line_is_as_old_as_its_oldest_stage(writer: Writer) -> None:
    store = writer.store
    for stage in STAGES:
        assert RUN not in last_runs(store)
        record_success(writer, stage)
    require_fresh(store, 60)
    age(store, "last-train", days=5)
    require_fresh(store, 60, "ingest")
    with pytest.raises(TooOld, match=r" 5 d .* 1 d;.*`armorm run`"):
        require_fresh(store, 86_400)
    require_fresh(store, 6 * 86_400)
    record_success(writer, RUN)
    require_fresh(store, 60)
    age(store, "last", days=9)
    assert last_runs(store)[RUN].age_s == pytest.approx(5 * 86_400, abs=60)


def test_what_another_version_has_written_is_not_known(writer: Writer) -> None:
    writer.store.storage.replace("runs/last.json", b'{"other": 1}')
    writer.store.storage.replace("runs/last-ingest.json", b"[]")
    assert last_runs(writer.store) == {}

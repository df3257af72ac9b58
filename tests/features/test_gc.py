"""Collection takes what nothing refers to, and only that; a stopped one is gone on with."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from armorm.features.errors import NotInStore, StoreBusy
from armorm.features.store import Made, Pointer, Recipe, Store, leases
from armorm.features.store.store import utc_now
from armorm.features.upkeep.gc import RetentionSettings, collect, plan_collection
from armorm.features.upkeep.verify import verify

LATER = datetime.now(UTC) + timedelta(days=100)

KEEP_TWO = RetentionSettings(keep_days=1, keep_last=2)


def commit(store: Store, *contents: str) -> None:
    for content in contents:
        with store.writing("test") as writer:
            ref = store.objects.put_bytes("json", content.encode())
            writer.commit(Recipe("a", "test", 1, {"content": content}, {}), Made({"record": ref}))


def contents(store: Store) -> set[bytes]:
    return {store.storage.read(file.name) for file in store.storage.files("objects")}


def run(store: Store, settings: RetentionSettings = KEEP_TWO, now: datetime = LATER) -> None:
    with store.writing("armorm gc", kind="gc") as writer:
        collect(writer, settings, now=now)


def test_what_no_kept_snapshot_names_goes_to_the_trash_and_then_away(anywhere: Store) -> None:
    commit(anywhere, "1", "2", "3", "1")
    anywhere.objects.put_bytes("json", b"never committed")
    planned = plan_collection(anywhere, KEEP_TWO, now=LATER)
    assert (planned.expired, len(planned.swept)) == ((1, 2), 2)
    assert len(contents(anywhere)) == 4  # a plan does nothing
    run(anywhere)
    assert contents(anywhere) == {b"1", b"3"}  # the first snapshot's object is the last one's too
    assert len(list(anywhere.storage.files("trash"))) == 2
    run(anywhere, now=LATER + timedelta(days=8))
    assert list(anywhere.storage.files("trash")) == []
    assert contents(anywhere) == {b"1", b"3"}
    assert verify(anywhere).damages == ()


def test_expired_snapshots_are_remembered_but_cannot_be_opened(anywhere: Store, elsewhere: Store) -> None:
    commit(anywhere, "1", "2", "3")
    ids = [snapshot.snapshot_id for snapshot in anywhere.history()]
    run(anywhere)
    for store in (anywhere, elsewhere):
        assert [snapshot.snapshot_id for snapshot in store.history()] == ids
        assert [bool(snapshot.expired) for snapshot in store.history()] == [False, False, True]
        with pytest.raises(NotInStore, match=r"\bsnapshot 1\b.*\[retention\]"):
            store.snapshot("1")
    commit(anywhere, "4")
    assert anywhere.head().number == 4
    assert verify(anywhere).damages == ()


def test_names_readers_youth_and_age_keep(anywhere: Store) -> None:
    commit(anywhere, "1", "2", "3", "4", "5")
    with anywhere.writing("test") as writer:
        writer.point("good", Pointer("snapshot", anywhere.manifests.read(2).snapshot_id, 2, utc_now()))
    with leases.holding(anywhere.storage, "reader", "read", "a notebook", 3, leases.NO_LOCK):
        assert plan_collection(anywhere, KEEP_TWO, now=LATER).expired == (1, 4)
    assert plan_collection(anywhere, KEEP_TWO, now=LATER).expired == (1, 3, 4)
    assert plan_collection(anywhere, KEEP_TWO).expired == ()
    soon = datetime.now(UTC) + timedelta(days=2)
    grace = RetentionSettings(keep_days=1, keep_last=2, grace_hours=72)
    planned = plan_collection(anywhere, grace, now=soon)
    assert (planned.expired, planned.swept) == ((1, 3, 4), ())


def test_a_collection_that_stops_anywhere_leaves_a_whole_store(anywhere: Store) -> None:
    commit(anywhere, "1", "2", "3", "4")
    for stop_after in range(1, 5):

        def stop(done: int, total: int, last: int = stop_after) -> None:
            if done == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), anywhere.writing("armorm gc", kind="gc") as writer:
            collect(writer, KEEP_TWO, now=LATER, on_progress=stop)
        assert verify(anywhere).damages == ()
        if stop_after < 4:
            commit(anywhere, f"again {stop_after}")
    run(anywhere)
    assert contents(anywhere) == {b"again 2", b"again 3"}


def test_nobody_collects_while_another_machine_writes(anywhere: Store) -> None:
    commit(anywhere, "1")
    lease = leases.holding(anywhere.storage, "1", "write", "armorm embed", 1, leases.Taken("another"))
    with lease, pytest.raises(StoreBusy, match="armorm embed"):
        run(anywhere)


def test_what_is_collected_while_it_is_verified_is_no_damage(anywhere: Store, elsewhere: Store) -> None:
    commit(anywhere, "1", "2", "3", "4")

    def collect_once(done: int, total: int) -> None:
        if not list(elsewhere.storage.files("trash")):
            run(elsewhere)

    found = verify(anywhere, on_progress=collect_once)
    assert (found.n_objects, found.damages) == (4, ())
    assert len(contents(anywhere)) == 2
    anywhere.storage.remove(next(anywhere.storage.files("objects")).name)
    assert len(verify(anywhere).damages) == 1


def test_what_is_put_again_is_young_again(store: Store) -> None:
    path = store.objects.path(store.objects.put_bytes("json", b"of a killed run"))
    os.utime(path, (0, 0))
    assert len(plan_collection(store, KEEP_TWO).swept) == 1
    store.objects.put_bytes("json", b"of a killed run")
    assert plan_collection(store, KEEP_TWO).swept == ()


@pytest.mark.parametrize(("name", "value"), [("keep_days", -1), ("keep_last", 0), ("trash_days", float("nan"))])
def test_settings_that_keep_nothing_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"\b{name}\b.* {value}\b"):
        RetentionSettings(**{name: value})  # type: ignore[arg-type]

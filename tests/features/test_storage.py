"""The two places where a store can lie keep the same promises: one test suite for both."""

import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from armorm.features.errors import CorruptObject, NotInStore, StoreBusy, StoreError
from armorm.features.store import Made, Pointer, Recipe, Store, Writer, leases
from armorm.features.store.storage import ObjectStorage, open_storage, scratch_path, sweep, without_credentials
from armorm.features.store.store import utc_now
from armorm.features.upkeep.verify import verify
from tests.damage import overwrite

SPAWN = multiprocessing.get_context("spawn")


def recipe(slot: str, n: int = 0) -> Recipe:
    return Recipe(slot, "test", 1, {"n": n}, {})


def put(writer: Writer, slot: str, content: bytes) -> None:
    writer.commit(recipe(slot), Made({"record": writer.store.objects.put_bytes("json", content)}))


def test_a_commit_is_read_by_another_process_as_it_was_written(anywhere: Store, elsewhere: Store) -> None:
    with anywhere.writing("test") as writer:
        put(writer, "a", b"content")
    head = elsewhere.head()
    assert head == anywhere.head()
    assert elsewhere.objects.read_bytes(head.artifacts["a"].objects["record"]) == b"content"


def test_a_name_is_created_once_however_many_try(anywhere: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        for round in range(10):
            told = list(pool.map(lambda n, r=round: anywhere.storage.create(f"x/{r}", str(n).encode()), range(16)))
            assert told.count(True) == 1
            assert anywhere.storage.read(f"x/{round}") == str(told.index(True)).encode()


def test_files_are_listed_read_moved_and_removed(anywhere: Store) -> None:
    storage = anywhere.storage
    for name in ("x/1", "x/2", "y/1"):
        storage.replace(name, name.encode())
    assert sorted(file.name for file in storage.files("x")) == ["x/1", "x/2"]
    assert [file.name for file in storage.files("x", after="x/1")] == ["x/2"]
    assert [file.size_bytes for file in storage.files("y")] == [3]
    storage.move("x/1", "z/deep/1")
    assert storage.read("z/deep/1") == b"x/1"
    assert storage.local("z/deep/1").read_bytes() == b"x/1"
    for gone in ("x/1", "never"):
        with pytest.raises(NotInStore, match=f"/{gone}: "):
            storage.read(gone)
        with pytest.raises(NotInStore, match=f"/{gone}: "):
            storage.local(gone)
    storage.remove("x/2")
    storage.remove("x/2")
    assert list(storage.files("x")) == []


def test_damage_of_an_object_is_named_at_first_read(anywhere: Store, elsewhere: Store) -> None:
    ref = anywhere.objects.put_bytes("json", b"content")
    name = f"objects/{ref.sha256[:2]}/{ref.sha256}.json"
    anywhere.storage.replace(name, b"contenT")
    with pytest.raises(CorruptObject, match=ref.sha256[:16]):
        elsewhere.objects.path(ref)
    with pytest.raises(CorruptObject, match=ref.sha256[:16]):
        anywhere.objects.check(ref)
    anywhere.storage.remove(name)
    with pytest.raises(NotInStore):
        anywhere.objects.check(ref)


def test_a_damaged_copy_on_this_machine_is_fetched_again(s3: str, tmp_path: Path) -> None:
    store = Store(s3, cache=tmp_path / "cache")
    ref = store.objects.put_bytes("json", b"content")
    overwrite(store.objects.path(ref), b"contenT")
    assert Store(s3, cache=tmp_path / "cache").objects.read_bytes(ref) == b"content"


def commit_many(place: str, cache: Path, number: int, n_commits: int) -> None:
    store = Store(place, cache=cache)
    writer = Writer(store, f"writer {number}")  # without the machine's lock: as on a machine of its own
    for n in range(n_commits):
        put(writer, f"{number}/{n}", f"{number} {n}".encode())


def race(place: str, folder: Path, n_writers: int, n_commits: int) -> None:
    """Many writers at the same time: every commit has a number of its own and none is lost."""
    processes = [
        SPAWN.Process(target=commit_many, args=(place, folder / f"cache {number}", number, n_commits))
        for number in range(n_writers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    store = Store(place, cache=folder / "cache of the reader")
    assert store.manifests.numbers() == list(range(1, n_writers * n_commits + 1))
    added = [
        snapshot.artifacts.keys() - (store.manifests.read(snapshot.number - 1).artifacts if snapshot.number > 1 else {})
        for snapshot in store.history()
    ]
    assert all(len(slots) == 1 for slots in added)
    assert len(store.head().artifacts) == n_writers * n_commits
    assert verify(store).damages == ()


def test_no_commit_of_several_machines_is_lost(anywhere: Store, tmp_path: Path) -> None:
    race(anywhere.place, tmp_path, n_writers=4, n_commits=10)


@pytest.mark.slow
def test_no_commit_of_eight_machines_is_lost_or_made_twice(anywhere: Store, tmp_path: Path) -> None:
    race(anywhere.place, tmp_path, n_writers=8, n_commits=200)


def commit_in_turn(place: str, number: int, n_commits: int) -> None:
    for n in range(n_commits):
        with Store(place).writing(f"writer {number}", wait_s=300) as writer:
            put(writer, f"{number}/{n}", b"{}")


def test_writers_of_one_machine_wait_for_each_other_if_told_to(tmp_path: Path) -> None:
    place = str(tmp_path / "store")
    processes = [SPAWN.Process(target=commit_in_turn, args=(place, number, 10)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert Store(place).manifests.numbers() == list(range(1, 31))


def test_the_same_commit_of_two_machines_is_one(anywhere: Store, elsewhere: Store) -> None:
    for store in (anywhere, elsewhere):
        put(Writer(store, "test"), "a", b"content")
    assert anywhere.head().number == 1


def test_a_lost_answer_is_no_lost_commit(s3: str, tmp_path: Path) -> None:
    storage = ObjectStorage(s3, tmp_path)
    assert storage.create("x", b"mine")
    assert storage.create("x", b"mine")  # sent again, as after an answer that never came
    assert not storage.create("x", b"other")


def test_collecting_and_writing_exclude_each_other(anywhere: Store) -> None:
    def held(run_id: str, kind: leases.Kind, command: str) -> AbstractContextManager[leases.Lease]:
        return leases.holding(anywhere.storage, run_id, kind, command, 0, leases.Taken(f"of {run_id}"))

    with held("1", "write", "armorm run"):
        with held("2", "write", "armorm embed"):
            pass
        with pytest.raises(StoreBusy, match="armorm run"), held("3", "gc", "armorm gc"):
            pass
    gc, busy = held("4", "gc", "armorm gc"), pytest.raises(StoreBusy, match="armorm gc")
    with gc, busy, held("5", "write", "armorm run"):
        pass
    assert leases.active(anywhere.storage) == []


def test_who_is_to_be_alone_makes_way_for_writers_of_other_machines(anywhere: Store, elsewhere: Store) -> None:
    train, busy = anywhere.writing("armorm train"), pytest.raises(StoreBusy, match="armorm train")
    with train, busy, elsewhere.writing("armorm embed", alone=True):
        pass
    with anywhere.writing("armorm embed", alone=True):
        pass
    assert leases.active(anywhere.storage) == []


WORKING = """
import sys
from pathlib import Path
from armorm.features.store import Store
from armorm.features.store.storage import scratch_path
store = Store(sys.argv[1], cache=Path(sys.argv[2]))
with store.writing("armorm embed"):
    scratch_path(store.storage).write_bytes(b"..")
    print("at work", flush=True)
    sys.stdin.read()
"""


@contextmanager
def at_work(place: str, cache: Path, *prefix: str) -> Iterator[None]:
    """A process that writes to a store and has an unfinished file, until the block ends and it is killed."""
    command = [*prefix, sys.executable, "-c", WORKING, place, str(cache)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"at work\n"
        yield
        process.kill()


def test_a_killed_writer_of_this_machine_leaves_no_lease(place: str, tmp_path: Path) -> None:
    store = Store(place, cache=tmp_path / "cache")
    with at_work(place, tmp_path / "cache"):
        pass
    assert [lease.command for lease in leases.active(store.storage)] == ["armorm embed"]
    with store.writing("armorm gc", kind="gc") as writer:
        assert [lease.run_id for lease in leases.active(store.storage)] == [writer.run.run_id]
        assert list(store.storage.scratch.glob("*-*")) == []


APART = ("unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc")
"""A command in process and mount namespaces of its own, as in a container; the host's name stays the same."""


def skip_without_namespaces(apart: tuple[str, ...]) -> None:
    if apart and (not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True).returncode):
        pytest.skip("namespaces need privileges that are not there")


DIES_BEFORE_IT_LOOKS = """
import os, sys
from pathlib import Path
from armorm.features.store import Store, leases
leases._make_way = lambda *given, **known: os._exit(9)
with Store({place!r}, cache=Path({cache!r})).writing("the second"):
    os._exit(0)
"""


def test_one_that_is_killed_after_another_leaves_neither_lease(place: str, tmp_path: Path) -> None:
    """The second is killed between taking the lock and doing away with the first one's lease."""
    cache = str(tmp_path / "cache")
    store = Store(place, cache=Path(cache))
    dies = "from pathlib import Path; import os; from armorm.features.store import Store\n"
    dies += f"with Store({place!r}, cache=Path({cache!r})).writing('the first'): os._exit(9)"
    for code in (dies, DIES_BEFORE_IT_LOOKS.format(place=place, cache=cache)):
        assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert len(leases.active(store.storage)) == 2
    with store.writing("the third", kind="gc"):
        assert len(leases.active(store.storage)) == 1


@pytest.mark.parametrize("apart", [(), APART], ids=["together", "apart"])
def test_a_writer_of_the_same_host_name_and_cache_path_keeps_its_lease(
    s3: str, tmp_path: Path, apart: tuple[str, ...]
) -> None:
    skip_without_namespaces(apart)
    image, caches = tmp_path / "image", [tmp_path / name for name in "ab"]
    with Store(s3, cache=image).writing("armorm run"):
        shutil.copytree(image, caches[0])
    with at_work(s3, caches[0], *apart):
        shutil.copytree(caches[0], caches[1])  # a machine that is cloned while it works
        clone = Store(s3, cache=caches[1])
        with pytest.raises(StoreBusy), clone.writing("armorm gc", kind="gc"):
            pass
        with clone.writing("armorm embed"):
            assert len(leases.active(clone.storage)) == 2


@pytest.mark.parametrize("apart", [(), APART], ids=["together", "apart"])
def test_what_a_writer_elsewhere_has_not_finished_is_left_alone(
    place: str, tmp_path: Path, apart: tuple[str, ...]
) -> None:
    skip_without_namespaces(apart)
    store = Store(place, cache=tmp_path / "cache")
    with at_work(place, tmp_path / "cache", *apart):
        unfinished = sorted(store.storage.scratch.iterdir())
        with pytest.raises(StoreBusy), store.writing("armorm embed"):
            pass
        sweep(store.storage)
        assert sorted(store.storage.scratch.iterdir()) == unfinished
        assert len(unfinished) == 2


def test_two_users_of_one_machine_are_no_leftovers_of_each_other(s3: str, tmp_path: Path) -> None:
    users = [Store(s3, cache=tmp_path / name) for name in "ab"]
    with users[0].writing("armorm run") as writer:
        with pytest.raises(StoreBusy, match="armorm run"), users[1].writing("armorm gc", kind="gc"):
            pass
        with users[1].writing("armorm embed"):
            pass
        assert [lease.run_id for lease in leases.active(users[0].storage)] == [writer.run.run_id]


def test_a_writer_that_begins_sweeps_only_what_nobody_works_on(anywhere: Store) -> None:
    mine = scratch_path(anywhere.storage)
    names = {mine.name: True, f"{os.getpid()}-01234567-89": False, "0123abcd-89": False, "whatever": False}
    for name in names:
        (anywhere.storage.scratch / name).write_bytes(b"..")
    with anywhere.writing("test"):
        assert {name: (anywhere.storage.scratch / name).exists() for name in names} == names


def test_snapshots_are_found_by_every_name(anywhere: Store) -> None:
    for run in "12":
        with anywhere.writing(run) as writer:
            for slot in "ab":
                put(writer, slot, f"{run} {slot}".encode())
    second, fourth = (anywhere.manifests.read(number) for number in (2, 4))
    with anywhere.writing("tag") as writer:
        writer.point("good", Pointer("snapshot", second.snapshot_id, 2, utc_now()))
    names = {"2": 2, second.snapshot_id[:10]: 2, "good": 2, "head": 5, "previous": 4, fourth.created_at: 4}
    names |= {utc_now()[:10]: 5, "2999-01-01": 5}
    assert {name: anywhere.snapshot(name).number for name in names} == names
    for unknown in ("6", "1999-01-01", "nothing", ""):
        with pytest.raises(NotInStore, match=rf"\bsnapshot {unknown},.*\bhead, previous\b"):
            anywhere.snapshot(unknown)
    assert anywhere.head().snapshot_id == fourth.snapshot_id  # a name is no content


@pytest.mark.parametrize("name", ["head", "deadbeef", "Prod", "1", "a b", ""])
def test_a_name_that_could_be_something_else_is_refused(store: Store, writer: Writer, name: str) -> None:
    with pytest.raises(StoreError, match=rf"\bname {name};.*\bhead, "):
        writer.point(name, Pointer("snapshot", "x", 1, utc_now()))


def test_credentials_are_in_no_message() -> None:
    assert without_credentials("s3://user:secret@bucket/folder/?token=secret") == "s3://bucket/folder"


@pytest.mark.parametrize("url", ["s3://", "ftp://host/x", "https://example.org/x"])
def test_an_address_that_is_no_store_is_one_line(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as error:
        open_storage(url, tmp_path).create("x", b"")
    assert "\n" not in str(error.value)


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=r"^s3://bucket/x: .*\bnetwork\b") as error:
        ObjectStorage("s3://bucket/x", tmp_path).read("x")
    assert "\n" not in str(error.value)


def test_threads_that_begin_at_once_share_the_marker_of_their_process(tmp_path: Path) -> None:
    for round in range(20):
        storage = open_storage(tmp_path / str(round))
        with ThreadPoolExecutor(16) as pool:
            paths = list(pool.map(lambda _, of=storage: scratch_path(of), range(16)))
        assert len({path.name.partition("-")[0] for path in paths}) == 1
        assert len(list(storage.scratch.glob("*.lock"))) == 1


def _marked(place: Path) -> str:
    """Where a forked process puts what is not finished."""
    return scratch_path(open_storage(place)).name


def test_a_forked_process_has_a_marker_of_its_own(tmp_path: Path) -> None:
    mine = scratch_path(open_storage(tmp_path / "store")).name
    server = multiprocessing.get_context("forkserver")
    with server.Pool(2) as pool:
        others = pool.map(_marked, [tmp_path / "store"] * 2)
    assert mine.partition("-")[0] not in {name.partition("-")[0] for name in others}


def test_a_place_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        open_storage(tmp_path / os.fsdecode(b"b\xff"))

"""The store through every fault of a disk: one scenario, and a fault at each of its steps in turn.

After each: the store opens, nothing in it is damaged, what was acknowledged is there, and the same scenario run again
ends as if nothing had happened. A commit that failed may be there too: what got lost is the answer, and only that.
"""

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from armorm.features.errors import StoreError
from armorm.features.store import Made, Recipe, Snapshot, Store, Writer, pointers, storage
from armorm.features.store.manifests import EMPTY
from armorm.features.upkeep.gc import RetentionSettings, collect
from armorm.features.upkeep.verify import verify
from tests.features.faults import Crash, Faults, Kind, LostRequests, faults, lost_requests
from tests.features.test_verify import build

LATER = datetime.now(UTC) + timedelta(days=100)

KEEP_ONE = RetentionSettings(keep_days=0, keep_last=1)


def put(store: Store, slot: str, content: str) -> tuple[Recipe, Made]:
    record = store.objects.put_bytes("json", content.encode())
    return Recipe(slot, "test", 1, {"content": content}, {}), Made({"record": record})


def build_all(store: Store, folder: Path) -> None:
    build(store, folder)


def commit_several(store: Store, folder: Path) -> None:
    with store.writing("test") as writer:
        for content in ("once", "twice"):
            writer.commit_all([put(store, slot, f"{slot} {content}") for slot in ("x/1", "x/2")])
        writer.commit_all([put(store, "x/3", "x/3")], remove=["x/1"])


def tag(store: Store, folder: Path) -> None:
    with store.writing("test") as writer:
        for name in ("good", "other"):
            pointers.tag(writer, name, store.head())
        pointers.untag(writer, "other")


def check(store: Store, folder: Path) -> None:
    assert verify(store).damages == ()


def clear(store: Store, folder: Path) -> None:
    for now in (LATER, LATER + timedelta(days=8)):  # the second time the trash is emptied
        with store.writing("test", kind="gc") as writer:
            collect(writer, KEEP_ONE, now=now)


Phase = Callable[[Store, Path], None]

PHASES: tuple[Phase, ...] = (build_all, commit_several, tag, check, clear)


def run(store: Store, folder: Path, phases: tuple[Phase, ...] = PHASES) -> None:
    for phase in phases:
        phase(store, folder)


@dataclass
class Acknowledged:
    """What the writers of this process were told is done."""

    snapshots: dict[int, str] = field(default_factory=dict)
    pointers: frozenset[str] = frozenset()

    def note(self, head: Snapshot) -> None:
        self.snapshots[head.number] = head.snapshot_id
        self.pointers = frozenset(head.pointers)

    def begin(self, head: Snapshot) -> None:
        self.snapshots.clear()
        self.note(head)


@pytest.fixture
def acknowledged(monkeypatch: pytest.MonkeyPatch) -> Acknowledged:
    """Filled by every change that returns."""
    noted, change = Acknowledged(), Writer._change

    def noting(writer: Writer, *args: Any) -> None:
        change(writer, *args)
        noted.note(writer.store.head())

    monkeypatch.setattr(Writer, "_change", noting)
    return noted


def assert_whole(store: Store, acknowledged: Acknowledged) -> None:
    """It opens, nothing is damaged, and nothing that was acknowledged is lost."""
    assert verify(store).damages == ()
    head, last = store.head(), max(acknowledged.snapshots)
    assert head.number - last in (0, 1)
    there = {snapshot.number: snapshot.snapshot_id for snapshot in (EMPTY, *store.history())}
    assert acknowledged.snapshots.items() <= there.items()
    if head.number == last:
        assert frozenset(head.pointers) == acknowledged.pointers


@pytest.fixture
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backbone is read from its folder once, not at every run."""
    from armorm.features.embedding import backbone

    load, loaded = backbone.load, {}

    def once(settings: Any, fingerprint: Any) -> Any:
        return loaded.setdefault(settings.path, None) or loaded.setdefault(
            f"{settings.path} ", load(settings, fingerprint)
        )

    monkeypatch.setattr(backbone, "load", once)


@dataclass
class Course:
    """The undisturbed run: the store before each phase, the steps of each, and the end."""

    folder: Path
    states: list[Path]
    steps: list[list[str]]
    snapshot_id: str

    @property
    def n_steps(self) -> int:
        return sum(map(len, self.steps))

    def all_steps(self) -> Iterator[tuple[int, int]]:
        """The phase, and the number of the step in it."""
        return ((phase, at) for phase, steps in enumerate(self.steps) for at in range(1, len(steps) + 1))


def undisturbed(watch: Faults, folder: Path) -> Course:
    store, states, steps = Store(watch.root), [], []
    for number, phase in enumerate(PHASES):
        states.append(folder / f"state {number}")
        if watch.root.exists():
            shutil.copytree(watch.root, states[-1])
        watch.begin()
        phase(store, folder)
        steps.append(list(watch.steps))
    return Course(folder, states, steps, store.head().snapshot_id)


def strike(course: Course, watch: Faults, phase: int, at: int, kind: Kind) -> Store:
    """Runs from a phase on, with a fault at one of its steps; gives the store as its process knows it."""
    watch.begin()
    shutil.rmtree(watch.root, ignore_errors=True)
    if course.states[phase].exists():
        shutil.copytree(course.states[phase], watch.root)
    store = Store(watch.root)
    watch.begin(at, kind)
    try:
        run(store, course.folder, PHASES[phase:])
    except (OSError, Crash):
        pass
    except Exception as error:
        if not isinstance(error.__cause__, OSError):  # else it only wraps the fault
            raise
    assert watch.struck, (phase, at, kind)
    watch.begin()
    if kind == "crash":
        pass_on_to_another_process()
        return Store(watch.root)
    return store


def pass_on_to_another_process() -> None:
    """What this one has left unfinished is nobody's from here on."""
    for descriptor in storage._markers.values():
        os.close(descriptor)  # which lets go of the marker's lock, as the end of the process does
    storage._begin_anew()


def state_of(store: Store) -> object:
    """All that the next run can depend on: names and content, without times."""
    snapshots = [(s.number, s.snapshot_id, s.expired, sorted(s.pointers), sorted(s.artifacts)) for s in store.history()]
    files = [file.name for folder in ("objects", "trash") for file in store.storage.files(folder)]
    return repr((snapshots, sorted(files)))


def strike_at(steps: list[tuple[int, int, Kind]], course: Course, watch: Faults, acknowledged: Acknowledged) -> int:
    """Strikes at each of those steps; gives the number of different states that a fault left."""
    gone_on: set[object] = set()
    for phase, at, kind in steps:
        acknowledged.begin(Store(course.states[phase]).head())
        store = strike(course, watch, phase, at, kind)
        where = f"{kind} at {course.steps[phase][at - 1]}, step {at} of {PHASES[phase].__name__}"
        try:
            assert_whole(Store(watch.root), acknowledged)
            if (state := (kind == "crash", state_of(Store(watch.root)))) in gone_on:
                continue  # from the same files the same follows
            gone_on.add(state)
            run(store, course.folder)
            assert store.head().snapshot_id == course.snapshot_id
            assert Store(watch.root).head().pointers.keys() == {"good"}
            assert verify(Store(watch.root)).damages == ()
            pass_on_to_another_process()
            with Store(watch.root).writing("test"):
                assert not list((watch.root / "tmp").glob("*-*"))
        except Exception as error:
            error.add_note(where)
            raise
    return len(gone_on)


@pytest.mark.usefixtures("loaded_once")
def test_faults_now_and_then(tmp_path: Path, acknowledged: Acknowledged) -> None:
    with faults(tmp_path / "store") as watch:
        course = undisturbed(watch, tmp_path)
        kinds = get_args(Kind)
        some = [(*step, kinds[n % 4]) for n, step in enumerate(course.all_steps())][::31]
        strike_at(some, course, watch, acknowledged)


@pytest.mark.slow
@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.usefixtures("loaded_once")
def test_a_fault_at_every_step(kind: Kind, tmp_path: Path, acknowledged: Acknowledged) -> None:
    with faults(tmp_path / "store") as watch:
        course = undisturbed(watch, tmp_path)
        n_states = strike_at([(*step, kind) for step in course.all_steps()], course, watch, acknowledged)
    print(f"{kind}: {course.n_steps} steps, {n_states} different states after them")


def test_everything_is_synced_before_it_counts(tmp_path: Path) -> None:
    """At every commit, and at the end, no folder has a change that a power cut could undo."""
    changed: set[str] = set()
    with faults(tmp_path) as watch:
        run(Store(tmp_path / "new/store"), tmp_path, REMOTE)
    written = ""
    for what, _, name in (step.partition(" ") for step in watch.steps):
        of_store = name.removeprefix("new/store/")
        if what == "sync":
            changed.discard(name)
            written = "" if name == written else written
        elif what == "write":
            written = name
        elif of_store.startswith("tmp") or what == "create":
            continue  # nobody misses what is not finished, or a lock
        else:
            assert not written, f"{written} is not synced at {what} {name}"
            assert not (changed and of_store.startswith("snapshots/0")), f"{changed} at {what} {name}"
            changed.add(str(Path(name).parent))
    assert not changed


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """The kernel refuses every write past that, of whatever library."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("loaded_once")
def test_a_kernel_that_takes_no_more_bytes(tmp_path: Path, store: Store, acknowledged: Acknowledged) -> None:
    whole = Store(tmp_path / "whole")
    run(whole, tmp_path)
    # without the lock, whose size is another in each store, and the markers, which are empty
    files = [path for path in Path(whole.place).rglob("*") if path.is_file() and path.name != "lock"]
    sizes = sorted({path.stat().st_size for path in files if path.suffix != ".lock"})
    acknowledged.begin(EMPTY)
    for n_bytes in [0, *(size - 1 for size in sizes[::2])]:
        with largest_file(n_bytes), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            run(store, tmp_path)
        assert_whole(Store(store.place), acknowledged)
    run(store, tmp_path)
    assert store.head().snapshot_id == whole.head().snapshot_id


REMOTE: tuple[Phase, ...] = (commit_several, tag, check, clear)


def lose(address: str, folder: Path, at: int, watch: LostRequests, acknowledged: Acknowledged, **how: bool) -> str:
    """Runs over an object store with one request lost, and again; gives the id that it ends in."""
    store = Store(address, cache=folder / "cache")
    acknowledged.begin(EMPTY)
    watch.begin(at, **how)
    with suppress(StoreError):
        run(store, folder, REMOTE)
    watch.begin()
    assert_whole(Store(address, cache=folder / "another"), acknowledged)
    run(store, folder, REMOTE)
    assert verify(Store(address, cache=folder / "a third")).damages == ()
    return Store(address, cache=folder / "a third").head().snapshot_id


@pytest.mark.parametrize("took_effect", [False, True], ids=["request", "answer"])
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 23])
def test_a_request_is_lost(s3: str, every: int, took_effect: bool, tmp_path: Path, acknowledged: Acknowledged) -> None:
    with lost_requests() as watch:
        run(Store(f"{s3}/undisturbed", cache=tmp_path / "cache"), tmp_path, REMOTE)
        expected = Store(f"{s3}/undisturbed", cache=tmp_path / "cache").head().snapshot_id
        requests = list(watch.requests)
        for at in range(1, len(requests) + 1, every):
            address, folder = f"{s3}/{at}", tmp_path / str(at)
            found = lose(address, folder, at, watch, acknowledged, took_effect=took_effect)
            assert found == expected, f"{at}: {requests[at - 1]}"
    print(f"{len(requests)} requests")

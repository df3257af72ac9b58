"""On Ray as without it: the same snapshot, bit for bit, whoever dies meanwhile, wherever the store is."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from armorm.features.catalog.query import query
from armorm.features.catalog.views import connect
from armorm.features.embedding import on_ray
from armorm.features.embedding.backbone import load
from armorm.features.embedding.canary import Canaries
from armorm.features.embedding.chunks import Forwarder, Recipes, commit, cut
from armorm.features.embedding.embed import EmbedResult, EmbedSettings, Progress, embed_missing, find_missing
from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint
from armorm.features.embedding.unfinished import Unfinished
from armorm.features.embedding.vectors import judge
from armorm.features.errors import InputError, WorkerError
from armorm.features.store import Recipe, Store
from tests.features import tiny
from tests.features.test_embed import ingest

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray's own settings
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

HERE = EmbedSettings(token_budget=256, shard_conversations=40)
ON_RAY = replace(HERE, engine="ray", workers=2)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> BackboneSettings:
    return BackboneSettings(str(tiny.write_backbone(tmp_path_factory.mktemp("backbone"))))


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """One for all tests: it takes seconds to start."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def rows(n: int) -> list[str]:
    """Long answers, two a prompt: a shard is a second of work."""
    return [
        json.dumps({"prompt": f"p{i // 2}", "response": f"{i} " + "is here " * 50, "is_safe": i % 2 == 0})
        for i in range(n)
    ]


def fill(store: Store, folder: Path, n: int) -> None:
    with store.writing("test") as writer:
        ingest(writer, folder, rows(n))


def embed(store: Store, backbone: BackboneSettings, settings: EmbedSettings, **given) -> EmbedResult:  # type: ignore[no-untyped-def]
    with store.writing("test") as writer:
        return embed_missing(writer, backbone, settings, **given)


def workers() -> set[int]:
    """The processes below this one that hold a backbone, as the system lists them."""
    parents, found = dict[int, int](), set[int]()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if b"ray::MapWorker" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
        except OSError:  # it has ended
            continue

    def is_below(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and is_below(parents[pid]))

    return {pid for pid in found if is_below(pid)}


@pytest.mark.slow
def test_a_worker_that_is_killed_half_way_changes_nothing(
    ray: None, tmp_path: Path, backbone: BackboneSettings
) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    for store in (here, there):
        fill(store, tmp_path / "data", 480)
    expected = embed(here, backbone, HERE)
    assert expected.n_shards == 12
    seen: list[Progress] = []
    before, processes = workers(), set[int]()
    killed: list[int] = []

    def kill_one(done: Progress) -> None:
        seen.append(done)
        processes.update(workers() - before)
        # Each worker has been given chunks up to four ahead, and has not done all of those.
        if not killed and len(there.head().within("features")) == 4:
            killed.append(max(processes & workers()))
            os.kill(killed[0], signal.SIGKILL)

    result = embed(there, backbone, ON_RAY, on_progress=kill_one)
    assert killed
    assert len(processes) == 3  # another one took up what the dead one had at hand
    assert result == expected
    assert there.head().snapshot_id == here.head().snapshot_id
    assert query(there, "SELECT count(*), count(DISTINCT kind || id) FROM features").rows == [(720, 720)]
    assert (seen[-1].texts, seen[-1].tokens) == (seen[-1].total_texts, seen[-1].total_tokens)
    assert (seen[-1].total_texts, seen[-1].tokens) == (720, result.n_tokens)

    number = there.head().number
    assert embed(there, backbone, ON_RAY).n_shards == 0
    assert there.head().number == number


@pytest.mark.slow
def test_what_was_begun_without_ray_is_finished_with_it_in_a_bucket(
    ray: None, s3: str, tmp_path: Path, backbone: BackboneSettings
) -> None:
    whole, begun = Store(tmp_path / "whole"), Store(s3, cache=tmp_path / "cache")
    for store in (whole, begun):
        fill(store, tmp_path / "data", 160)
    embed(whole, backbone, HERE)

    def stop(done: Progress) -> None:
        if len(begun.head().within("unfinished")) == 2 and begun.head().within("features"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(begun, backbone, replace(HERE, save_every_s=0), on_progress=stop)
    result = embed(begun, backbone, ON_RAY)
    assert (result.n_shards, result.n_conversations) == (3, 120)
    assert begun.head().within("unfinished") == {}
    assert begun.head().snapshot_id == whole.head().snapshot_id


class Dying:
    """Dies of whatever it is given."""

    def __init__(self, *given: object) -> None: ...

    def __call__(self, row: pa.Table) -> pa.Table:
        os.kill(os.getpid(), signal.SIGKILL)
        return row


@pytest.mark.slow
def test_a_chunk_that_every_worker_dies_of_ends_the_run(
    ray: None, tmp_path: Path, backbone: BackboneSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    fill(store, tmp_path / "data", 4)
    monkeypatch.setattr(on_ray, "Worker", Dying)
    with pytest.raises(WorkerError, match=r"\b4 deaths\b.*\btoken_budget\b") as error:
        embed(store, backbone, ON_RAY)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_worker_tells_why_it_cannot_go_on_and_shows_its_canaries(ray: None, backbone: BackboneSettings) -> None:
    fingerprint = read_fingerprint(backbone)
    others = replace(fingerprint, record={**fingerprint.record, "weights": {}})
    shown: list[Canaries] = []
    given = {"token_budget": 256, "workers": 1, "check": shown.append}
    ids = rf"\b{fingerprint.backbone_id[:12]} .*\b{others.backbone_id[:12]}\b"
    with pytest.raises(WorkerError, match=rf"^worker .* \(pid \d+\): .*{ids}"):
        list(on_ray.forward_on_ray([], backbone, others, **given))  # type: ignore[arg-type]
    assert shown == []
    assert list(on_ray.forward_on_ray([], backbone, fingerprint, **given)) == []  # type: ignore[arg-type]
    assert [len(canaries.vectors_ND) for canaries in shown] == [64]


def test_chunks_at_work_count_once_and_not_after_they_were_taken() -> None:
    tally = on_ray.Tally()
    tally.tell(0, 3, 30)
    tally.tell(1, 5, 50)
    tally.tell(1, 7, 70)
    assert tally.at_work(0) == (10, 100)
    tally.tell(1, 2, 20)  # its worker has died, and another one began anew
    assert tally.at_work(1) == (2, 20)
    assert tally.at_work(2) == (0, 0)


def test_waiting_is_told_while_a_row_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only then; an error of the rows arrives as it was."""
    told, enough = 0, threading.Event()

    def waiting() -> None:
        nonlocal told
        told += 1
        enough.set()

    def rows() -> Iterator[on_ray.Failed]:
        yield on_ray.Failed("first", "")
        enough.wait()
        yield on_ray.Failed("second", "")
        raise WorkerError("third", "gone")

    monkeypatch.setattr(on_ray, "EVERY_S", 0.01)
    awaited = on_ray._awaited(rows(), waiting)
    assert [next(awaited).worker for _ in range(2)] == ["first", "second"]
    assert told
    with pytest.raises(WorkerError):
        next(awaited)


ALONE = """
import os
from armorm.features.embedding import on_ray

with on_ray._running(1, on_gpu=False) as ray:
    assert ray.get(ray.remote(lambda: os.nice(0)).remote()) == os.nice(0)
    try:
        ray.get(ray.remote(max_retries=0)(lambda: os._exit(1)).remote())
    except ray.exceptions.WorkerCrashedError:
        pass
"""


@pytest.mark.slow
def test_what_is_started_here_is_no_background_job_and_prints_nothing(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", ALONE]
    done = subprocess.run(command, capture_output=True, text=True, env=environment | {"HOME": str(tmp_path)})
    assert (done.returncode, done.stdout) == (0, "")
    assert [line for line in done.stderr.splitlines() if not line.startswith("Ray: ")] == []


@pytest.mark.slow
def test_progress_is_told_before_the_first_chunk_comes_back(
    ray: None, tmp_path: Path, backbone: BackboneSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one shard: without what workers tell there would be nothing to see until the end."""
    monkeypatch.setattr(on_ray, "EVERY_S", 0.05)
    store = Store(tmp_path / "store")
    fill(store, tmp_path / "data", 480)
    seen: list[Progress] = []
    result = embed(store, backbone, replace(ON_RAY, shard_conversations=1000, workers=1), on_progress=seen.append)
    assert result.n_shards == 1
    assert any(0 < one.texts < 720 for one in seen)
    assert (seen[-1].texts, seen[-1].tokens) == (720, result.n_tokens)


def test_a_chunk_that_is_done_twice_counts_once(tmp_path: Path, backbone: BackboneSettings) -> None:
    fingerprint, store = read_fingerprint(backbone), Store(tmp_path / "store")
    fill(store, tmp_path / "data", 4)
    forwarder = Forwarder(load(backbone, fingerprint), token_budget=256)
    recipes = Recipes(Recipe("features/x", "embed", 1, {}, {}), Recipe("rejected/x", "rejected", 1, {}, {}))
    with connect(store) as catalog, store.writing("test") as writer:
        find_missing(catalog, fingerprint.backbone_id, "float32")
        (chunk,) = cut(catalog, 100)
        unfinished = Unfinished(writer, "unfinished/x", {}, every_s=60)
        numbers = []
        for _ in range(2):
            passes = forwarder.forward(chunk, {}).passes
            embedded = judge([pair for one in passes for pair in one.vectors], "float32")
            commit(writer, fingerprint, embedded, chunk, recipes, "float32", unfinished, {}, started=0)
            numbers.append(store.head().number)
    assert len(embedded.features) == 6
    assert numbers[0] == numbers[1]


def test_an_address_where_nobody_is_is_one_line(
    tmp_path: Path, backbone: BackboneSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    store = Store(tmp_path / "store")
    fill(store, tmp_path / "data", 4)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv(on_ray.ADDRESS, "127.0.0.1:1")
    with pytest.raises(InputError, match=r"^RAY_ADDRESS: .*\b127\.0\.0\.1:1\b"):
        embed(store, backbone, ON_RAY)


def test_without_ray_there_is_one_line_that_says_what_to_do(
    tmp_path: Path, backbone: BackboneSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    fill(store, tmp_path / "data", 4)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"\bray;.*`pip install 'armorm\[ray\]'`") as error:
        embed(store, backbone, ON_RAY)
    assert "\n" not in str(error.value)

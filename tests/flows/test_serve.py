"""The deployments on a real server: on schedules and on events, killed, cancelled, two at once."""

import gzip
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from armorm.features.catalog.query import query
from armorm.features.errors import StoreBusy
from armorm.features.store import Store
from armorm.features.upkeep.verify import verify
from armorm.flows.configuration.settings import load_settings
from tests import prefect_server, s3_server
from tests.flows.deployed import CODE, Deployed, project, seconds, wait_until

Deploy = Callable[..., Deployed]


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[prefect_server.Server]:
    """One server for all of these tests."""
    with prefect_server.serve(tmp_path_factory.mktemp("prefect") / "home") as server:
        yield server


@pytest.fixture
def deploy(prefect: prefect_server.Server, sample: Path, tmp_path: Path) -> Iterator[Deploy]:
    """Makes projects whose deployments have names of their own, and ends the processes that serve them."""
    made: list[Deployed] = []

    def make(config: Path | None = None, **environment: str) -> Deployed:
        name = f"{tmp_path.name}-{len(made)}"
        config = config or project(tmp_path / name, sample)
        made.append(Deployed(prefect, config, {"ARMORM_SCHEDULE__NAME": name} | environment))
        return made[-1]

    yield make
    for one in made:
        one.end()


def store_of(deployed: Deployed) -> Store:
    return load_settings(deployed.config).open_store()


def edit_a_row(deployed: Deployed) -> None:
    """Another answer in the first row of HelpSteer that can be read."""
    path = deployed.config.parent / "sample" / "data" / "helpsteer" / "train.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).split(b"\n")
    row = json.loads(lines[0])
    row["response"] += " And this was added."
    path.write_bytes(gzip.compress(b"\n".join([json.dumps(row).encode(), *lines[1:]])))


def embedded(messages: list[str]) -> tuple[int, int]:
    """Conversations and prompts that a run says it has embedded."""
    (found,) = (m for m in (re.search(r"(\d+) conversations and (\d+) prompts embedded", x) for x in messages) if m)
    return int(found[1]), int(found[2])


def made_twice(store: Store) -> int:
    """Vectors beyond one for each text."""
    return int(query(store, "SELECT count(*) - count(DISTINCT (kind, id)) FROM features").rows[0][0])


def test_an_ingest_on_a_schedule_is_followed_by_an_embedding_and_ends_on_sigterm(deploy: Deploy) -> None:
    deployed = deploy()
    deployed.start(ingest="10s")
    ingest = deployed.wait_for("ingest", "Completed")[0]
    (embed,) = deployed.wait_for("embed", "Running", "Completed")
    assert {run["name"] for run in (ingest, embed)} == {
        f"{stage} {deployed.config.parent.name}" for stage in ("ingest", "embed")
    }
    assert deployed.stop() >= 0
    assert verify(store_of(deployed)).damages == ()
    assert list((deployed.config.parent / "store" / "leases").iterdir()) == []


@pytest.mark.slow
def test_three_scheduled_runs_do_the_work_then_nothing_then_what_has_changed(deploy: Deploy) -> None:
    deployed = deploy()
    deployed.start(run="10s")
    first, second = deployed.wait_for("run", "Completed", n=2)[:2]
    store = store_of(deployed)
    before, model = store.head(), store.find("model").artifact_id
    assert embedded(deployed.messages(first))[0] > 1000
    assert embedded(deployed.messages(second)) == (0, 0)
    assert "nothing to do" in " ".join(deployed.messages(second))
    print(f"the first run took {seconds(first):.1f} s, the second {seconds(second):.1f} s")

    edit_a_row(deployed)
    wait_until(lambda: "evaluate" in changed(store, before.number), "another model", deployed.log)
    deployed.wait_for("run", "Completed", n=len(deployed.runs("run", "Completed")) + 1)
    third = next(run for run in deployed.runs("run", "Completed") if worked(deployed, run, first))
    assert embedded(deployed.messages(third)) == (1, 0)
    assert store.find("model").artifact_id != model
    assert made_twice(store) == 0
    print(f"the third took {seconds(third):.1f} s")

    ran = sorted((run["start_time"], run["end_time"]) for run in deployed.runs("run", "Completed"))
    assert all(one[1] <= other[0] for one, other in pairwise(ran))
    assert deployed.runs("run", "Cancelled")  # due while another one was at work
    keys = {artifact["key"] for artifact in deployed.call("artifacts/filter", {"limit": 200})}
    assert {"armorm-report", "armorm-held-out-pairs"} <= keys


def changed(store: Store, since: int) -> set[str]:
    """Slots that were committed after a snapshot, by their first name."""
    then = store.manifests.read(since).artifacts
    return {slot.split("/")[0] for slot, a in store.head().artifacts.items() if then.get(slot) != a}


def worked(deployed: Deployed, run: dict[str, Any], after: dict[str, Any]) -> bool:
    return bool(run["start_time"] > after["start_time"] and embedded(deployed.messages(run)) != (0, 0))


@pytest.mark.slow
def test_a_killed_worker_is_followed_by_a_run_that_goes_on(deploy: Deploy) -> None:
    deployed = deploy()
    store = store_of(deployed)
    for stage in ("ingest", "features", "regress"):
        deployed.start(run="5s")
        began = time.monotonic()
        wait_for_commit(deployed, stage)
        print(f"a run that goes on: {time.monotonic() - began:.0f} s after the start to a commit of {stage}")
        deployed.kill()
        assert verify(store).damages == ()
    deployed.start(run="5s")
    deployed.wait_for("run", "Completed")
    assert len(deployed.wait_for("run", "Crashed", n=3)) == 3
    assert deployed.runs("run", "Running")[1:] == []
    assert verify(store).damages == ()
    assert made_twice(store) == 0
    assert store.find("evaluate")


@pytest.mark.slow
def test_sigterm_and_a_cancel_stop_at_a_commit_and_the_next_run_goes_on(deploy: Deploy) -> None:
    deployed = deploy()
    store = store_of(deployed)
    deployed.start(run="5s")
    for how in ("cancel", "SIGTERM"):
        wait_for_commit(deployed, "features")
        (run,) = deployed.runs("run", "Running")
        began = time.monotonic()
        if how == "cancel":
            deployed.call(f"flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
            wait_until(lambda: is_free(store), "end of the run", deployed.log, 0.05)
            print(f"cancel: the store was free {time.monotonic() - began:.1f} s later")
            wait_until(lambda one=run: state_of(deployed, one) == "Cancelled", "cancelled run", deployed.log)
        else:
            print(f"SIGTERM: the process had ended {deployed.stop():.1f} s later")
            assert state_of(deployed, run) in ("Cancelled", "Crashed")
        assert verify(store).damages == ()
    deployed.start(run="5s")
    deployed.wait_for("run", "Completed")
    assert verify(store).damages == ()
    assert made_twice(store) == 0


def wait_for_commit(deployed: Deployed, first: str) -> None:
    """Until there is one slot more, or another artifact in one, whose name begins so."""
    store = store_of(deployed)

    def ids() -> set[str]:
        found = store.head().artifacts.items()
        return {artifact.artifact_id for slot, artifact in found if slot.split("/")[0] == first}

    known = ids()
    wait_until(lambda: bool(ids() - known), f"commit of {first}", deployed.log, 0.02)


def state_of(deployed: Deployed, run: dict[str, Any]) -> str:
    return next(now["state"]["name"] for now in deployed.runs("run") if now["id"] == run["id"])


def is_free(store: Store) -> bool:
    """Whether nobody writes to a store."""
    try:
        with store.writing("test"):
            return True
    except StoreBusy:
        return False


@pytest.mark.slow
def test_workers_run_what_prefect_yaml_says(deploy: Deploy) -> None:
    deployed = deploy()
    folder, prefect = deployed.config.parent, [sys.executable, "-m", "prefect", "--no-prompt"]

    def do(*command: str) -> None:
        subprocess.run(command, check=True, cwd=folder, env=deployed.variables(), capture_output=True)

    do(sys.executable, "-c", CODE, "serve", "--write", "prefect.yaml", "--pool", folder.name)
    do(*prefect, "work-pool", "create", folder.name, "--type", "process")
    do(*prefect, "deploy", "--all")
    do(sys.executable, "-c", CODE, "serve", "--automation")
    deployments = {of["name"]: of for of in deployed.call("deployments/filter", {"limit": 200})}
    assert {f"{folder.name}-{stage}" for stage in ("ingest", "embed", "train", "run")} <= deployments.keys()
    with deployed.log.open("ab") as log:
        deployed.process = subprocess.Popen(
            [*prefect, "worker", "start", "--pool", folder.name],
            cwd=folder,
            env=deployed.variables(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deployed.call(f"deployments/{deployments[f'{folder.name}-ingest']['id']}/create_flow_run", {})
    for stage in ("ingest", "embed"):
        deployed.wait_for(stage, "Completed")
    assert verify(store_of(deployed)).damages == ()
    assert made_twice(store_of(deployed)) == 0


@pytest.mark.slow
def test_two_deployments_at_once_do_no_work_twice(deploy: Deploy) -> None:
    deployed = deploy()
    store = store_of(deployed)
    deployed.start(run="10s", ingest="10s", train="15s")
    deployed.wait_for("run", "Completed")
    deployed.wait_for("ingest", "Completed")
    deployed.wait_for("train", "Completed")
    deployed.stop()
    require_done_once(store, [deployed])


@pytest.mark.slow
def test_two_workers_with_disks_of_their_own_share_a_bucket(deploy: Deploy, s3: str, tmp_path: Path) -> None:
    bucket = {name: os.environ[name] for name in (*s3_server.ENVIRONMENT, "AWS_ENDPOINT_URL")}
    workers = [deploy(**bucket), deploy(**bucket)]
    for worker in workers:
        text = worker.config.read_text().replace('store = "store"', f'store = "{s3}"\ncache = "cache"')
        worker.config.write_text(text)
        worker.start(run="10s")
    for worker in workers:
        worker.wait_for("run", "Completed")
        worker.stop()
    assert any("this run waits" in worker.log.read_text() for worker in workers)
    require_done_once(store_of(workers[0]), workers)


def require_done_once(store: Store, workers: list[Deployed]) -> None:
    """Every commit is in the chain, and what all runs together say to have embedded is what there is to embed."""
    assert verify(store).damages == ()
    assert store.manifests.numbers() == list(range(1, store.head().number + 1))
    assert made_twice(store) == 0
    told = [re.findall(r"(\d+) conversations and (\d+) prompts embedded", worker.log.read_text()) for worker in workers]
    there = query(store, "SELECT count(*) FROM features").rows[0][0]
    assert sum(int(n) for log in told for found in log for n in found) == there
    made = [snapshot.run.run_id for snapshot in store.history() if snapshot.run]
    assert len(made) == store.head().number


MARKER = "xylograph-quokka"

SECRETS = {
    "HF_TOKEN": "hf_planted4b1f",
    "AWS_SECRET_ACCESS_KEY": "planted-9c2e-secret",
    "OPENLINEAGE_API_KEY": "planted-77aa-key",
}


def plant(path: Path, names: tuple[str, ...]) -> None:
    """Puts the marker into the texts of every row, also of those that cannot be read, and adds one that is rejected."""
    text = gzip.decompress(path.read_bytes()).decode()
    for name in names:
        text = re.sub(rf'("{name}": *".*?[^\\])"', rf'\1 {MARKER}."', text)
    path.write_bytes(gzip.compress(f'{text}{{"{names[0]}": "no row at all, {MARKER}"}}\n'.encode()))


@pytest.mark.slow
def test_neither_prefect_nor_a_log_holds_a_text_or_a_secret(
    prefect: prefect_server.Server, deploy: Deploy, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed = deploy(**SECRETS)
    data = deployed.config.parent / "sample" / "data"
    plant(data / "helpsteer" / "train.jsonl.gz", ("prompt", "response"))
    for path in sorted((data / "hh-rlhf").rglob("train.jsonl.gz")):
        plant(path, ("chosen", "rejected"))
    deployed.start(run="10s", verify="10s")
    deployed.wait_for("run", "Completed")
    deployed.wait_for("verify", "Completed")
    broken = data / "helpsteer" / "train.jsonl.gz"
    broken.write_bytes(gzip.compress(f'{{"prompt": "{MARKER}", "response'.encode()))
    deployed.wait_for("run", "Failed")
    deployed.stop()

    store = store_of(deployed)
    assert query(store, f"SELECT count(*) FROM rejects WHERE raw LIKE '%{MARKER}%'").rows[0][0] > 0
    pages = list((deployed.config.parent / "models").rglob("report.html"))
    assert any(MARKER in page.read_text() for page in pages)  # the marked texts are among the worst mistakes
    texts = query(store, "SELECT DISTINCT unnest(messages).content FROM conversations").rows
    said = {line[:40].encode() for (text,) in texts for line in text.splitlines()[:1] if len(line) >= 30}
    assert len(said) > 1000
    files = [*prefect.home.rglob("*"), deployed.log]
    for file in (path for path in files if path.is_file()):
        content = file.read_bytes()
        for secret in (MARKER, *SECRETS.values()):
            assert secret.encode() not in content, f"{secret} in {file}"
        assert not [line for line in said if line in content], file


@pytest.mark.slow
def test_fifty_runs_without_work_cost_nothing(deploy: Deploy) -> None:
    deployed = deploy(PREFECT_RUNNER_POLL_FREQUENCY="1")
    deployed.start(run="5s")
    deployed.wait_for("run", "Completed", n=5)
    store, (size, memory) = store_of(deployed), weigh(deployed)
    number, files = store.head().number, len(store.manifests.numbers())
    for n in range(10, 51, 10):
        deployed.wait_for("run", "Completed", n=n)
    after, later = weigh(deployed)
    assert (store.head().number, len(store.manifests.numbers())) == (number, files)
    assert after == size
    print(f"memory of the serving process: {memory / 1e6:.0f} MB after 5 runs, {later / 1e6:.0f} MB after 50")
    assert later <= 1.1 * memory


def weigh(deployed: Deployed) -> tuple[int, int]:
    """Bytes of the store between two runs, and of the serving process in memory."""
    assert deployed.process
    with store_of(deployed).writing("test", wait_s=60):
        folder = deployed.config.parent / "store"
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and "leases" not in path.parts)
        status = Path(f"/proc/{deployed.process.pid}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident
    return size, 1024 * int(resident[1])

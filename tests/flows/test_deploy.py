"""The server for more than one person, as far as one machine goes: every part is a real one, in a process of its own.

PostgreSQL, a Prefect server on it, a worker that gets its runs from there, an S3-compatible store, Ray for embedding.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from armorm.features.catalog.query import query
from armorm.features.store import Store
from armorm.features.upkeep.verify import verify
from tests import postgres, prefect_server, s3_server
from tests.flows.conftest import write_config
from tests.prefect_server import Server

pytestmark = pytest.mark.slow

PATH = os.pathsep.join([str(Path(__file__).parent.parent.parent), os.environ.get("PYTHONPATH", "")])
ARMORM = "import sys; sys.argv[0] = 'armorm'; from armorm.flows.cli.program import main; main()"
SECRET = "planted-secret-4711"
WAITS_S = 900
ENDED = ("COMPLETED", "FAILED", "CRASHED")


def call(server: Server, *words: str, cwd: Path) -> None:
    """A program of this environment, as an administrator calls it."""
    ended = subprocess.run([sys.executable, *words], cwd=cwd, env=server.environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@contextmanager
def worker(server: Server, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker for the pool `armorm`, stopped as systemd stops it."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "armorm", "--name", "one"]
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=server.environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def ask(server: Server, path: str, **body: Any) -> Any:
    """An answer of the server's API."""
    answer = httpx.post(f"{server.url}/{path}", json=body, auth=("armorm", SECRET))
    answer.raise_for_status()
    return answer.json()


def wait_for_a_run(server: Server, *, n_ended: int) -> list[dict[str, Any]]:
    """The runs that have come to an end, when there are so many."""
    deadline = time.monotonic() + WAITS_S
    while time.monotonic() < deadline:
        runs = ask(server, "flow_runs/filter", flow_runs={"state": {"type": {"any_": ENDED}}}, sort="START_TIME_ASC")
        if len(runs) >= n_ended:
            return list(runs)
        time.sleep(1)
    raise TimeoutError(f"fewer than {n_ended} runs have ended in {WAITS_S} s")


def test_a_scheduled_run_of_a_deployment_from_end_to_end(tmp_path: Path, sample: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    config = write_config(tmp_path, sample)
    with postgres.serve() as database, s3_server.serve() as s3:
        text = config.read_text()
        text = text.replace('store = "store"', f'store = "s3://{s3_server.BUCKET}/deployed"\ncache = "cache"')
        text = text.replace('engine = "local"', 'engine = "ray"')
        for stage in ("ingest", "train", "verify", "gc"):
            text = text.replace(f"\n{stage} = ", f"\n{stage} = ''  # ", 1)
        config.write_text(text.replace('\nrun = ""', '\nrun = "20s"', 1))
        credentials = s3_server.ENVIRONMENT | {"AWS_ENDPOINT_URL": s3, "AWS_SECRET_ACCESS_KEY": SECRET}
        settings = {
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
            "PREFECT_SERVER_API_AUTH_STRING": f"armorm:{SECRET}",
            "PREFECT_API_AUTH_STRING": f"armorm:{SECRET}",
            "PYTHONPATH": PATH,
            **credentials,
        }
        with prefect_server.serve(tmp_path / "server", database_url=database, **settings) as server:
            call(server, "-c", ARMORM, "serve", "--write", "prefect.yaml", "--config", str(config), cwd=tmp_path)
            call(server, "-m", "prefect", "work-pool", "create", "armorm", "--type", "process", cwd=tmp_path)
            call(server, "-m", "prefect", "--no-prompt", "deploy", "--all", cwd=tmp_path)
            with worker(server, tmp_path):
                runs = wait_for_a_run(server, n_ended=2)

            first, second = runs[:2]
            assert [run["state_type"] for run in (first, second)] == ["COMPLETED", "COMPLETED"]
            assert first["auto_scheduled"]
            assert (
                first["end_time"] <= second["start_time"]
            )  # the schedule is faster than the run, and nothing overlaps
            assert httpx.post(f"{server.url}/flow_runs/filter", json={}).status_code == 401
            states = {run["state_name"] for run in ask(server, "flow_runs/filter")}
            assert "Cancelled" in states or first["total_run_time"] < 20
            kept = {one["key"] for one in ask(server, "artifacts/filter")}
            assert {"armorm-report", "armorm-quality"} <= kept

        with pytest.MonkeyPatch.context() as patch:
            for name, value in credentials.items():
                patch.setenv(name, value)
            store = Store(f"s3://{s3_server.BUCKET}/deployed", cache=tmp_path / "another machine")
            assert verify(store).damages == ()
            ((n_runs, command),) = query(store, "SELECT count(DISTINCT run_id), any_value(command) FROM runs").rows
            assert (n_runs, command) == (1, "armorm run")  # the second one found nothing to do
            ((said,),) = query(store, "SELECT messages[-1].content FROM texts LIMIT 1").rows

        dumped = postgres.dump(database)
        assert b"armorm-report" in dumped
        logs = b"".join(path.read_bytes() for path in tmp_path.rglob("*.log"))
        for planted in (SECRET, json.dumps(said)[1:-1]):
            assert planted.encode() not in dumped + logs

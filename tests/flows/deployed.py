"""`armorm serve` in a process of its own beside a real server, and what the server's API says of the runs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.decoys import put_decoys
from tests.flows.conftest import write_config
from tests.prefect_server import Server

ROOT = Path(__file__).parent.parent.parent

CODE = "import sys; sys.argv[0] = 'armorm'; from armorm.flows.cli.program import main; main()"

NEVER = {f"ARMORM_SCHEDULE__{name}": "" for name in ("INGEST", "TRAIN", "VERIFY", "GC", "RUN", "FRESHNESS", "MAX_AGE")}

QUICK = {"PREFECT_RUNNER_POLL_FREQUENCY": "2", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}

PATIENCE_S = 600
"""Until a test gives up: nothing here says how fast a machine has to be."""


@dataclass
class Deployed:
    """A project, served by at most one process at a time."""

    server: Server
    config: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self, **schedule: str) -> None:
        """Serves what is named, `run="10s"` for one, and nothing else."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", CODE, "serve", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.config.parent,
                env=self.variables(**schedule),
            )

    def variables(self, **schedule: str) -> dict[str, str]:
        """The environment of its processes."""
        when = {f"ARMORM_SCHEDULE__{name.upper()}": value for name, value in schedule.items()}
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        return {**self.server.environment, "PYTHONPATH": path, **QUICK, **NEVER, **self.environment, **when}

    @property
    def log(self) -> Path:
        """All that the serving process and its runs have printed."""
        return self.config.parent / "serve.log"

    def stop(self) -> float:
        """SIGTERM; the seconds until the process has ended."""
        assert self.process
        began = time.monotonic()
        self.process.terminate()
        assert self.process.wait(timeout=PATIENCE_S) == 128 + signal.SIGTERM
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL to the process and to the runs that it has started."""
        assert self.process
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """After a test."""
        if self.process and self.process.poll() is None:
            self.kill()

    def call(self, path: str, body: Any) -> Any:
        """The server's answer."""
        return call(self.server, path, body)

    def runs(self, stage: str = "", *states: str) -> list[dict[str, Any]]:
        """Flow runs that have begun, of a stage and in certain states where these are given; the oldest first."""
        wanted: dict[str, Any] = {"start_time": {"is_null_": False}, "tags": {"all_": [stage]} if stage else None}
        wanted["state"] = {"name": {"any_": list(states)}} if states else None
        named = {"name": {"like_": f"{self.config.parent.name}-"}}
        body = {"sort": "START_TIME_ASC", "limit": 200, "deployments": named, "flow_runs": wanted}
        found: list[dict[str, Any]] = self.call("flow_runs/filter", body)
        return found

    def messages(self, run: Mapping[str, Any]) -> list[str]:
        """What a run that has ended and its tasks have logged, once all of it has reached the server."""
        body = {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200, "sort": "TIMESTAMP_ASC"}
        logs: list[dict[str, Any]] = []

        def complete() -> bool:
            logs[:] = self.call("logs/filter", body)
            return any(not log["task_run_id"] and log["message"].startswith("Finished in state") for log in logs)

        wait_until(complete, f"last line of {run['name']}", self.log)
        return [log["message"] for log in logs]

    def wait_for(self, stage: str, *states: str, n: int = 1) -> list[dict[str, Any]]:
        """The runs of a stage in these states, when there are so many."""
        wait_until(lambda: len(self.runs(stage, *states)) >= n, f"{n} runs of {stage} in {states}", self.log)
        return self.runs(stage, *states)


def call(server: Server, path: str, body: Any) -> Any:
    """The server's answer to a POST."""
    request = urllib.request.Request(
        f"{server.url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    while True:
        try:
            with urllib.request.urlopen(request) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            # SQLite was busy: Prefect's own client tries again, too; a question that took it too long changes nothing.
            if error.code != 503 and not (error.code == 500 and path.endswith("/filter")):
                raise
            time.sleep(1)


def wait_until(happened: Callable[[], bool], what: str, log: Path, every_s: float = 0.5) -> None:
    """Returns when it has happened."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what}; the end of {log}:\n{log.read_text()[-6000:]}")
        time.sleep(every_s)


def project(folder: Path, sample: Path) -> Path:
    """A configuration over data of its own, which a test may change, beside packages that are called like ours."""
    folder.mkdir(parents=True)
    shutil.copytree(sample, folder / "sample")
    put_decoys(folder)
    return write_config(folder, folder / "sample")


def seconds(run: Mapping[str, Any]) -> float:
    """How long a run took."""
    return float(run["total_run_time"])

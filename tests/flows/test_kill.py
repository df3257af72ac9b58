"""`armorm run` is killed after every commit and a moment later, and ends as if nothing had happened."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from armorm.features.store import Store
from tests.flows.conftest import write_config

pytestmark = pytest.mark.slow

CODE = "import sys; sys.argv[0] = 'armorm'; from armorm.flows.cli.program import main; main()"


def start(config: Path) -> subprocess.Popen[bytes]:
    program = [sys.executable, "-c", CODE, "run", "--config", str(config), "--format", "json"]
    output = (config.parent / "output.json").open("w")
    with output:
        return subprocess.Popen(program, stdout=output, stderr=subprocess.DEVNULL, start_new_session=True)


def run_to_the_end(config: Path) -> Store:
    assert start(config).wait() == 0
    assert json.loads((config.parent / "output.json").read_text())["report"]
    return Store(config.parent / "store")


def kill_after_next_commit(config: Path, delay_s: float) -> bool:
    """Kills the run soon after it has committed anything; False if it ended before."""
    store = Store(config.parent / "store")
    number = store.head().number
    process = start(config)
    while process.poll() is None and store.head().number == number:
        time.sleep(0.005)
    time.sleep(delay_s)
    if process.poll() is not None:
        return False
    process.send_signal(signal.SIGKILL)
    process.wait()
    return True


def made(store: Store) -> dict[str, str]:
    """Slot to artifact, without parts of shards: they come and go."""
    artifacts = store.head().artifacts.items()
    return {slot: artifact.artifact_id for slot, artifact in artifacts if not slot.startswith("unfinished/")}


def test_a_killed_run_goes_on_to_the_same_result(
    tmp_path: Path, sample: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    rng = random.Random(seed)
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
    whole, killed = (write_config(folder, sample) for folder in folders)
    expected = run_to_the_end(whole)

    store, kills, stages = Store(killed.parent / "store"), 0, set()
    artifacts: dict[str, str] = {}
    while kill_after_next_commit(killed, rng.uniform(0, 0.3)):
        kills += 1
        now = made(store)
        assert artifacts.items() <= now.items()  # nothing that was committed is lost or made again otherwise
        stages |= {slot.split("/")[0] for slot in now.keys() - artifacts.keys()}
        artifacts = now
    finished = run_to_the_end(killed)
    assert {"ingest", "features", "regress", "gate"} <= stages
    assert kills > 5
    assert made(finished) == made(expected)
    assert finished.head().snapshot_id == expected.head().snapshot_id
    models = [sorted((config.parent / "models").iterdir()) for config in (whole, killed)]
    assert [path.name for path in models[0]] == [path.name for path in models[1]]
    for name in ("model.safetensors", "model.json", "evaluation.json", "report.md"):
        assert (models[0][0] / name).read_bytes() == (models[1][0] / name).read_bytes()

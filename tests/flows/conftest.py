"""One temporary Prefect server for all flow tests, and a small sample to run them on."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from armorm.features.sample import write_sample
from armorm.features.sample.backbone import sample_texts, write_backbone
from armorm.features.store import Store
from armorm.flows.configuration.profiles import template


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prefect, away from the user's own profile."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that all processes of a run of the tests share; the first that needs it makes it, others wait."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(folder)
    return folder


def make_sample(folder: Path) -> None:
    write_sample(folder / "data", scale=0.05)
    write_backbone(folder / "backbone", sample_texts())


@pytest.fixture
def beside_server(server: None) -> dict[str, str]:
    """The environment of programs that use that server: one of their own takes them seconds to begin and to end."""
    from prefect.settings import PREFECT_API_URL

    return {"PREFECT_API_URL": PREFECT_API_URL.value()}


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A twentieth of the demo's data, and its backbone. Nobody may change it."""
    return made_once(tmp_path_factory, "sample", make_sample)


def artifacts(key: str, flow_run_id: UUID | None = None) -> list[str]:
    """What Prefect shows under a key, of a run or of all, the newest first."""
    from prefect.client.orchestration import get_client

    # Not by `read_artifacts`: of Prefect 3.8.8 it cannot leave out a filter of task runs, and not all have one.
    wanted: dict[str, Any] = {"key": {"any_": [key]}}
    if flow_run_id:
        wanted["flow_run_id"] = {"any_": [str(flow_run_id)]}
    body = {"artifacts": wanted, "sort": "CREATED_DESC", "limit": 200}
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/filter", json=body).json()
    return [str(artifact["data"]) for artifact in found]


SMALL = {
    "shard_conversations = 4096": "shard_conversations = 128",
    "hidden_dim = 1024": "hidden_dim = 16",
    "steps = 10_000": "steps = 30",
    "batch_size = 1024": "batch_size = 64",
    "n_resamples = 1000": "n_resamples = 50",
}


def write_config(folder: Path, sample: Path) -> Path:
    """A configuration of its own store over the shared sample."""
    text = template()
    for default, small in SMALL.items():
        text = text.replace(default, small)
    text = text.replace('"data/', f'"{sample}/data/').replace('path = "backbone"', f'path = "{sample}/backbone"')
    config = folder / "armorm.toml"
    config.write_text(text)
    return config


@dataclass(frozen=True)
class WholeRun:
    """A configuration, and how its one run has ended."""

    config: Path
    state: Any


EVENTS = "lineage.jsonl"
"""Where the whole run tells of its stages; the configuration that it leaves does not say so."""


def run_whole(folder: Path, sample: Path) -> WholeRun:
    from armorm.flows.pipeline import pipeline

    config = write_config(folder, sample)
    text = config.read_text()
    if find_spec("openlineage"):
        config.write_text(text.replace("\n[openlineage]", f'\n[openlineage]\nfile = "{EVENTS}"\n#'))
    state = pipeline(config, promote=True, return_state=True)
    config.write_text(text)
    return WholeRun(config, state)


@dataclass
class Pristine:
    """The folder of a whole run that nobody has used since; all processes share it."""

    folder: Path
    run: WholeRun | None
    """Where this process has made it."""


@pytest.fixture(scope="session")
def pristine(sample: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Pristine:
    ran: list[WholeRun] = []

    def make(folder: Path) -> None:
        request.getfixturevalue("server")
        ran.append(run_whole(tmp_path_factory.mktemp("ran"), sample))
        shutil.copytree(ran[0].config.parent, folder)

    folder = made_once(tmp_path_factory, "whole-run", make)
    return Pristine(folder, ran[0] if ran else None)


@pytest.fixture(scope="session")
def whole_run(pristine: Pristine, sample: Path, tmp_path_factory: pytest.TempPathFactory, server: None) -> WholeRun:
    """A whole run of this process, with what Prefect says of it. No test may change it."""
    return pristine.run or run_whole(tmp_path_factory.mktemp("ran"), sample)


@pytest.fixture(scope="session")
def ran(pristine: Pristine, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store of a whole run, for tests that only read it. Those that change it take `finished`."""
    folder = tmp_path_factory.mktemp("read") / "ran"
    shutil.copytree(pristine.folder, folder)
    return Store(folder / "store")


@pytest.fixture
def finished(pristine: Pristine, tmp_path: Path) -> Path:
    """The configuration of a copy of a whole run, for tests that change it."""
    folder = tmp_path / "finished"
    shutil.copytree(pristine.folder, folder)
    return folder / "armorm.toml"


@pytest.fixture
def config(tmp_path: Path, sample: Path) -> Path:
    return write_config(tmp_path, sample)

"""One temporary Prefect server for all flow tests, and a small sample to run them on."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
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


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A twentieth of the demo's data, and its backbone."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder / "data", scale=0.05)
    write_backbone(folder / "backbone", sample_texts())
    return folder


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


@pytest.fixture(scope="session")
def whole_run(sample: Path, tmp_path_factory: pytest.TempPathFactory, server: None) -> WholeRun:
    """A whole run. All tests share it and none may change it: those that do take `finished`."""
    from armorm.flows.pipeline import pipeline

    config = write_config(tmp_path_factory.mktemp("ran"), sample)
    return WholeRun(config, pipeline(config, promote=True, return_state=True))


@pytest.fixture(scope="session")
def ran(whole_run: WholeRun) -> Store:
    """The store of a whole run, for tests that only read it."""
    return Store(whole_run.config.parent / "store")


@pytest.fixture
def finished(whole_run: WholeRun, tmp_path: Path) -> Path:
    """The configuration of a copy of a whole run, for tests that change it."""
    folder = tmp_path / "finished"
    shutil.copytree(whole_run.config.parent, folder)
    return folder / whole_run.config.name


@pytest.fixture
def config(tmp_path: Path, sample: Path) -> Path:
    return write_config(tmp_path, sample)

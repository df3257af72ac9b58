"""Shared fixtures: one seed by default, `TEST_SEEDS=all` for twenty; a corpus whose answers can be computed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings

from armorm.features.catalog import bounded
from armorm.features.store import Store, Writer
from tests import s3_server as s3_server_module

# Tiny tensors: two threads that wait for each other are up to ten times slower than one. Read when torch loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before Prefect is imported anywhere: no telemetry, and nothing in the user's own profile.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Prefect gives a server of its own 20 seconds to start, which a busy machine does not.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

# How long an example takes says how busy the machine is, and nothing else.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

FIRST = ("flows/test_pipeline.py", "features/test_lineage.py", "flows/", "features/")
"""What takes long begins first, so that two processes end together; the first of it makes what others then share."""


def pytest_configure(config: pytest.Config) -> None:
    if not shuffled(config) and hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # of pytest-xdist, which begins with the file of most tests


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(Path(__file__).parent).as_posix()
        return next((rank for rank, beginning in enumerate(FIRST) if name.startswith(beginning)), len(FIRST))

    if not shuffled(config):
        items.sort(key=place)


def shuffled(config: pytest.Config) -> bool:
    """Whether the tests come in an order of their own each time."""
    return config.pluginmanager.hasplugin("randomly")


ROUNDING = float(os.environ.get("TEST_ROUNDING", "0"))
"""Relative size of what every vector is changed by, as another processor would round it: `TEST_ROUNDING=1e-6`."""


@pytest.fixture(autouse=ROUNDING > 0)
def rounded_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hidden states as of another processor: they differ from this one's, and are the same in every run."""
    import torch

    from armorm.features.embedding import backbone

    forward = backbone.forward

    def elsewhere(*arguments: Any) -> torch.Tensor:
        states_WD: torch.Tensor = forward(*arguments)
        wide_WD = states_WD.double()
        return (wide_WD * (1 + ROUNDING * torch.sin(1e6 * wide_WD))).to(states_WD.dtype)

    monkeypatch.setattr(backbone, "forward", elsewhere)


SEEDS = range(20) if os.environ.get("TEST_SEEDS") == "all" else range(1)


@pytest.fixture(params=SEEDS)
def seed(request: pytest.FixtureRequest) -> int:
    """A seed for whatever is random in a test."""
    return int(request.param)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries without the process of their own that takes half a second each; `test_bounded.py` is about that."""
    monkeypatch.setattr(bounded, "call", lambda function, arguments, limits: function(**arguments))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that nothing was written to."""
    return Store(tmp_path / "store")


@pytest.fixture
def writer(store: Store) -> Iterator[Writer]:
    """The right to commit to it."""
    with store.writing("test") as writer:
        yield writer


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3-compatible server on loopback."""
    with s3_server_module.serve() as address:
        yield address


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a store on that server that nothing was written to."""
    for name, value in {**s3_server_module.ENVIRONMENT, "AWS_ENDPOINT_URL": s3_server}.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server_module.BUCKET}/{uuid4().hex}"


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store can lie."""
    return str(tmp_path / "store") if request.param == "folder" else str(request.getfixturevalue("s3"))


@pytest.fixture
def anywhere(place: str, tmp_path: Path) -> Store:
    """A store that nothing was written to, in a folder or on the S3-compatible server."""
    return Store(place, cache=tmp_path / "cache")


@pytest.fixture
def elsewhere(place: str, tmp_path: Path) -> Store:
    """The same store as `anywhere`, as another machine sees it."""
    return Store(place, cache=tmp_path / "cache of another machine")

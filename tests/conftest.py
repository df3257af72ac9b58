"""Shared fixtures: one seed by default, `TEST_SEEDS=all` for twenty; a corpus whose answers can be computed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from features.store import Store, Writer

# Tiny tensors: two threads that wait for each other are up to ten times slower than one. Read when torch loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before Prefect is imported anywhere: no telemetry, and nothing in the user's own profile.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SEEDS = range(20) if os.environ.get("TEST_SEEDS") == "all" else range(1)


@pytest.fixture(params=SEEDS)
def seed(request: pytest.FixtureRequest) -> int:
    """A seed for whatever is random in a test."""
    return int(request.param)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that nothing was written to."""
    return Store(tmp_path / "store")


@pytest.fixture
def writer(store: Store) -> Iterator[Writer]:
    """The right to commit to it."""
    with store.writing("test") as writer:
        yield writer

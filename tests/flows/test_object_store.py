"""The pipeline with its store in a bucket: run, nothing to do, and read from a machine that has seen none of it."""

from pathlib import Path

import pytest

from armorm.features.catalog.query import query
from armorm.features.store import Store
from armorm.features.upkeep.verify import verify
from armorm.flows.configuration.settings import load_settings
from armorm.flows.pipeline import pipeline

pytestmark = pytest.mark.slow


def test_a_run_whose_store_is_in_a_bucket(
    config: Path, s3: str, server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARMORM_STORE", s3)
    monkeypatch.setenv("ARMORM_CACHE", str(tmp_path / "cache"))
    assert any(step.reason for step in pipeline(config))
    store = load_settings(config).open_store()
    number = store.head().number
    assert not any(step.reason for step in pipeline(config))
    assert store.head().number == number
    elsewhere = Store(s3, cache=tmp_path / "another machine")
    assert verify(elsewhere).damages == ()
    counts = query(elsewhere, "SELECT count(*), count(vector) FROM features").rows
    assert counts[0][0] == counts[0][1] > 0

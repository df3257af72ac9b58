"""After ingest: the checks and what they stop, the prompts that are left out, the tables that Prefect shows."""

import json
from pathlib import Path

import pytest

from armorm.features.catalog.query import query
from armorm.features.errors import QualityError
from armorm.features.store import Store
from armorm.flows.ingest import ingest
from armorm.flows.pipeline import pipeline
from tests.flows.conftest import artifacts

pytestmark = pytest.mark.usefixtures("server", "in_process")


def test_ingest_checks_and_compares_and_shows_both(config: Path) -> None:
    steps = {step.name: step for step in ingest(config)}
    assert "checks" in steps["quality"].what
    assert "nearly" in steps["contamination"].what
    tables = {key: json.loads(artifacts(key)[0]) for key in ("armorm-quality", "armorm-savings", "armorm-overlap")}
    assert {"check": "role_order", "severity": "stop", "rows": 0}.items() <= next(
        row for row in tables["armorm-quality"] if row["check"] == "role_order"
    ).items()
    assert "total" in {row["dataset"] for row in tables["armorm-savings"]}
    assert ("helpsteer", "helpsteer") in {(row["dataset"], row["other"]) for row in tables["armorm-overlap"]}
    assert [step.reason for step in ingest(config) if step.reason] == []


def test_a_check_that_stops_lets_nothing_be_embedded(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARMORM_CHECKS__SAFETY_CONTRADICTS_CATEGORIES", "stop")
    store = Store(config.parent / "store")
    for _ in range(2):  # the second time from the counts of the first
        with pytest.raises(QualityError, match=r"\bsafety_contradicts_categories \(\d+\)") as caught:
            pipeline(config)
        assert caught.value.found.keys() == {"safety_contradicts_categories"}
        assert store.head().within("features") == {}
    assert query(store, "SELECT count(*) > 0 FROM ratings").rows == [(True,)]

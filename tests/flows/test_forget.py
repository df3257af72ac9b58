"""The forget flow: one command takes a row out of the store, or says what still holds it."""

import re
from pathlib import Path

import pytest
import typer

from armorm.features.catalog.query import query
from armorm.features.store import Store
from armorm.flows.cli import lineage_commands as lineage
from armorm.flows.ingest import ingest
from armorm.flows.upkeep import forget

pytestmark = pytest.mark.usefixtures("server", "in_process")

KEPT = "SELECT DISTINCT source_row FROM ratings WHERE dataset = 'helpsteer' ORDER BY 1"


def test_a_row_is_read_out_of_the_store_at_once(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest(config)
    store = Store(config.parent / "store")
    (first,), (second,), *others = query(store, KEPT).rows
    forgot = forget(config, first, "asked")
    (step,) = forgot.steps
    assert step.name == "ingest helpsteer"
    assert "forgotten" in str(step.reason)
    assert forgot.as_json()["ingested"] == ["helpsteer"]
    assert (forgot.waiting, forgot.vectors) == ({}, [])
    assert "`armorm gc`" in forgot.lines[-1]
    assert query(store, KEPT).rows == [(second,), *others]
    assert [step for step in ingest(config) if step.reason and step.name.startswith("ingest")] == []

    monkeypatch.setenv("ARMORM_DATASETS__HELPSTEER__PATH", "nowhere")
    with pytest.raises(typer.Exit) as stopped:
        lineage.forget_key(second, "asked", config)
    assert stopped.value.exit_code == 1
    assert re.search(r"(?m)^helpsteer .*/nowhere\b.*`armorm ingest`", capsys.readouterr().out)
    monkeypatch.delenv("ARMORM_DATASETS__HELPSTEER__PATH")
    ingest(config)
    assert query(store, KEPT).rows == others

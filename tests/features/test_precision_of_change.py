"""What changed is embedded again, exactly that; labels are no part of what is embedded."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from armorm.features.catalog.diff import diff
from armorm.features.catalog.query import query
from armorm.features.conversation import SplitFractions, conversation_id, prompt_id, single_turn
from armorm.features.embedding.embed import EmbedSettings, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.ingest.dataset import DatasetFiles, ingest_dataset
from armorm.features.sources import find_source
from armorm.features.store import Store
from tests.features import tiny

pytestmark = pytest.mark.usefixtures("in_process")

N_ROWS = 100_000


def run(store: Store, path: Path, rows: list[dict[str, Any]], backbone: Path) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with store.writing("test") as writer:
        files = DatasetFiles(find_source("beavertails-30k"), path, {})
        ingest_dataset(writer, files, splits=SplitFractions())
        embed_missing(writer, BackboneSettings(str(backbone)), EmbedSettings())


@pytest.mark.slow
def test_one_edited_row_in_a_hundred_thousand(store: Store, tmp_path: Path) -> None:
    backbone = tiny.write_backbone(tmp_path / "backbone")
    rows = [{"prompt": f"p{n // 2}", "response": f"Answer {n}.", "is_safe": n % 3 == 0} for n in range(N_ROWS)]
    run(store, tmp_path / "rows.jsonl", rows, backbone)
    before = {tuple(row) for row in query(store, "SELECT kind, id FROM features").rows}
    assert len(before) == N_ROWS + N_ROWS // 2
    rows[70_000] |= {"response": "Another one."}
    run(store, tmp_path / "rows.jsonl", rows, backbone)
    found = diff(store, store.snapshot("previous"), store.snapshot("head"))
    assert [(row.change, row.file, row.line) for row in found.rows] == [("edited", "rows.jsonl", 70_001)]
    assert (found.conversations_added, found.conversations_removed) == (1, 1)
    added = {tuple(row) for row in query(store, "SELECT kind, id FROM features").rows} - before
    sql = "SELECT 'conversation', conversation_id FROM conversations WHERE messages[-1].content = 'Another one.'"
    assert added == set(query(store, sql).rows)


def vectors(store: Store) -> set[tuple[str, str]]:
    return {(kind, id) for kind, id in query(store, "SELECT kind, id FROM features").rows}


@pytest.mark.parametrize("n_rows", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_thousandth_of_the_rows_edited(store: Store, tmp_path: Path, seed: int, n_rows: int) -> None:
    backbone, path = tiny.write_backbone(tmp_path / "backbone"), tmp_path / "rows.jsonl"
    rows = [{"prompt": f"p{n}", "response": f"Answer {n}.", "is_safe": n % 3 == 0} for n in range(n_rows)]
    run(store, path, rows, backbone)
    before = vectors(store)
    rng = Random(seed)
    edited = rng.sample(range(n_rows), n_rows // 1000)
    for n in edited:
        rows[n] |= {"response": f"Another answer {n}."}
    run(store, path, rows, backbone)
    conversations = [single_turn(f"p{n}", f"Another answer {n}.") for n in edited]
    assert vectors(store) - before == {("conversation", conversation_id(one)) for one in conversations}
    before = vectors(store)
    for n in (relabelled := rng.sample(range(n_rows), n_rows // 1000)):
        rows[n] |= {"is_safe": not rows[n]["is_safe"]}
    run(store, path, rows, backbone)
    assert vectors(store) == before
    found = diff(store, store.snapshot("previous"), store.snapshot("head"))
    assert sorted(row.line for row in found.rows) == sorted(n + 1 for n in relabelled)
    assert (found.conversations_added, found.conversations_removed) == (0, 0)
    new = [{"prompt": f"new {n}", "response": "Answer.", "is_safe": True} for n in range(n_rows // 1000)]
    run(store, path, rows + new, backbone)
    asked = [single_turn(row["prompt"], row["response"]) for row in new]
    assert vectors(store) - before == {("conversation", conversation_id(one)) for one in asked} | {
        ("prompt", prompt_id(one)) for one in asked
    }

"""One edited row among 100,000: it is named, and its conversation alone is embedded again."""

import json
from pathlib import Path
from typing import Any

import pytest

from features.catalog import query
from features.conversation import SplitFractions
from features.diff import diff
from features.embedding.embed import EmbedSettings, embed_missing
from features.embedding.fingerprint import BackboneSettings
from features.ingest.dataset import DatasetFiles, ingest_dataset
from features.sources import find_source
from features.store import Store
from tests.features import tiny

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

"""Two datasets of one's own, by configuration alone, through to a model; then one row is edited."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from armorm.features.catalog.diff import diff
from armorm.features.catalog.query import query
from armorm.features.objectives import OBJECTIVES
from armorm.features.store import Store
from armorm.flows.pipeline import pipeline
from armorm.model.head import RewardHead
from armorm.release.report import load_report
from tests.flows.conftest import write_config

pytestmark = pytest.mark.usefixtures("server", "in_process")

OWN = """
[datasets.my-answers]
path = "answers.jsonl"
form = "ratings"
licence = "CC0-1.0"
prompt = "question"
response = "answer"
pairs_from = ["my-clarity"]

[datasets.my-answers.objectives]
my-clarity = { column = "clarity", lo = 1, hi = 5 }
my-tone = { column = "tone", lo = 0, hi = 100, rule = "min_max" }

[datasets.my-talks]
path = "talks.jsonl"
form = "pairs"
style = "transcript"
chosen = "winner"
rejected = "loser"
"""


def read(file: Path) -> list[dict[str, Any]]:
    rows = []
    for line in gzip.decompress(file.read_bytes()).decode().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture(scope="module")
def config(sample: Path, tmp_path_factory: pytest.TempPathFactory, server: None) -> Path:
    folder = tmp_path_factory.mktemp("own")
    config = write_config(folder, sample)
    config.write_text(config.read_text() + OWN)
    answers = [row for file in sorted((sample / "data/helpsteer").glob("*.gz")) for row in read(file)]
    keys = ("prompt", "response", "coherence", "helpfulness")
    write(
        folder / "answers.jsonl",
        [
            {"question": f"{p} Thanks!", "answer": r, "clarity": str(int(c) + 1), "tone": 25 * h}
            for p, r, c, h in ([row.get(key) for key in keys] for row in answers)
            if isinstance(c, int) and isinstance(h, int)
        ],
    )
    talks = read(sample / "data/hh-rlhf/helpful-base/train.jsonl.gz")
    write(folder / "talks.jsonl", [{"winner": row["chosen"], "loser": row.get("rejected", "")} for row in talks])
    pipeline(config)
    return config


def test_the_model_has_their_objectives_after_the_others(config: Path) -> None:
    (folder,) = (config.parent / "models").iterdir()
    model = RewardHead.load(folder)
    known = [name for name in OBJECTIVES if name in model.objectives]
    assert list(model.objectives) == [*known, "my-clarity", "my-tone", "preference"]
    assert len(model.objectives) + len(model.untrained) == 22
    assert model.scales["my-tone"] == {"my-answers": {"lo": 0.0, "hi": 100.0, "rule": "min_max"}}
    assert model.W_KD.shape[0] == model.transform_KK.shape[0] == len(model.objectives)


def test_they_stand_in_the_views_and_in_the_report(config: Path) -> None:
    store = Store(config.parent / "store")
    listed = query(store, "SELECT objective, position, dataset FROM objectives WHERE position > 18").rows
    assert listed == [("my-clarity", 19, "my-answers"), ("my-tone", 20, "my-answers")]
    known = query(store, "SELECT dataset, licence, ratings > 0, preferences > 0 FROM datasets WHERE upstream = 'own'")
    assert sorted(known.rows) == [("my-answers", "CC0-1.0", True, True), ("my-talks", "not stated", False, True)]
    report = {section.id: section for section in load_report(store).sections}
    assert {"my-clarity", "my-tone"} <= {str(row[0]) for row in report["objectives"].rows}


def test_one_edited_row_is_named_and_embedded_alone(config: Path, tmp_path: Path) -> None:
    config = shutil.copytree(config.parent, tmp_path / "own") / config.name
    path = config.parent / "answers.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[30]["answer"] = "An answer that nobody gave before."
    write(path, rows)
    store = Store(config.parent / "store")
    before = {tuple(row) for row in query(store, "SELECT kind, id FROM features").rows}
    ran = {step.name: step.what for step in pipeline(config) if step.reason}
    assert "ingest my-answers" in ran
    assert "ingest my-talks" not in ran
    found = diff(store, store.snapshot("previous"), store.snapshot("head"))
    assert [(row.dataset, row.change, row.line) for row in found.rows] == [("my-answers", "edited", 31)]
    added = {tuple(row) for row in query(store, "SELECT kind, id FROM features").rows} - before
    edited = "SELECT conversation_id FROM conversations WHERE messages[-1].content LIKE 'An answer that nobody%'"
    assert added == {("conversation", query(store, edited).rows[0][0])}

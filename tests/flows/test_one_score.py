"""One score: training, evaluation, SQL, `armorm score`, and the exported model where there is no armorm, agree."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from armorm import RewardModel
from armorm.features.catalog.query import query
from armorm.features.store import Store
from armorm.features.vectors.shards import FeatureReader
from armorm.flows.cli.app import app
from armorm.maths.score import score
from armorm.stages.data import load_pairs, reward_differences
from armorm.stages.model import load_model
from tests.flows.conftest import Pristine

pytestmark = pytest.mark.usefixtures("in_process")

ELSEWHERE = """
import json, sys
sys.modules["armorm"] = None  # importing it is an error
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

torch.set_num_threads(1)
folder, conversations = sys.argv[1], [json.loads(line) for line in open(sys.argv[2])]
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder)
texts = tokenizer.apply_chat_template(conversations, tokenize=False)


def scores(size, side):
    found = []
    for start in range(0, len(texts), size):
        batch = tokenizer(
            texts[start : start + size], return_tensors="pt", padding=True, padding_side=side, add_special_tokens=False
        )
        with torch.no_grad():
            found += model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0].tolist()
    return found


print(json.dumps({"alone": scores(1, "right"), "right": scores(16, "right"), "left": scores(16, "left")}))
"""


@pytest.fixture(scope="module")
def exported(pristine: Pristine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run, with an export of its model."""
    home = tmp_path_factory.mktemp("exported") / "home"
    shutil.copytree(pristine.folder, home)
    run(home, "export", "export", "--max-shard-size", "1MB")
    return home


@pytest.fixture
def home(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "home")


def run(home: Path, *words: str | Path) -> str:
    """Calls the program in that folder, in this process: imports take seconds."""
    with chdir(home):
        ended = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.stdout


@pytest.fixture
def folder(home: Path) -> Path:
    """An export of the newest model."""
    return home / "export"


@pytest.mark.parametrize("n_pairs", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_all_say_the_same(home: Path, folder: Path, tmp_path: Path, n_pairs: int) -> None:
    store = Store(home / "store")
    rows = query(
        store,
        f"""
        SELECT pair_id, chosen.messages, rejected.messages, score_chosen, score_rejected
        FROM pair_scores JOIN preferences USING (pair_id)
        JOIN conversations AS chosen ON chosen.conversation_id = chosen_id
        JOIN conversations AS rejected ON rejected.conversation_id = rejected_id
        WHERE NOT EXISTS (FROM features WHERE truncated AND id IN (chosen_id, rejected_id, preferences.prompt_id))
        ORDER BY pair_id LIMIT {n_pairs}
        """,
    ).rows
    assert len(rows) == n_pairs
    of_sql = np.array([score for *_, chosen, rejected in rows for score in (chosen, rejected)])
    assert of_sql.std() > 0.01

    file, messages = tmp_path / "pairs.jsonl", tmp_path / "messages.jsonl"
    file.write_text("".join(f"{json.dumps({'chosen': row[1], 'rejected': row[2]})}\n" for row in rows))
    messages.write_text("".join(f"{json.dumps(side)}\n" for row in rows for side in row[1:3]))

    for told in ([], ["--model", folder]):
        printed = [json.loads(line) for line in run(home, "score", file, "--format", "json", *told).splitlines()]
        assert not any(one["truncated"] for one in printed)
        np.testing.assert_allclose([one["score"] for one in printed], of_sql, atol=1e-5)

    given = {**os.environ, "PYTHONPATH": "", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    program = [sys.executable, "-c", ELSEWHERE, str(folder), str(messages)]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, env=given, check=True)
    exported: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for name, found in exported.items():
        np.testing.assert_allclose(found, of_sql, atol=1e-5, err_msg=name)

    margins = dict(zip((row[0] for row in rows), of_sql[::2] - of_sql[1::2], strict=True))
    of_training = training_margins(store)
    np.testing.assert_allclose([of_training[name] for name in margins], list(margins.values()), atol=1e-5)


def training_margins(store: Store) -> dict[str, float]:
    """What the loss is taken of, as in training: the score of the rewards' differences, in torch."""
    model = load_model(store, store.find("model"))
    pairs, reader = (load_pairs(store, backbone_id=model.backbone_id), FeatureReader(store, model.backbone_id))
    differences_PK = torch.from_numpy(reward_differences(reader, model.W_KD, pairs).astype(np.float32))
    with torch.no_grad():
        gating_PK = model.gate(torch.from_numpy(reader.gather("prompt", pairs.prompt_ids.tolist()).astype(np.float32)))
        margins_P = score(differences_PK, torch.from_numpy(model.transform_KK), gating_PK)
    return dict(zip(pairs.pair_ids, margins_P.tolist(), strict=True))


def test_the_folder_is_complete_and_says_where_it_comes_from(home: Path, folder: Path) -> None:
    store = Store(home / "store")
    model = load_model(store, store.find("model"))
    assert RewardModel.load(folder).to_bytes() == model.to_bytes()
    written = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert store.find("model").artifact_id in run(home, "export", "export")
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == written
    card = (folder / "README.md").read_text()
    front, text = card.removeprefix("---\n").split("\n---\n", 1)
    fields = {name: json.loads(value) for name, value in (line.split(": ", 1) for line in front.splitlines())}
    assert (fields["library_name"], fields["pipeline_tag"]) == ("transformers", "text-classification")
    assert {"nvidia/HelpSteer", "openbmb/UltraFeedback"} <= set(fields["datasets"])
    assert "base_model" not in fields, "a folder of one's own is no model on the Hub"
    for said in (
        store.find("model").artifact_id,
        model.backbone_id,
        "| helpsteer | regress | train |",
        "| CC-BY-NC-4.0 |",
        "| gate | learning\\_rate | 1.0e-03 |",
        "## Held-out pairs",
        "95 % ",
        "## RewardBench",
        "## Limits",
        "1,000 of 1,000 conversations",
    ):
        assert said in text, said

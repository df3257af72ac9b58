"""The released model's layout, written by a script of its own, reads the same here and in transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, dynamic_module_utils

from armorm import RewardModel
from armorm.errors import ModelFolderError
from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint
from armorm.features.errors import BackboneError
from armorm.features.objectives import OBJECTIVES
from armorm.model.inspection import inspect
from armorm.release.export import probe_conversations
from armorm.report.sections import taken_out
from armorm.scoring.reward_model import nuisance_of
from tests.armorm.exported import as_messages
from tests.armorm.published import write_published

CONVERSATIONS = probe_conversations()[::4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(home / "modules"))
        yield write_published(home / "model")


def test_both_say_the_same(folder: Path, tmp_path: Path) -> None:
    """In float32, so that it is the weights and the arithmetic that are compared, and not how bfloat16 rounds."""
    config = json.loads((folder / "config.json").read_text()) | {"dtype": "float32"}
    (tmp_path / "model").mkdir()
    for path in folder.iterdir():
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    module = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "model", trust_remote_code=True, dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [tokenizer.apply_chat_template(as_messages(messages), tokenize=False) for messages in CONVERSATIONS]
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False)
    with torch.no_grad():
        output = module(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    ours = RewardModel.load(tmp_path / "model").score(CONVERSATIONS)
    assert np.ptp(ours.score) > 0.1
    np.testing.assert_allclose(ours.rewards, output.rewards, atol=1e-5)
    np.testing.assert_allclose(ours.gating, output.gating_output, atol=1e-5)
    np.testing.assert_allclose(ours.score, output.score, atol=1e-5)
    np.testing.assert_allclose(
        ours.coefficients, output.gating_output @ module.reward_transform_matrix.T.detach(), atol=1e-5
    )


def test_it_is_known_for_what_it_is(folder: Path) -> None:
    """The folder as it is published: without names, scales and remote code; the backbone in its own 16 bits."""
    model = RewardModel.load(folder)
    assert model.objectives == OBJECTIVES
    assert (model.nuisance, model.gate_config.temperature) == ("helpsteer-verbosity", 2)
    assert model.backbone["dtype"] == "bfloat16"
    assert model.backbone_id == read_fingerprint(BackboneSettings(path=str(folder), dtype="bfloat16")).backbone_id
    scores = model.score(CONVERSATIONS[:5])
    np.testing.assert_allclose(scores.native[:, :5], scores.rewards[:, :5] * 5 - 0.5, atol=1e-6)
    assert model.loaded_backbone.model.dtype == torch.bfloat16
    with pytest.raises(ModelFolderError, match=r"index\.json names \.\./x"):
        _point_outside(folder)


def test_the_nuisance_is_what_the_transform_takes_out() -> None:
    transform_KK, names = np.eye(3), ("a", "b", "c")
    assert nuisance_of(transform_KK, names) == "none"
    assert nuisance_of(np.diag([1, 0.5, 2]), names) == "none", "only scaled"
    transform_KK[1, 2] = -0.5
    assert nuisance_of(transform_KK, names) == "b"
    transform_KK[2, 0] = 0.25
    assert nuisance_of(transform_KK, names) == ["b", "c"]


def test_a_model_without_decorrelation_is_described_as_such(tmp_path: Path) -> None:
    folder = write_published(tmp_path / "model")
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        if "reward_transform_matrix" in tensors:
            tensors["reward_transform_matrix"] = torch.eye(len(OBJECTIVES))
            save_file(tensors, path, {"format": "pt"})
    model = RewardModel.load(folder)
    assert (model.nuisance, model.nuisances) == ("none", ())
    assert any(fact.endswith(taken_out(())) for fact in inspect(model, "A model").facts)


def _point_outside(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    before = index.read_text()
    index.write_text(before.replace("model-00002-of-00002.safetensors", "../x"))
    try:
        RewardModel.load(folder)
    finally:
        index.write_text(before)


def test_weights_that_are_missing_are_no_random_ones(folder: Path, tmp_path: Path) -> None:
    name = "model-00001-of-00002.safetensors"
    (tmp_path / "model").mkdir()
    for path in folder.iterdir():
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / name)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model" / name, {"format": "pt"})
    index = tmp_path / "model" / "model.safetensors.index.json"
    places = json.loads(index.read_text())
    del places["weight_map"]["model.layers.1.mlp.up_proj.weight"]
    index.write_text(json.dumps(places))
    with pytest.raises(BackboneError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        RewardModel.load(tmp_path / "model").score(CONVERSATIONS[:1])

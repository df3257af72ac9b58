"""Exported and read back, every kind of backbone gives the scores that it gave; or says why it is not exported."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, dynamic_module_utils
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from armorm import RewardModel
from armorm.errors import ExportError
from armorm.export.layout import require_stock_head, write_layout
from armorm.export.pattern import find_pattern
from armorm.features.embedding.backbone import load
from armorm.features.embedding.fingerprint import read_fingerprint
from armorm.features.store import Artifact, Recipe, Store
from armorm.maths.steering import Steering
from armorm.release import export as export_stage
from armorm.release.export import probe_conversations, rendered
from armorm.scoring.reward_model import score_conversations
from tests.armorm.exported import as_messages, fixed_mixture, random_heads, scores
from tests.features.test_kinds import KINDS, write


def rows_of(batch: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(batch["input_ids"], batch["attention_mask"], strict=True)


CONVERSATIONS = probe_conversations()[::3]
NO_CLASSIFIER = ("granite", "codegen", "mamba", "recurrent_gemma")
OTHER_HEAD = {"ctrl": "classifier.weight", "modernbert-decoder": "head.dense.weight"}
"""Kinds whose classifier in transformers has another head than `score.weight`, and a parameter of it."""


@pytest.mark.parametrize("kind", [kind for kind, (becomes, _) in KINDS.items() if becomes in ("packed", "padded")])
def test_an_exported_kind_is_read_back(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    settings = write(tmp_path / "backbone", kind)
    fingerprint = read_fingerprint(settings)
    backbone = load(settings, fingerprint)
    heads = random_heads(
        [f"o{k}" for k in range(7)], backbone_id=fingerprint.backbone_id, backbone=dict(fingerprint.record)
    )
    samples = rendered(backbone, probe_conversations())

    def export() -> None:
        write_layout(
            tmp_path / "model",
            heads,
            backbone=backbone.model,
            tokenizer=backbone.tokenizer,
            prompt_end=find_pattern(samples),
            mixture_K=fixed_mixture(heads),
            texts=[sample.token_ids for sample in samples],
            card="---\n---\n",
        )

    if kind in NO_CLASSIFIER:
        with pytest.raises(ExportError, match=rf"\b{kind}\b"):
            export()
        return
    if kind in OTHER_HEAD:
        with pytest.raises(ExportError, match=OTHER_HEAD[kind]):
            export()
        assert not (tmp_path / "model").exists()
        return
    expected = score_conversations(heads, backbone, CONVERSATIONS).score
    assert np.ptp(expected) > 0.1
    export()
    read = RewardModel.load(tmp_path / "model").score(CONVERSATIONS).score
    np.testing.assert_allclose(read, expected, atol=1e-5)
    module = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    texts = [tokenizer.apply_chat_template(as_messages(messages), tokenize=False) for messages in CONVERSATIONS]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    by_transformers = scores(module, input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    np.testing.assert_allclose(by_transformers, expected, atol=1e-5)
    # without the folder's code it is transformers' own classifier, with the mixture in place of the gate: no fresh head
    mixture = Steering(mixture=dict(zip(heads.objectives, map(float, fixed_mixture(heads)), strict=True)))
    mixed = score_conversations(heads, backbone, CONVERSATIONS, steering=mixture).score
    for seed in range(3):
        torch.manual_seed(seed)
        stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", trust_remote_code=False)
        with torch.no_grad():
            logits = [stock(input_ids=ids[mask.bool()][None]).logits.item() for ids, mask in rows_of(batch)]
        np.testing.assert_allclose(logits, mixed, atol=1e-5)


def test_a_kind_with_another_head_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = write(tmp_path / "backbone", "ctrl")
    fingerprint = read_fingerprint(settings)
    heads = random_heads(
        [f"o{k}" for k in range(7)], backbone_id=fingerprint.backbone_id, backbone=dict(fingerprint.record)
    )
    monkeypatch.setattr(export_stage, "load_model", lambda store, artifact: heads)
    monkeypatch.setattr(export_stage, "load", lambda *_: pytest.fail("its weights were read"))
    with pytest.raises(ExportError):
        export_stage.export_model(
            Store(tmp_path / "store"),
            Artifact(Recipe("model", "model", 1, {}, {}), {}, "", ""),
            settings,
            tmp_path / "model",
            max_shard_size="5GB",
        )
    assert not (tmp_path / "model").exists()


def test_a_head_of_another_size_is_refused() -> None:
    config = CONFIG_MAPPING["llama"](**KINDS["llama"][1])
    require_stock_head(config, 32)
    with pytest.raises(ExportError):
        require_stock_head(config, 31)

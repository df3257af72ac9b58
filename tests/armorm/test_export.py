"""Exported models: transformers and our own loader say of them what the model said."""

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, GPT2Config, GPT2Model, dynamic_module_utils

from armorm import RewardModel
from armorm.errors import ExportError, ModelFolderError
from armorm.export import modeling_armorm
from armorm.export.layout import write_layout
from armorm.export.pattern import PromptEnd, Sample, find_pattern
from armorm.scoring.model import score_conversations
from armorm.stages.export import probe_conversations, rendered
from tests.armorm.exported import Exported, as_messages, export, scores

KINDS = ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3"]
CONVERSATIONS = probe_conversations()[::3]


@pytest.fixture(autouse=True, scope="module")
def modules_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """transformers copies shipped code into a folder of its own: not into the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(tmp_path_factory.mktemp("llama"), max_shard_size="20KB")


def load(folder: Path, **options: Any) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True, **options)


def tokenised(folder: Path, side: str = "right", conversations: Any = CONVERSATIONS) -> dict[str, torch.Tensor]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [tokenizer.apply_chat_template(as_messages(messages), tokenize=False) for messages in conversations]
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side=side, add_special_tokens=False)
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def test_the_shipped_file_imports_torch_and_transformers_alone() -> None:
    tree = ast.parse(Path(modeling_armorm.__file__).read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    own = {str(name).split(".")[0] for name in names} - {"collections", "dataclasses", "itertools", "typing"}
    assert own == {"torch", "transformers"}


@pytest.mark.parametrize("architecture", KINDS)
@pytest.mark.parametrize("template", ["bos", "plain"])
def test_every_kind_of_backbone_scores_as_before(architecture: str, template: str, tmp_path: Path) -> None:
    made = export(tmp_path, architecture=architecture, template=template, objectives=[f"o{k}" for k in range(7)])
    expected = score_conversations(made.model, made.backbone, CONVERSATIONS)
    assert np.ptp(expected.score) > 0.1
    module = load(made.folder)
    right, left = tokenised(made.folder), tokenised(made.folder, "left")
    for batch in (right, left):
        with torch.no_grad():
            known = {"prompt_lengths": torch.tensor([5]), "return_dict": False}
    assert len(module(tokenised(exported.folder)["input_ids"][:1, :30], **known)) == 6


def test_padding_that_stands_in_conversations_needs_a_mask(tmp_path: Path) -> None:
    made = export(tmp_path)
    tokenizer = made.backbone.tokenizer
    tokenizer.pad_token = tokenizer.eos_token
    samples = [sample.token_ids for sample in rendered(made.backbone, probe_conversations())]
    given = {"backbone": made.backbone.model, "prompt_end": made.prompt_end, "texts": samples, "card": ""}
    write_layout(tmp_path / "eos", made.model, tokenizer=tokenizer, **given)  # type: ignore[arg-type]
    assert json.loads((tmp_path / "eos" / "config.json").read_text())["pad_token_id"] is None
    tokenizer.pad_token = None
    write_layout(tmp_path / "none", made.model, tokenizer=tokenizer, **given)  # type: ignore[arg-type]
    assert tokenizer.pad_token is None
    expected = score_conversations(made.model, made.backbone, CONVERSATIONS).score
    for name in ("eos", "none"):
        for side in ("left", "right"):
            found = scores(load(tmp_path / name), **tokenised(tmp_path / name, side))
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_all_or_nothing_is_written(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(folder: Path, **others: Any) -> None:
        given = {"backbone": exported.backbone.model, "tokenizer": exported.backbone.tokenizer, "card": "", "texts": []}
        write_layout(folder, exported.model, prompt_end=exported.prompt_end, **given | others)

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    for folder in (tmp_path / "other", tmp_path / "other" / "file"):
        with pytest.raises(ModelFolderError, match="expected a new folder"):
            write(folder)
    with pytest.raises(ExportError, match="got a shard size of 5 apples"):
        write(tmp_path / "new", max_shard_size="5 apples")
    unknown = type("UnknownConfig", (GPT2Config,), {})(n_embd=8, n_layer=1, n_head=1, vocab_size=10)
    with pytest.raises(ExportError, match="such as Llama, Qwen, Mistral or Gemma"):
        write(tmp_path / "new", backbone=GPT2Model(unknown))
    monkeypatch.setattr(Path, "rename", lambda self, target: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    (tmp_path / "empty").mkdir()
    monkeypatch.undo()
    write(tmp_path / "empty")


def test_a_damaged_folder_is_named(exported: Exported, tmp_path: Path) -> None:
    made = export(tmp_path)
    (made.folder / "model.json").write_text("{")
    with pytest.raises(ModelFolderError, match="no model"):
        RewardModel.load(made.folder)
    (made.folder / "model.json").write_text(json.dumps({"format_version": 9}))
    with pytest.raises(ModelFolderError, match="format version 9"):
        RewardModel.load(made.folder)
    (made.folder / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ModelFolderError, match="no model"):
        RewardModel.load(made.folder)
    with pytest.raises(ModelFolderError, match="without a regression layer and a gate"):
        RewardModel.load(tmp_path / "backbone")
    with pytest.raises(ModelFolderError, match="no such folder"):
        RewardModel.load(tmp_path / "nothing")


def test_the_pattern_is_what_all_have_in_common_around_the_prompts_end() -> None:
    first = Sample((9, 5, 6, 1, 2, 3, 7, 8), 4)
    second = Sample((5, 6, 1, 2, 3, 4, 6, 1, 2, 3, 8, 7), 8)
    assert find_pattern([first, second]) == PromptEnd((6, 1, 2, 3), 1)
    header_alone = replace(second, n_prompt_tokens=6)
    assert find_pattern([Sample((9, 6, 1, 2, 3, 7, 8), 1), header_alone]) == PromptEnd((6, 1, 2, 3), -1)
    assert find_pattern([Sample((1, 2, 7, 8), 2), Sample((1, 2, 9), 2)]) == PromptEnd((1, 2), 1)


def test_a_template_that_heads_no_answer_is_refused() -> None:
    with pytest.raises(ExportError, match="got a chat template that writes nothing between prompt and answer"):
        find_pattern([Sample((1, 2, 3), 1), Sample((4, 5, 6), 2)])
    with pytest.raises(ExportError):  # the answer's end looks like the prompt's
        find_pattern([Sample((1, 2, 3, 2, 5), 2), Sample((4, 2, 6, 2, 5), 2)])

"""Folders in the published model's layout (RLHFlow/ArmoRM-Llama3-8B-v0.1), written and read. Runs no remote code.

Suffixes: D hidden size, K objectives. The heads are `regression_layer.weight` [K, D], `reward_transform_matrix` [K, K],
`gating.layers.{0..n}.{weight,bias}` and `gating.logit_scale` [1]; all other tensors are the backbone's, `model.*`.
"""

import json
import re
import shutil
import uuid
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from armorm.errors import ExportError, ModelFolderError
from armorm.export.modeling_armorm import RewardModelWithGating
from armorm.export.pattern import PromptEnd
from armorm.model import DESCRIPTION_FILE, RewardModel

Json = dict[str, Any]
Floats = NDArray[np.floating]

CONFIG_FILE: Final = "config.json"
INDEX_FILE: Final = "model.safetensors.index.json"
CARD_FILE: Final = "README.md"
SIZE: Final = re.compile(r"0*[1-9]\d* ?[KMGT]B", re.IGNORECASE)
HEADS: Final = ("regression_layer.", "reward_transform_matrix", "gating.")

DEFAULTS: Final = {"num_objectives": 19, "gating_temperature": 10, "gating_hidden_dim": 1024, "gating_n_hidden": 3}
"""Of the published model's code, for what a configuration does not say."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a folder in the layout holds besides its backbone."""

    config: Json
    heads: dict[str, Floats]
    """In float32, by name."""
    description: Json | None
    """Of a model that was exported from here: objectives, scales, metrics, digests of the training rows."""


def is_layout(folder: Path) -> bool:
    """Whether a folder is a Hugging Face model, and not the two files of armorm's own."""
    return (folder / CONFIG_FILE).is_file()


def read_layout(folder: Path) -> Layout:
    """Reads the heads alone: of a sharded model only the shards, and of these only the parts, that hold them.

    Raises:
        ModelFolderError: the folder is damaged, or no such model.
    """
    try:
        config = _json(folder / CONFIG_FILE)
        described = _json(folder / DESCRIPTION_FILE) if (folder / DESCRIPTION_FILE).is_file() else None
        heads = {name: tensor for file in _weight_files(folder) for name, tensor in _read_heads(folder / file)}
    except (OSError, ValueError, LookupError, AttributeError, TypeError, SafetensorError) as error:
        raise ModelFolderError(
            folder,
            f"got files that are no model ({' '.join(str(error).split())}); expected those of an export; "
            "copy them again",
        ) from error
    if not any(name.startswith(HEADS[0]) for name in heads):
        raise ModelFolderError(
            folder,
            "got a model without a regression layer and a gate; expected a reward model in the layout of ArmoRM; "
            "name the folder of one",
        )
    return Layout(config, heads, described)


def gate_shape(config: Json) -> Json:
    """The settings of the gate that a configuration states."""
    of = DEFAULTS | config
    return {
        "hidden_dim": of["gating_hidden_dim"],
        "n_hidden": of["gating_n_hidden"],
        "temperature": of["gating_temperature"],
    }


def write_layout(
    folder: Path,
    model: RewardModel,
    *,
    backbone: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_end: PromptEnd,
    texts: Sequence[Sequence[int]],
    card: str,
    max_shard_size: str = "5GB",
) -> None:
    """Writes all of it or nothing. The backbone's tensors are not copied on the way.

    Args:
        folder: a new or empty one.
        model: the heads.
        backbone: as it was loaded for the features that the heads were trained on.
        tokenizer: with the chat template that rendered the texts.
        prompt_end: how the prompt's end is found in token ids.
        texts: token ids of some conversations, whole.
        card: the text of README.md.
        max_shard_size: of a file of weights, such as `5GB`.

    Raises:
        ExportError: transformers has no sequence classifier on such a backbone, or the size is none.
        ModelFolderError: the folder holds something.
    """
    folder = folder.absolute()
    check_target(folder, max_shard_size)
    if type(backbone.config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ExportError(
            f"got a backbone of type {backbone.config.model_type}; expected one that transformers knows as a sequence "
            "classifier, such as Llama, Qwen, Mistral or Gemma; `armorm score` takes this one too"
        )
    tokenizer = _with_padding(tokenizer, backbone)
    module = _module(model, backbone, prompt_end, _padding(tokenizer, texts))
    unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    unfinished.mkdir(parents=True)
    try:
        module.save_pretrained(unfinished, max_shard_size=max_shard_size)
        tokenizer.save_pretrained(unfinished)
        (unfinished / DESCRIPTION_FILE).write_bytes(model.to_bytes()[1])
        (unfinished / CARD_FILE).write_text(card, encoding="utf-8")
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished)
        raise


def check_target(folder: Path, max_shard_size: str) -> None:
    """Says before anything is loaded what `write_layout` would say.

    Raises:
        ExportError: the size is none.
        ModelFolderError: the folder holds something.
    """
    if not SIZE.fullmatch(max_shard_size):
        raise ExportError(f"got a shard size of {max_shard_size}; expected a number and KB, MB, GB or TB; say 5GB")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ModelFolderError(folder, "got something that is there; expected a new folder; choose another name")


def _module(
    model: RewardModel, backbone: PreTrainedModel, prompt_end: PromptEnd, padding: int | None
) -> RewardModelWithGating:
    """The shipped class over the backbone's own tensors."""
    config = deepcopy(backbone.config)
    config.update(
        {
            "num_labels": 1,
            "num_objectives": len(model.objectives),
            "objectives": list(model.objectives),
            "gating_temperature": model.gate_config.temperature,
            "gating_hidden_dim": model.gate_config.hidden_dim,
            "gating_n_hidden": model.gate_config.n_hidden,
            "beta": model.beta,
            "prompt_end_pattern": list(prompt_end.pattern),
            "prompt_end_offset": prompt_end.offset,
        }
    )
    config.get_text_config().pad_token_id = padding
    config._attn_implementation = config._experts_implementation = None  # else what the backbone was run with
    with torch.device("meta"):
        module = RewardModelWithGating(config)
    module.model = backbone
    heads = {name: torch.from_numpy(array) for name, array in model.tensors().items() if name.startswith(HEADS)}
    module.load_state_dict(heads, strict=False, assign=True)
    return module


def _with_padding(tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel) -> PreTrainedTokenizerBase:
    """A tokenizer that can pad batches, with a token that the backbone has; an attention mask tells it from text."""
    n_tokens = backbone.get_input_embeddings().num_embeddings
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= n_tokens:
        tokenizer = deepcopy(tokenizer)
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _padding(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Sequence[int]]) -> int | None:
    """The token that is padding wherever it stands; None if it stands in conversations, too."""
    padding = tokenizer.pad_token_id
    return None if any(padding in text for text in texts) else padding


def _json(path: Path) -> Json:
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(f"{path.name} holds no object")
    return document


def _weight_files(folder: Path) -> list[str]:
    if not (folder / INDEX_FILE).is_file():
        return ["model.safetensors"]
    places = _json(folder / INDEX_FILE)["weight_map"]
    files = sorted({file for name, file in places.items() if name.startswith(HEADS)})
    if outside := [file for file in files if Path(file).name != file]:
        raise ValueError(f"{INDEX_FILE} names {outside[0]}, which is in another folder")
    return files


def _read_heads(path: Path) -> list[tuple[str, Floats]]:
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(HEADS)]  # noqa: SIM118  # no mapping
        return [(name, file.get_tensor(name).float().numpy()) for name in names]

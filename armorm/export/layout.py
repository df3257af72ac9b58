"""Folders in the published model's layout (RLHFlow/ArmoRM-Llama3-8B-v0.1), written and read. Runs no remote code.

Suffixes: D hidden size, K objectives. The heads are `regression_layer.weight` [K, D], `reward_transform_matrix` [K, K],
`gating.layers.{0..n}.{weight,bias}` and `gating.logit_scale` [1]; all other tensors are the backbone's, `model.*`.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from armorm.errors import ExportError, ModelError, ModelFolderError
from armorm.export.modeling_armorm import RewardModelWithGating
from armorm.export.pattern import PromptEnd
from armorm.features.documents import parse_object, require_regular
from armorm.features.store.storage import file_sha256, whole_folder
from armorm.model.head import DESCRIPTION_FILE, RewardHead, check_description

Json = dict[str, Any]
Floats = NDArray[np.floating]

CONFIG_FILE: Final = "config.json"
INDEX_FILE: Final = "model.safetensors.index.json"
CARD_FILE: Final = "README.md"
CHECKSUMS_FILE: Final = "checksums.json"
"""File to SHA-256, of all that was exported but the card, which people write on."""
SIZE: Final = re.compile(r"0*[1-9]\d* ?[KMGT]B", re.IGNORECASE)
HEADS: Final = ("regression_layer.", "reward_transform_matrix", "gating.")

DEFAULTS: Final = {"num_objectives": 19, "gating_temperature": 10, "gating_hidden_dim": 1024, "gating_n_hidden": 3}
"""The defaults of the published model's code, for what a configuration does not say."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a folder in the layout holds besides its backbone."""

    config: Json
    heads: dict[str, Floats]
    """The heads' tensors by name, in float32."""
    description: Json | None
    """What the description of an exported model says: objectives, scales, metrics, digests of the training rows."""


def is_layout(folder: Path) -> bool:
    """Return whether a folder is a Hugging Face model, and not the two files of armorm's own."""
    return (folder / CONFIG_FILE).is_file()


def read_layout(folder: Path) -> Layout:
    """Read the heads alone: of a sharded model only the shards, and of these only the parts, that hold them.

    Raises:
        ModelFolderError: the folder is damaged, or no such model.
    """
    try:
        require_regular(folder)
        config = _json(folder / CONFIG_FILE)
        _check_config(config)
        described = _json(folder / DESCRIPTION_FILE) if (folder / DESCRIPTION_FILE).is_file() else None
        heads = {name: tensor for file in _weight_files(folder) for name, tensor in _read_heads(folder / file)}
        if described is not None:
            check_description(described)
    except ModelError as error:
        raise ModelFolderError(folder, str(error)) from error
    except (OSError, ValueError, LookupError, AttributeError, TypeError, OverflowError, SafetensorError) as error:
        raise ModelFolderError(
            folder,
            f"got files that do not make a model ({' '.join(str(error).split())}); expected the files of an export; "
            "copy them again",
        ) from error
    if not any(name.startswith(HEADS[0]) for name in heads):
        raise ModelFolderError(
            folder,
            "got a model without a regression layer and a gate; expected a reward model in the layout of ArmoRM; "
            "name the folder of one",
        )
    return Layout(config, heads, described)


def require_unchanged(folder: Path, found: Layout, hashed: Mapping[str, str]) -> None:
    """Compare a folder's files with their checksums, which an export has; one of an earlier version has none.

    Args:
        hashed: file to SHA-256, of the files that were hashed already, weights among them.

    Raises:
        ModelFolderError: a file is not what was exported, or missing, or there are more that a loader may read.
    """
    if not (folder / CHECKSUMS_FILE).is_file() and (found.description or {}).get("format_version", 1) < 3:
        return
    try:
        exported = _json(folder / CHECKSUMS_FILE)
        if outside := [name for name in exported if Path(name).name != name]:
            raise ValueError(f"{CHECKSUMS_FILE} names {outside[0]!r}")
        more = {path.name for path in folder.iterdir() if not _is_beside(path)} - exported.keys()
        actual = {name: hashed.get(name) or file_sha256(folder / name) for name in [*exported, *more]}
    except (OSError, ValueError) as error:
        raise ModelFolderError(
            folder,
            f"got files that cannot be compared with {CHECKSUMS_FILE} ({error}); expected the files of an export; "
            "copy them again",
        ) from error
    for name, sha256 in sorted(actual.items()):
        if exported.get(name) != sha256:
            raise ModelFolderError(
                folder,
                f"got {name} with SHA-256 {sha256[:16]}..; expected {str(exported.get(name, 'no such file'))[:16]}.., "
                "as it was exported; copy it again",
            )


def gate_shape(config: Json) -> Json:
    """Return the settings of the gate that a configuration states."""
    of = DEFAULTS | config
    return {
        "hidden_dim": of["gating_hidden_dim"],
        "n_hidden": of["gating_n_hidden"],
        "temperature": of["gating_temperature"],
    }


def write_layout(
    folder: Path,
    model: RewardHead,
    *,
    backbone: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_end: PromptEnd,
    mixture_K: Floats,
    texts: Sequence[Sequence[int]],
    card: str,
    max_shard_size: str = "5GB",
) -> None:
    """Write all of it or nothing. The backbone's tensors are not copied on the way.

    Args:
        folder: a new or empty one.
        backbone: as it was loaded for the features that the heads were trained on.
        tokenizer: with the chat template that rendered the texts.
        prompt_end: how the prompt's end is found in token ids.
        mixture_K: `[K]` weights of the decorrelated rewards, in place of the gate's for whoever loads the folder
            without its code: as transformers' own classifier, whose head they are folded into.
        texts: token ids of some conversations, whole.
        card: the text of README.md.
        max_shard_size: of a file of weights, such as `5GB`.

    Raises:
        ExportError: transformers has no sequence classifier on such a backbone, or one with another head, or the size
            is none.
        ModelFolderError: the folder holds something.
    """
    folder = folder.absolute()
    check_target(folder, max_shard_size)
    require_stock_head(backbone.config, model.W_KD.shape[1])
    tokenizer = _with_padding(tokenizer, backbone)
    module = _module(model, backbone, prompt_end, _padding(tokenizer, texts), mixture_K)
    with whole_folder(folder) as unfinished:
        module.save_pretrained(unfinished, max_shard_size=max_shard_size)
        tokenizer.save_pretrained(unfinished)
        (unfinished / DESCRIPTION_FILE).write_bytes(model.to_bytes()[1])
        (unfinished / CARD_FILE).write_text(card, encoding="utf-8")
        checksums = {path.name: file_sha256(path) for path in unfinished.iterdir() if path.name != CARD_FILE}
        (unfinished / CHECKSUMS_FILE).write_text(json.dumps(checksums, indent=2, sort_keys=True) + "\n")


def check_target(folder: Path, max_shard_size: str) -> None:
    """Say before anything is loaded what `write_layout` would say.

    Raises:
        ExportError: the size is none.
        ModelFolderError: the folder holds something.
    """
    if not SIZE.fullmatch(max_shard_size):
        raise ExportError(f"got a shard size of {max_shard_size}; expected a number with KB, MB, GB or TB; use 5GB")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ModelFolderError(folder, "got something that is there; expected a new folder; choose another name")


def require_stock_head(config: PreTrainedConfig, n_features: int) -> None:
    """Check that transformers' own classifier on a backbone has no parameters but the backbone's and the stock head.

    Whatever else it has, an export would not hold, and who loads it without its code would score by random numbers.
    Nothing is loaded: the classifier is made without memory for its weights.

    Raises:
        ExportError: transformers has no sequence classifier on such a backbone, or its head is not `score.weight`
            [1, D].
    """
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ExportError(
            f"got a backbone of type {config.model_type}; expected one that transformers knows as a sequence "
            "classifier, such as Llama, Qwen, Mistral or Gemma; `armorm score` takes this one too"
        )
    config = deepcopy(config)
    config.num_labels = 1
    config._attn_implementation = config._experts_implementation = None
    stock: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    try:
        with torch.device("meta"):
            classifier, backbone = stock(config), AutoModel.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever a model of any kind raises for settings that do not fit it
        said = str(error).strip().partition("\n")[0]
        raise ExportError(
            f"got a backbone of type {config.model_type}, of which transformers makes no sequence classifier ({said}); "
            "expected one that it does; `armorm score` takes this one too"
        ) from error
    parts = backbone.named_parameters(prefix=stock.base_model_prefix, remove_duplicate=False)
    of_backbone = {name for name, _ in parts}
    head = {
        name: list(parameter.shape)
        for name, parameter in classifier.named_parameters(remove_duplicate=False)
        if name not in of_backbone
    }
    if head != {"score.weight": [1, n_features]}:
        listed = ", ".join(f"{name} {shape}" for name, shape in head.items()) or "nothing"
        raise ExportError(
            f"got a backbone of type {config.model_type}, on which transformers' sequence classifier has {listed}; "
            f"expected score.weight {[1, n_features]} alone, since whoever loads the export without its code would "
            "have the rest drawn at random; `armorm score` takes this one too"
        )


def stock_head(model: RewardHead, mixture_K: Floats) -> Floats:
    """Return `[1, D]` the head of a classifier whose logit is the score under one mixture: `mixture' T' W`."""
    return np.asarray((model.transform_KK @ mixture_K) @ model.W_KD, np.float32)[None]


def _module(
    model: RewardHead, backbone: PreTrainedModel, prompt_end: PromptEnd, padding: int | None, mixture_K: Floats
) -> RewardModelWithGating:
    """Return the shipped class over the backbone's own tensors."""
    config = deepcopy(backbone.config)
    stock: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    config.update(
        {
            "num_labels": 1,
            "problem_type": "regression",  # else transformers' pipeline puts a sigmoid on the score
            "backbone_prefix": stock.base_model_prefix,
            "stock_mixture": {name: float(part) for name, part in zip(model.objectives, mixture_K, strict=True)},
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
    setattr(module, stock.base_model_prefix, backbone)
    heads = {name: torch.from_numpy(array) for name, array in model.tensors().items() if name.startswith(HEADS)}
    heads["score.weight"] = torch.from_numpy(stock_head(model, mixture_K))
    module.load_state_dict(heads, strict=False, assign=True)
    return module


def _with_padding(tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel) -> PreTrainedTokenizerBase:
    """Return a tokenizer that can pad batches, with a token that the backbone has; a mask tells it from text."""
    n_tokens = backbone.get_input_embeddings().num_embeddings
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= n_tokens:
        tokenizer = deepcopy(tokenizer)
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _padding(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Sequence[int]]) -> int | None:
    """Return the token that is padding wherever it stands; None if it stands in conversations, too."""
    padding = tokenizer.pad_token_id
    return None if any(padding in text for text in texts) else padding


def _json(path: Path) -> Json:
    try:
        return parse_object(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _check_config(config: Json) -> None:
    """Refuse a configuration whose values that are read here have another type."""
    for name in ("num_objectives", "gating_hidden_dim", "gating_n_hidden"):
        if type(value := config.get(name, DEFAULTS[name])) is not int or value < 1:
            raise ValueError(f"{CONFIG_FILE}: {name} is {str(value)[:40]!r}")
    for name, value in (("gating_temperature", config.get("gating_temperature", 10)), ("beta", config.get("beta", 1))):
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"{CONFIG_FILE}: {name} is {str(value)[:40]!r}")
    names = config.get("objectives") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{CONFIG_FILE}: objectives is {str(names)[:40]!r}")


def _is_beside(path: Path) -> bool:
    """Return whether a file of an export may change, as no loader reads it: its card, a licence, what is hidden."""
    return path.suffix == ".md" or path.name.startswith((".", "LICENSE")) or path.name == CHECKSUMS_FILE


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

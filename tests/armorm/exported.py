"""A tiny exported model, as a fixture of tests on every kind of backbone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from armorm.config import GateConfig
from armorm.export.layout import write_layout
from armorm.export.pattern import PromptEnd, find_pattern
from armorm.features.conversation import Conversation
from armorm.features.embedding.backbone import Backbone, load
from armorm.features.embedding.fingerprint import BackboneSettings, Dtype, read_fingerprint
from armorm.features.objectives import OBJECTIVES
from armorm.maths.gate import Gate
from armorm.maths.uncertainty import LEVELS, RewardErrors
from armorm.model.head import RewardHead
from armorm.release.export import probe_conversations, rendered
from tests.features.tiny import write_backbone

D, VERBOSE = 32, 4


@dataclass(frozen=True)
class Exported:
    """A model, its backbone, and the folder that was made of both."""

    model: RewardHead
    backbone: Backbone
    prompt_end: PromptEnd
    folder: Path


def random_heads(
    objectives: Sequence[str] = OBJECTIVES, *, seed: int = 0, n_features: int = D, **known: object
) -> RewardHead:
    """Heads drawn at random, whose scores differ by about 1."""
    rng, n_objectives = np.random.default_rng(seed), len(objectives)
    transform_KK = np.eye(n_objectives)
    transform_KK[VERBOSE] -= rng.uniform(-0.1, 0.5, n_objectives)
    transform_KK[VERBOSE, VERBOSE] = 0
    config = GateConfig(hidden_dim=8, n_hidden=2, temperature=0.5, seed=seed)
    given = {"backbone_id": "none", "backbone": {}, **known}
    return RewardHead(
        objectives=tuple(objectives),
        untrained={},
        W_KD=rng.normal(size=(n_objectives, n_features)) / n_features**0.5,
        transform_KK=transform_KK,
        gate_state={
            name: tensor.numpy() for name, tensor in Gate(n_features, n_objectives, config).state_dict().items()
        },
        gate_config=config,
        beta=93.25,
        nuisance=objectives[VERBOSE],
        scales={objectives[0]: {"helpsteer": {"lo": 0, "hi": 4, "rule": "bin_centre"}}},
        metrics={},
        inputs={"gate": "a1"},
        **given,  # type: ignore[arg-type]
    )


def with_errors(model: RewardHead, noise_K: np.ndarray) -> RewardHead:
    """The model with rewards whose deviation is the length of the features times a noise."""
    n_objectives, n_features = model.W_KD.shape
    errors = RewardErrors(
        np.eye(n_features, dtype=np.float32)[np.triu_indices(n_features)][None],
        np.zeros((1, n_features), np.float32),
        np.zeros(n_objectives, np.int32),
        noise_K,
        np.eye(n_objectives),
        np.full((n_objectives, len(LEVELS)), np.nan),
    )
    content = save(errors.tensors())
    return replace(model, uncertainty_sha256=sha256(content).hexdigest(), read_uncertainty=lambda: content)


def export(
    folder: Path,
    *,
    architecture: str = "llama",
    template: str = "bos",
    dtype: Dtype = "float32",
    objectives: Sequence[str] = OBJECTIVES,
    max_shard_size: str = "5GB",
) -> Exported:
    """Writes a backbone into `folder/backbone` and the model into `folder/model`."""
    path = write_backbone(folder / "backbone", architecture=architecture, template=template)
    settings = BackboneSettings(path=str(path), dtype=dtype)
    fingerprint = read_fingerprint(settings)
    backbone = load(settings, fingerprint)
    model = random_heads(objectives, backbone_id=fingerprint.backbone_id, backbone=dict(fingerprint.record))
    samples = rendered(backbone, probe_conversations())
    prompt_end = find_pattern(samples)
    write_layout(
        folder / "model",
        model,
        backbone=backbone.model,
        tokenizer=backbone.tokenizer,
        prompt_end=prompt_end,
        mixture_K=fixed_mixture(model),
        texts=[sample.token_ids for sample in samples],
        card="---\n---\n",
        max_shard_size=max_shard_size,
    )
    return Exported(model, backbone, prompt_end, folder / "model")


def fixed_mixture(model: RewardHead) -> np.ndarray:
    """`[K]` weights that differ and sum to 1."""
    parts_K = np.arange(1, len(model.objectives) + 1, dtype=np.float64)
    return np.asarray(parts_K / parts_K.sum())


def as_messages(messages: Conversation) -> list[dict[str, str]]:
    """Messages as chat templates take them."""
    return [{"role": role, "content": content} for role, content in messages]


def scores(module: torch.nn.Module, **inputs: torch.Tensor) -> np.ndarray:
    """`[B]` what a transformers model says."""
    with torch.no_grad():
        found: np.ndarray = module(**inputs).score.numpy()
    return found

"""What a reward model is, told from its own arrays and records: objectives, transform, gate. No text is scored.

Suffixes: K objectives, D feature size.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from armorm.model.head import RewardHead
from armorm.report.sections import (
    Cell,
    Report,
    Section,
    decorrelation_section,
    objective_section,
    taken_out,
    untrained_section,
)

Json = dict[str, Any]


def taken_off(model: RewardHead) -> dict[str, NDArray[np.floating]]:
    """Objective to `[K]` how much of its raw reward the transform takes off each reward, `r' = r - lambda r_nuisance`.

    Those alone that it takes off any. It is read from the matrix, whatever the model says of its nuisances.
    """
    taken_KK = np.eye(len(model.objectives)) - model.transform_KK
    return {name: taken_KK[k] for k, name in enumerate(model.objectives) if taken_KK[k].any()}


def inspect(model: RewardHead, title: str) -> Report:
    """Return a model as tables.

    Raises:
        ModelError: what is recorded of its training is of another form.
    """
    backbone, training = model.backbone, model.training
    facts = [
        f"{len(model.objectives)} objectives over {model.W_KD.shape[1]} features of backbone {model.backbone_id} "
        f"({backbone.get('architecture', 'unknown')}, {backbone.get('dtype', 'unknown')})",
        f"taken out of the objectives: {taken_out(model.nuisances)}",
        f"gate: {model.gate_config.n_hidden} hidden layers of {model.gate_config.hidden_dim}, temperature "
        f"{model.gate_config.temperature:g}; its weights sum to {_scale(model):g}",
        f"beta {model.beta:.4g}" if math.isfinite(model.beta) else "beta is not stated: scores have no calibration",
        *(
            []
            if model.digested
            else ["its files carry no digests: whether they are as they were written cannot be told"]
        ),
        *([] if model.uncertainty_sha256 else ["it has no errors of its rewards: scores get no lower bound"]),
    ]
    sections = [
        _objectives(model),
        objective_section(training.regression),
        untrained_section(model.untrained),
        *([decorrelation_section(training.decorrelation)] if training.decorrelation else []),
    ]
    return Report(title, facts, [section for section in sections if section.rows])


def describe(model: RewardHead) -> Json:
    """Return the same for a program: the description, and with it the transform and what is read from arrays."""
    return model.description() | {
        "n_features": model.W_KD.shape[1],
        "beta": model.beta,
        "logit_scale": _scale(model),
        "weight_norms": dict(zip(model.objectives, map(float, _norms(model)), strict=True)),
        "reward_transform_matrix": model.transform_KK.tolist(),
    }


def _objectives(model: RewardHead) -> Section:
    """Return each objective: its scale, its weights, and what the transform makes of its reward."""
    taken, norms_K = taken_off(model), _norms(model)
    directions_KD = model.W_KD / np.maximum(norms_K, np.finfo(np.float32).tiny)[:, None]
    cosines_KK = directions_KD @ directions_KD.T
    np.fill_diagonal(cosines_KK, -np.inf)
    rows: list[tuple[Cell, ...]] = []
    for k, name in enumerate(model.objectives):
        nearest = int(cosines_KK[k].argmax())
        beside = (model.objectives[nearest], float(cosines_KK[k, nearest])) if len(norms_K) > 1 else (None, None)
        penalties = (float(lambda_K[k]) for lambda_K in taken.values())
        rows.append((name, _scales(model.scales.get(name, {})), float(norms_K[k]), *beside, *penalties))
    columns = ["objective", "rated on", "weights' length", "nearest", "cosine", *(f"lambda of {n}" for n in taken)]
    note = "nearest: the objective whose weights point most alike; lambda: what the transform takes off this reward"
    return Section("transform", "Objectives and transform", columns, rows, note)


def _scales(scales: Mapping[str, Json]) -> str:
    """Return each native scale with the datasets that rate on it."""
    datasets: dict[str, list[str]] = {}
    for dataset, scale in scales.items():
        datasets.setdefault(f"{scale['lo']:g}..{scale['hi']:g}", []).append(dataset)
    return "; ".join(f"{scale} ({', '.join(names)})" for scale, names in datasets.items())


def _norms(model: RewardHead) -> NDArray[np.floating]:
    return np.asarray(np.linalg.norm(model.W_KD, axis=1))


def _scale(model: RewardHead) -> float:
    return float(model.gate_state["logit_scale"][0])

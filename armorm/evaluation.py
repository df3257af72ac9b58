"""Evaluation as pure functions over arrays: held-out pairs beside baselines, and a sectioned benchmark.

Suffixes: P pairs, K objectives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from armorm import baselines
from armorm.config import EvaluationConfig
from armorm.metrics import (
    bootstrap_accuracy,
    calibration_error,
    overall_score,
    pair_accuracy,
    reliability,
    section_scores,
    wins,
)

Floats = npt.NDArray[np.floating]
Names = npt.NDArray[np.object_]
Json = dict[str, Any]

SCORERS = {
    "gate": "gate",
    "mean": "mean of objectives",
    "single": "best single objective",
    "longer": "longer answer",
}
"""How pairs are ranked: the gate, and what it has to beat."""


def choose_best_objective(train_differences_PK: Floats, objectives: Sequence[str]) -> str | None:
    """The objective that alone ranks most training pairs rightly; None without training pairs."""
    return baselines.best_objective(train_differences_PK, objectives) if len(train_differences_PK) else None


def held_out_accuracy(
    differences_PK: Floats,
    score_differences_P: Floats,
    length_differences_P: Floats,
    *,
    objectives: Sequence[str],
    best_objective: str | None,
    datasets_P: Names,
    prompts_P: Names,
    config: EvaluationConfig,
) -> Json:
    """Accuracy with 95 % intervals of the gate and its baselines, over all pairs and per dataset.

    Args:
        differences_PK: `[P, K]` decorrelated rewards r' of chosen minus rejected: what the gate mixes, so that
            mean and single objective differ from it by the mixing alone.
        score_differences_P: `[P]` the gate's.
        length_differences_P: `[P]` of the answers.
        objectives: names of the columns.
        best_objective: the single objective, chosen on training pairs.
        datasets_P: `[P]` what to group by.
        prompts_P: `[P]` what the bootstrap resamples.
        config: number of resamples, seed.
    """
    ranked = {
        "gate": score_differences_P,
        "mean": baselines.mean_objective(differences_PK),
        "longer": length_differences_P,
    }
    if best_objective:
        ranked["single"] = baselines.single_objective(differences_PK, objectives, name=best_objective)

    def row(name: str, here_P: npt.NDArray[np.bool_]) -> Json:
        def interval(by_P: Floats) -> Json:
            won_P = wins(by_P[here_P])
            return asdict(
                bootstrap_accuracy(won_P, prompts_P[here_P], n_resamples=config.n_resamples, seed=config.seed)
            )

        return {"dataset": name, "n": int(here_P.sum()), "accuracy": {n: interval(by_P) for n, by_P in ranked.items()}}

    names = sorted(set(datasets_P))
    rows = [row("all", np.ones(len(datasets_P), dtype=bool))] if names else []
    rows += [row(name, datasets_P == name) for name in names]
    return {
        "scorers": [(name, title) for name, title in SCORERS.items() if name in ranked],
        "best_objective": best_objective,
        "note": "pairs of held-out prompts; the baselines rank by the same decorrelated rewards as the gate",
        "rows": rows,
    }


def calibration(score_differences_P: Floats, *, beta: float, datasets_P: Names) -> Json:
    """How well the Bradley-Terry probability `sigmoid(beta (R_chosen - R_rejected))` is what comes true.

    Args:
        score_differences_P: `[P]` the gate's, chosen minus rejected, of held-out pairs.
        beta: as trained.
        datasets_P: `[P]` what to group by.
    """
    probability_P = expit(beta * score_differences_P.astype(np.float64))

    def row(name: str, here_P: npt.NDArray[np.bool_]) -> Json:
        bins = reliability(probability_P[here_P])
        n_pairs = int(here_P.sum())
        confidence = sum(one.n * one.confidence for one in bins) / n_pairs
        accuracy = sum(one.n * one.accuracy for one in bins) / n_pairs
        error = calibration_error(bins)
        return {"dataset": name, "n": n_pairs, "confidence": confidence, "accuracy": accuracy, "error": error}

    names = sorted(set(datasets_P))
    return {
        "beta": beta,
        "rows": [row("all", np.ones(len(datasets_P), dtype=bool)), *(row(name, datasets_P == name) for name in names)]
        if names
        else [],
        "bins": [asdict(one) for one in reliability(probability_P)],
    }


def benchmark_scores(
    won_P: npt.NDArray[np.bool_],
    subsets_P: Names,
    *,
    published: Mapping[str, tuple[str, int, float]],
    section_weights: Mapping[str, float],
) -> Json:
    """Accuracy per subset, and the benchmark's own weighted means.

    Args:
        won_P: `[P]` whether the chosen answer scored higher.
        subsets_P: `[P]` the subset of each pair.
        published: subset to its section, published number of rows, and weight in the section.
        section_weights: weight of each section in the overall score.
    """
    counts = {name: int((subsets_P == name).sum()) for name in published}
    accuracy = {name: pair_accuracy(won_P[subsets_P == name].astype(float)) for name in published if counts[name]}
    weights: dict[str, dict[str, float]] = {}
    for name, (section, _, weight) in published.items():
        weights.setdefault(section, {})[name] = weight
    sections = section_scores(accuracy, weights)
    incomplete = sum(counts[name] != n_rows for name, (_, n_rows, _) in published.items())
    missing = [name for name in section_weights if name not in sections]
    notes = ["sections weigh their subsets by the published counts"]
    if missing:
        notes.append(f"without {', '.join(missing)}")
    if incomplete:
        notes.append(f"{incomplete} of {len(published)} subsets differ from their published number of rows")
    return {
        "subsets": [
            {"section": published[name][0], "subset": name, "n": counts[name], "accuracy": value}
            for name, value in accuracy.items()
        ],
        "sections": sections,
        "overall": overall_score(sections, section_weights) if sections else None,
        "note": "; ".join(notes),
    }


def summary_line(pairs: Json, benchmark: Json) -> str:
    """Both results in a few words."""
    parts = []
    if pairs["rows"]:
        whole = pairs["rows"][0]
        parts.append(f"gate right on {whole['accuracy']['gate']['estimate']:.1%} of {whole['n']} held-out pairs")
    if benchmark["overall"] is not None:
        parts.append(f"RewardBench {benchmark['overall']:.1%}")
    return ", ".join(parts) or "no held-out pairs and no benchmark"

"""Evaluation as pure functions over arrays: held-out pairs beside baselines, and a sectioned benchmark.

Suffixes: P pairs, K objectives, S scorers or subsets, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from armorm.config import EvaluationConfig
from armorm.maths import baselines
from armorm.maths.metrics import (
    Interval,
    Score,
    benchmark_figures,
    benchmark_name,
    bootstrap_accuracies,
    bootstrap_gaps,
    bootstrap_sums,
    calibration_error,
    interval,
    overall_score,
    pair_accuracy,
    reliability,
    section_scores,
    wins,
)

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Names = npt.NDArray[np.object_]
Json = dict[str, Any]
Ranked = Mapping[str, Floats]
"""Scorer to `[P]` score differences, chosen minus rejected."""

SCORERS = {
    "gate": "gate",
    "mean": "mean of objectives",
    "single": "best single objective",
    "probe": "Bradley-Terry probe",
    "longer": "longer answer",
}
"""How pairs are ranked: the gate, and what it has to beat."""

NOT_CONVERGED = "not converged"
"""Stands beside the probe's name where the search for it ended early."""

LENGTH_BINS = 4
"""Bins of length differences on each side."""


def choose_best_objective(train_differences_PK: Floats, objectives: Sequence[str]) -> str | None:
    """Return the objective that alone ranks most training pairs rightly; None without training pairs."""
    return baselines.best_objective(train_differences_PK, objectives) if len(train_differences_PK) else None


def rank(
    differences_PK: Floats,
    score_differences_P: Floats,
    length_differences_P: Floats,
    probe_differences_P: Floats | None,
    *,
    objectives: Sequence[str],
    best_objective: str | None,
) -> dict[str, Floats]:
    """Return what the gate and each baseline make of pairs, by the names of `SCORERS`.

    Args:
        differences_PK: `[P, K]` decorrelated rewards r' of chosen minus rejected: what the gate mixes, so that
            mean and single objective differ from it by the mixing alone.
        score_differences_P: `[P]` the gate's.
        length_differences_P: `[P]` of the answers.
        probe_differences_P: `[P]` the probe's; None without one.
        objectives: names of the columns.
        best_objective: the single objective, chosen on training pairs; None without one.
    """
    ranked = {"gate": score_differences_P, "mean": baselines.mean_objective(differences_PK)}
    if best_objective:
        ranked["single"] = baselines.single_objective(differences_PK, objectives, name=best_objective)
    if probe_differences_P is not None:
        ranked["probe"] = probe_differences_P
    return ranked | {"longer": length_differences_P}


def held_out_accuracy(ranked: Ranked, *, datasets_P: Names, prompts_P: Names, config: EvaluationConfig) -> Json:
    """Return the accuracy with 95 % intervals of the gate and its baselines, over all pairs and per dataset.

    Args:
        ranked: of each scorer, on held-out pairs.
        datasets_P: `[P]` what to group by.
        prompts_P: `[P]` what the bootstrap resamples.
        config: number of resamples, seed.
    """
    won_PS = _won(ranked)

    def row(name: str, here_P: Bools) -> Json:
        found = _intervals(ranked, won_PS[here_P], prompts_P[here_P], config)
        return {"dataset": name, "n": int(here_P.sum()), "accuracy": found}

    names = sorted(set(datasets_P))
    rows = [row("all", np.ones(len(datasets_P), dtype=bool))] if names else []
    rows += [row(name, datasets_P == name) for name in names]
    return {
        "scorers": [(name, title) for name, title in SCORERS.items() if name in ranked],
        "note": "pairs of held-out prompts; mean and single rank by the rewards that the gate mixes",
        "rows": rows,
    }


def length_accuracy(
    ranked: Ranked, length_differences_P: Floats, *, prompts_P: Names, config: EvaluationConfig
) -> Json:
    """Return the accuracy by the difference of lengths, where following length is right for longer answers.

    Bins are symmetric: they go by the absolute difference, so each has a mirror image. Pairs of equal length are a bin
    of their own. `bias` is the accuracy where the chosen answer is longer less that where it is shorter, over all such
    pairs; it need not be 0 for a scorer that does not look at length, where judges themselves do.

    Args:
        ranked: of each scorer, on held-out pairs; `longer` is left out, which is right or wrong by definition.
        length_differences_P: `[P]` characters of chosen minus rejected.
        prompts_P: `[P]` what the bootstrap resamples.
        config: number of resamples, seed.
    """
    measured = {name: by_P for name, by_P in ranked.items() if name != "longer"}
    won_PS = _won(measured)
    bin_P = length_bins(length_differences_P)

    def row(number: int) -> Json:
        here_P = bin_P == number
        lengths_P = length_differences_P[here_P]
        return {
            "shortest": int(lengths_P.min()),
            "longest": int(lengths_P.max()),
            "n": int(here_P.sum()),
            "accuracy": _intervals(measured, won_PS[here_P], prompts_P[here_P], config),
        }

    longer_P, shorter_P = length_differences_P > 0, length_differences_P < 0
    gaps: list[Interval] = []
    if longer_P.any() and shorter_P.any():
        gaps = bootstrap_gaps(won_PS, longer_P, shorter_P, prompts_P, n_resamples=config.n_resamples, seed=config.seed)
    return {
        "scorers": [(name, title) for name, title in SCORERS.items() if name in measured],
        "rows": [row(int(number)) for number in np.unique(bin_P)],
        "bias": {name: asdict(gap) for name, gap in zip(measured, gaps, strict=True)} if gaps else {},
        "n_longer": int(longer_P.sum()),
        "n_shorter": int(shorter_P.sum()),
    }


def length_bins(differences_P: Floats, n_bins: int = LENGTH_BINS) -> npt.NDArray[np.int64]:
    """Return `[P]` -n .. n: how much longer the chosen answer is, by ranks of the absolute differences; 0: not at all.

    Equal differences share the lowest of their ranks, so the question `accuracy_by_length` has the same bins.
    """
    sizes_P = np.abs(differences_P)
    unequal = np.sort(sizes_P[sizes_P > 0])
    bin_P = 1 + np.searchsorted(unequal, sizes_P) * n_bins // max(len(unequal), 1)
    return np.asarray(np.sign(differences_P) * bin_P, dtype=np.int64)


def calibration(score_differences_P: Floats, *, beta: float, datasets_P: Names) -> Json:
    """Return how well the Bradley-Terry probability `sigmoid(beta (R_chosen - R_rejected))` is what comes true.

    Args:
        score_differences_P: `[P]` the gate's, chosen minus rejected, of held-out pairs.
        beta: as trained.
        datasets_P: `[P]` what to group by.
    """

    def row(name: str, here_P: Bools) -> Json:
        bins = reliability(score_differences_P[here_P], beta)
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
        "bins": [asdict(one) for one in reliability(score_differences_P, beta)],
    }


def benchmark_scores(
    ranked: Ranked,
    subsets_P: Names,
    *,
    prompts_P: Names,
    published: Mapping[str, tuple[str, int, float]],
    section_weights: Mapping[str, float],
    prior_section: str,
    config: EvaluationConfig,
) -> Json:
    """Return the accuracy per subset, and the benchmark's weighted means with 95 % intervals, baselines' too.

    A resample draws prompts of the whole benchmark, since subsets share some, and goes through the same means.

    Args:
        ranked: of each scorer, on the benchmark's pairs.
        subsets_P: `[P]` the subset of each pair.
        prompts_P: `[P]` what the bootstrap resamples.
        published: subset to its section, published number of rows, and weight in the section.
        section_weights: weight of each section in the overall score.
        prior_section: the section without which the overall score is told as well.
        config: number of resamples, seed.

    Returns:
        The figures of the gate, in 0..1, and of the baselines, with `missing`: the sections that no pair is of, and the
        subsets of the others, which all means leave out.
    """
    counts = {name: int((subsets_P == name).sum()) for name in published}
    measured = [name for name, count in counts.items() if count]
    weights: dict[str, dict[str, float]] = {}
    for name, (section, _, weight) in published.items():
        weights.setdefault(section, {})[name] = weight

    def means(accuracy: Mapping[str, Score]) -> dict[str, Any]:
        sections = section_scores(accuracy, weights)
        remaining = {name: score for name, score in sections.items() if name != prior_section}
        return {
            "sections": sections,
            "overall": overall_score(sections, section_weights) if sections else None,
            "overall_without_prior_sets": overall_score(remaining, section_weights) if remaining else None,
        }

    def accuracies(by_P: Floats) -> dict[str, float]:
        return {name: pair_accuracy(by_P[subsets_P == name]) for name in measured}

    accuracy = accuracies(ranked["gate"])
    found = means(accuracy)
    missing = {
        "sections": [name for name in section_weights if name not in found["sections"]],
        "subsets": [
            name for name, (section, *_) in published.items() if section in found["sections"] and not counts[name]
        ],
    }
    subset_rows, intervals = [], {}
    if measured:
        resampled = _resampled_subsets(wins(ranked["gate"]), accuracy, subsets_P, prompts_P, config)
        subset_rows = [
            {"section": published[name][0], "subset": name, "n": counts[name], "accuracy": value}
            | _bounds(interval(value, resampled[name]))
            for name, value in accuracy.items()
        ]
        resampled_scores = benchmark_figures(means(resampled))
        intervals = {
            name: asdict(interval(score, resampled_scores[name])) for name, score in benchmark_figures(found).items()
        }
    return found | {
        "scorers": [(name, title) for name, title in SCORERS.items() if name in ranked],
        "subsets": subset_rows,
        "intervals": intervals,
        "baselines": {name: means(accuracies(by_P)) for name, by_P in ranked.items() if name != "gate" and measured},
        "missing": missing,
        "note": "; ".join(_benchmark_notes(missing, counts, published)),
    }


def summary_line(pairs: Json, benchmark: Json) -> str:
    """Return both results in a few words."""
    parts = []
    if pairs["rows"]:
        whole = pairs["rows"][0]
        parts.append(f"gate right on {whole['accuracy']['gate']['estimate']:.1%} of {whole['n']} held-out pairs")
    if benchmark["overall"] is not None:
        parts.append(f"{benchmark_name(benchmark)} {benchmark['overall']:.1%}")
    return ", ".join(parts) or "no held-out pairs and no benchmark"


def _won(ranked: Ranked) -> Bools:
    """Return `[P, S]`."""
    return np.stack([wins(by_P) for by_P in ranked.values()], axis=1)


def _intervals(names: Ranked, won_PS: Bools, prompts_P: Names, config: EvaluationConfig) -> Json:
    found = bootstrap_accuracies(won_PS, prompts_P, n_resamples=config.n_resamples, seed=config.seed)
    return {name: asdict(one) for name, one in zip(names, found, strict=True)}


def _bounds(of: Interval) -> Json:
    return {"low": of.low, "high": of.high}


def _resampled_subsets(
    won_P: Bools, accuracy: Mapping[str, float], subsets_P: Names, prompts_P: Names, config: EvaluationConfig
) -> dict[str, npt.NDArray[np.float64]]:
    """Return `[R]` accuracies of each subset; a subset of which no prompt was drawn keeps its own accuracy."""
    inside_PS = np.stack([subsets_P == name for name in accuracy], axis=1)
    values_PF = np.concatenate([inside_PS & won_P[:, None], inside_PS], axis=1)
    sums_RF = bootstrap_sums(values_PF, prompts_P, n_resamples=config.n_resamples, seed=config.seed)
    won_RS, drawn_RS = np.split(sums_RF, 2, axis=1)
    resampled_RS = np.where(drawn_RS > 0, won_RS / np.maximum(drawn_RS, 1), list(accuracy.values()))
    return dict(zip(accuracy, resampled_RS.T, strict=True))


def _benchmark_notes(
    missing: Mapping[str, Sequence[str]], counts: Mapping[str, int], published: Mapping[str, tuple[str, int, float]]
) -> list[str]:
    notes = ["sections weigh their subsets by the published counts"]
    notes += [f"without the {kind} {', '.join(names)}" for kind, names in missing.items() if names]
    if incomplete := sum(counts[name] != n_rows for name, (_, n_rows, _) in published.items()):
        notes.append(f"{incomplete} of {len(published)} subsets differ from their published number of rows")
    return notes

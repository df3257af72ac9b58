"""Figures of merit: errors, rank correlation, pair accuracy with its interval, RewardBench's sections.

Suffixes: N rows, P pairs, C clusters (prompts). A figure that is not defined for its input is NaN where the caller may
well meet that (constant ratings), and an error where it would hide a fault.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from armorm.errors import MetricError

Floats = NDArray[np.floating]


def mse(truth_N: Floats, prediction_N: Floats) -> float:
    """Mean squared error; NaN without rows."""
    return float(np.mean((truth_N - prediction_N) ** 2)) if len(truth_N) else float("nan")


def r2(truth_N: Floats, prediction_N: Floats) -> float:
    """Share of the variance explained, `1 - SSE / SST`; NaN for constant truth."""
    if len(truth_N) == 0 or np.ptp(truth_N) == 0:
        return float("nan")
    return float(1 - np.sum((truth_N - prediction_N) ** 2) / np.sum((truth_N - truth_N.mean()) ** 2))


def clustered_error(values_N: Floats, clusters_N: NDArray[np.generic]) -> float:
    """Standard error of the mean of values of which those of a cluster are not independent; NaN below two clusters.

    `sqrt(C / (C - 1) sum_c (sum_{i in c} (v_i - mean))^2) / N` (Liang and Zeger, Biometrika 73, 1986).
    """
    _, cluster_N = np.unique(clusters_N, return_inverse=True)
    n_clusters = int(cluster_N.max(initial=-1)) + 1
    if n_clusters < 2:
        return float("nan")
    sums_C = np.bincount(cluster_N, weights=values_N - values_N.mean())
    return float(np.sqrt(n_clusters / (n_clusters - 1) * (sums_C**2).sum()) / len(values_N))


def average_ranks(values_N: Floats) -> NDArray[np.float64]:
    """`[N]` ranks from 1; equal values share the mean of their ranks."""
    order = np.argsort(values_N)
    in_order = values_N[order]
    starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]])
    ends = np.r_[starts[1:], len(values_N)]
    ranks = np.empty(len(values_N))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks


def unit(values_N: Floats) -> NDArray[np.float64]:
    """`[N]` the values centred and of length 1, so that a dot product is a correlation; NaN for constant values."""
    if len(values_N) == 0 or np.ptp(values_N) == 0:
        return np.full(len(values_N), np.nan)
    centred = values_N.astype(np.float64) - values_N.mean(dtype=np.float64)
    return np.asarray(centred / np.linalg.norm(centred))


def pearson(a_N: Floats, b_N: Floats) -> float:
    """Linear correlation; NaN for constant input."""
    return float(unit(a_N) @ unit(b_N)) if len(a_N) else float("nan")


def spearman(a_N: Floats, b_N: Floats) -> float:
    """Rank correlation, ties by average ranks; NaN for constant input."""
    return pearson(average_ranks(a_N), average_ranks(b_N))


def wins(scores_chosen_P: Floats, scores_rejected_P: Floats | float = 0.0) -> NDArray[np.bool_]:
    """`[P]` whether the chosen answer scores higher; a tie is a miss. Differences may be given alone.

    Raises:
        MetricError: if a score is not finite, which would count as a miss unseen.
    """
    chosen_P, rejected_P = np.broadcast_arrays(scores_chosen_P, scores_rejected_P)
    bad = ~(np.isfinite(chosen_P) & np.isfinite(rejected_P))
    if bad.any():
        raise MetricError(f"got {bad.sum()} pairs with scores that are not finite; expected numbers; check the model")
    return np.asarray(chosen_P > rejected_P)


def pair_accuracy(scores_chosen_P: Floats, scores_rejected_P: Floats | float = 0.0) -> float:
    """Share of pairs in which the chosen answer scores higher; a tie is a miss; NaN without pairs."""
    won_P = wins(scores_chosen_P, scores_rejected_P)
    return float(won_P.mean()) if len(won_P) else float("nan")


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % confidence interval."""

    estimate: float
    low: float
    high: float


def bootstrap_accuracy(
    wins_P: NDArray[np.bool_], groups_P: NDArray[np.generic], *, n_resamples: int = 1000, seed: int = 0
) -> Interval:
    """Accuracy with a percentile bootstrap over prompts, since pairs of one prompt are not independent.

    Args:
        wins_P: `[P]` whether each pair was won.
        groups_P: `[P]` the prompt of each pair; whole prompts are drawn, with all their pairs.
        n_resamples: Number of bootstrap samples.
        seed: Seed of the draws.
    """
    if len(wins_P) == 0 or len(wins_P) != len(groups_P):
        raise MetricError(f"got {len(wins_P)} pairs and {len(groups_P)} groups; expected one group a pair, and pairs")
    _, group_P = np.unique(groups_P, return_inverse=True)
    won_C, pairs_C = np.bincount(group_P, weights=wins_P), np.bincount(group_P)
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(won_C), size=len(won_C)) for _ in range(n_resamples))
    low, high = np.quantile([won_C[draw_C].sum() / pairs_C[draw_C].sum() for draw_C in draws], [0.025, 0.975])
    return Interval(float(np.mean(wins_P)), float(low), float(high))


def _weighted_mean(values: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Mean over the names that have a value; the others are left out of both sums."""
    return sum(weights[name] * values[name] for name in values) / sum(weights[name] for name in values)


def _refuse_unknown(names: Mapping[str, float], known: set[str], kind: str) -> None:
    if unknown := sorted(names.keys() - known):
        raise MetricError(f"got {kind} {', '.join(unknown)}; expected some of {', '.join(sorted(known))}; drop it")


def section_scores(
    subset_accuracy: Mapping[str, float], weights: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """RewardBench's sections: means of the subsets' accuracies, weighted by their counts.

    Args:
        subset_accuracy: Subset -> accuracy, for the subsets that were measured.
        weights: Section -> subset -> weight.

    Returns:
        Section -> score, in the unit of the accuracies; a section without any measured subset is left out.
    """
    _refuse_unknown(subset_accuracy, {subset for subsets in weights.values() for subset in subsets}, "subset")
    measured = {
        section: {subset: subset_accuracy[subset] for subset in subsets if subset in subset_accuracy}
        for section, subsets in weights.items()
    }
    return {section: _weighted_mean(present, weights[section]) for section, present in measured.items() if present}


def overall_score(sections: Mapping[str, float], section_weights: Mapping[str, float]) -> float:
    """RewardBench's score: the mean of the sections by weight (1 each, prior sets 0.5).

    A section that was not measured is left out of both sums, so a partial run gives a mean of what there is.
    """
    _refuse_unknown(sections, set(section_weights), "section")
    if not sections:
        raise MetricError("got no section; expected at least one; evaluate a benchmark first")
    return _weighted_mean(sections, section_weights)

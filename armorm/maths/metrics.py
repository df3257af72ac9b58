"""Figures of merit: errors, correlations and pair accuracy with intervals, calibration, RewardBench's sections.

Suffixes: N rows, P pairs, C clusters (prompts), S scorers, R resamples, T kinds, F columns. A figure that is not
defined for its input is NaN where the caller may well meet that (constant ratings), and an error where it would hide a
fault. A bootstrap draws whole groups (prompts: their rows are not independent) with replacement, `n_resamples` times.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from armorm.config import Correlation
from armorm.errors import MetricError

Floats = NDArray[np.floating]
Score = TypeVar("Score", float, NDArray[np.float64])
"""A figure, or its resamples."""

_ROUNDING: Final = 1e-12
"""Relative variance treated as zero."""


def mse(truth_N: Floats, prediction_N: Floats) -> float:
    """Return the mean squared error; NaN without rows."""
    return float(np.mean((truth_N - prediction_N) ** 2)) if len(truth_N) else float("nan")


def r2(truth_N: Floats, prediction_N: Floats) -> float:
    """Return the share of the variance explained, `1 - SSE / SST`; NaN for constant truth."""
    if len(truth_N) == 0 or np.ptp(truth_N) == 0:
        return float("nan")
    return float(1 - np.sum((truth_N - prediction_N) ** 2) / np.sum((truth_N - truth_N.mean()) ** 2))


def clustered_error(values_N: Floats, clusters_N: NDArray[np.generic]) -> float:
    """Return the standard error of the mean of values that depend on each other in clusters; NaN below two.

    `sqrt(C / (C - 1) sum_c (sum_{i in c} (v_i - mean))^2) / N` (Liang and Zeger, Biometrika 73, 1986).
    """
    _, cluster_N = np.unique(clusters_N, return_inverse=True)
    n_clusters = int(cluster_N.max(initial=-1)) + 1
    if n_clusters < 2:
        return float("nan")
    sums_C = np.bincount(cluster_N, weights=values_N - values_N.mean())
    return float(np.sqrt(n_clusters / (n_clusters - 1) * (sums_C**2).sum()) / len(values_N))


def average_ranks(values_N: Floats) -> NDArray[np.float64]:
    """Return `[N]` ranks from 1; equal values share the mean of their ranks."""
    order = np.argsort(values_N)
    in_order = values_N[order]
    starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]])
    ends = np.r_[starts[1:], len(values_N)]
    ranks = np.empty(len(values_N))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks


def unit(values_N: Floats) -> NDArray[np.float64]:
    """Return `[N]` values centred and of length 1: a dot product is a correlation; NaN for constant values."""
    if len(values_N) == 0 or np.ptp(values_N) == 0:
        return np.full(len(values_N), np.nan)
    centred = values_N.astype(np.float64) - values_N.mean(dtype=np.float64)
    return np.asarray(centred / np.linalg.norm(centred))


def unit_ranks(values_N: Floats) -> NDArray[np.float64]:
    """Return `[N]` average ranks, centred, of length 1: a dot product is a rank correlation; NaN if constant."""
    return unit(average_ranks(values_N))


STANDARDISE: Final[Mapping[Correlation, Callable[[Floats], NDArray[np.float64]]]] = {
    "spearman": unit_ranks,
    "pearson": unit,
}
"""What brings values into the form whose dot product is the correlation: centred, of length 1."""


def pearson(a_N: Floats, b_N: Floats) -> float:
    """Return the linear correlation; NaN for constant input."""
    return float(unit(a_N) @ unit(b_N)) if len(a_N) else float("nan")


def spearman(a_N: Floats, b_N: Floats) -> float:
    """Return the rank correlation, ties by average ranks; NaN for constant input."""
    return pearson(average_ranks(a_N), average_ranks(b_N))


def wins(scores_chosen_P: Floats, scores_rejected_P: Floats | float = 0.0) -> NDArray[np.bool_]:
    """Return `[P]` whether the chosen answer scores higher; a tie is a miss. Differences may be given alone.

    Raises:
        MetricError: if a score is not finite, which would count as a miss unseen.
    """
    chosen_P, rejected_P = np.broadcast_arrays(scores_chosen_P, scores_rejected_P)
    bad = ~(np.isfinite(chosen_P) & np.isfinite(rejected_P))
    if bad.any():
        raise MetricError(f"got {bad.sum()} pairs with scores that are not finite; expected numbers; check the model")
    return np.asarray(chosen_P > rejected_P)


def pair_accuracy(scores_chosen_P: Floats, scores_rejected_P: Floats | float = 0.0) -> float:
    """Return the share of pairs in which the chosen answer scores higher; a tie is a miss; NaN without pairs."""
    won_P = wins(scores_chosen_P, scores_rejected_P)
    return float(won_P.mean()) if len(won_P) else float("nan")


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % confidence interval."""

    estimate: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Training of the gate seen at one step; validation figures are None without validation pairs."""

    step: int
    loss: float | None = None
    """Mean over the batches since the last point; None before the first step."""
    accuracy: float | None = None
    """The same batches' share of pairs in which the chosen answer scored higher, before each step."""
    validation_loss: float | None = None
    validation_accuracy: float | None = None


def bootstrap_sums(
    values_NF: Floats, groups_N: NDArray[np.generic], *, n_resamples: int = 1000, seed: int = 0
) -> NDArray[np.float64]:
    """Return `[R, F]` sums of each column over prompts that are drawn with replacement, with all their rows.

    Prompts of equal sums are of one kind, and how often each kind is drawn is multinomial: the same distribution as
    that of drawing prompts one by one, at a cost that grows with the kinds.

    Args:
        values_NF: `[N, F]`; a column of ones counts the rows.
        groups_N: `[N]` the prompt of each row: rows of one prompt are not independent.
    """
    if len(values_NF) == 0 or len(values_NF) != len(groups_N):
        raise MetricError(
            f"got {len(values_NF)} pairs and {len(groups_N)} groups; expected one group a pair, and pairs"
        )
    _, group_N = np.unique(groups_N, return_inverse=True)
    sums_CF = np.stack([np.bincount(group_N, weights=values_N) for values_N in values_NF.T], axis=1)
    kinds_TF, count_T = np.unique(sums_CF, axis=0, return_counts=True)
    rng, share_T = np.random.default_rng(seed), count_T / len(sums_CF)
    block = max(1, _DRAWS // len(kinds_TF))
    sizes = [min(block, n_resamples - start) for start in range(0, n_resamples, block)]
    return np.concatenate([rng.multinomial(len(sums_CF), share_T, size=size) @ kinds_TF for size in sizes])


_DRAWS: Final = 1 << 22
"""Numbers that are drawn at once."""


def interval(estimate: float, resampled_R: Floats) -> Interval:
    """Return an estimate with the percentile interval of its resamples, without those that are NaN."""
    if not np.isfinite(resampled_R).any():
        return Interval(estimate, float("nan"), float("nan"))
    low, high = np.nanquantile(resampled_R, [0.025, 0.975])
    return Interval(estimate, float(low), float(high))


def bootstrap_accuracies(
    wins_PS: NDArray[np.bool_], groups_P: NDArray[np.generic], *, n_resamples: int = 1000, seed: int = 0
) -> list[Interval]:
    """Return each scorer's accuracy on the same pairs, with a percentile bootstrap over prompts, of the same draws."""
    counted_PF = np.concatenate([wins_PS, np.ones((len(wins_PS), 1))], axis=1)
    sums_RF = bootstrap_sums(counted_PF, groups_P, n_resamples=n_resamples, seed=seed)
    resampled_RS = sums_RF[:, :-1] / sums_RF[:, -1:]
    return [interval(float(won_P.mean()), of_R) for won_P, of_R in zip(wins_PS.T, resampled_RS.T, strict=True)]


def bootstrap_accuracy(
    wins_P: NDArray[np.bool_], groups_P: NDArray[np.generic], *, n_resamples: int = 1000, seed: int = 0
) -> Interval:
    """Return the same of one scorer: `[P]` whether each pair was won."""
    return bootstrap_accuracies(wins_P[:, None], groups_P, n_resamples=n_resamples, seed=seed)[0]


def bootstrap_gaps(
    wins_PS: NDArray[np.bool_],
    first_P: NDArray[np.bool_],
    second_P: NDArray[np.bool_],
    groups_P: NDArray[np.generic],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> list[Interval]:
    """Return each scorer's accuracy on some pairs less that on others, drawn together; NaN if one has none.

    Args:
        wins_PS: `[P, S]` whether each pair was won by each scorer.
        first_P: `[P]` the pairs of the one accuracy.
        second_P: `[P]` the pairs of the other.
    """
    parts = [np.concatenate([wins_PS & of_P[:, None], of_P[:, None]], axis=1) for of_P in (first_P, second_P)]
    values_PF = np.concatenate(parts, axis=1).astype(np.float64)
    resampled_RF = bootstrap_sums(values_PF, groups_P, n_resamples=n_resamples, seed=seed)

    def gap(sums_RF: Floats) -> NDArray[np.float64]:
        one_RF, other_RF = np.split(sums_RF, 2, axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(one_RF[:, :-1] / one_RF[:, -1:] - other_RF[:, :-1] / other_RF[:, -1:])

    (estimate_S,) = gap(values_PF.sum(axis=0, keepdims=True))
    return [interval(float(one), of_R) for one, of_R in zip(estimate_S, gap(resampled_RF).T, strict=True)]


def bootstrap_correlation(
    columns_NK: Floats,
    with_N: Floats,
    groups_N: NDArray[np.generic],
    *,
    correlation: Correlation = "spearman",
    n_resamples: int = 300,
    seed: int = 0,
) -> list[Interval]:
    """Return the correlation of each column with one more, with a percentile bootstrap over prompts.

    Ranks are those of the whole sample: a resample weighs them by how often their prompt was drawn, so that it costs
    one pass over the prompts' sums. Constant columns have NaN.
    """
    if not len(with_N) == len(columns_NK) == len(groups_N) or len(with_N) == 0:
        raise MetricError(
            f"got {len(columns_NK)} rows, {len(with_N)} to correlate with and {len(groups_N)} groups; expected as many "
            "of each, and rows"
        )
    standardise, n_columns = STANDARDISE[correlation], columns_NK.shape[1]
    a_NK, b_N = np.stack([standardise(column_N) for column_N in columns_NK.T], axis=1), standardise(with_N)
    prompts, group_N = np.unique(groups_N, return_inverse=True)
    sums_CF = np.zeros((len(prompts), 3 + 3 * n_columns))
    parts = [np.ones((len(b_N), 1)), b_N[:, None], b_N[:, None] ** 2, a_NK, a_NK**2, a_NK * b_N[:, None]]
    np.add.at(sums_CF, group_N, np.concatenate(parts, axis=1))
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(prompts), size=len(prompts)) for _ in range(n_resamples))
    weights = (np.bincount(draw_C, minlength=len(prompts)).astype(np.float64) for draw_C in draws)
    resampled = [_weighed(weight_C @ sums_CF, n_columns) for weight_C in weights]
    bounds_2K = np.full((2, n_columns), np.nan)
    defined_K = np.isfinite(resampled).any(axis=0)
    bounds_2K[:, defined_K] = np.nanquantile(np.array(resampled)[:, defined_K], [0.025, 0.975], axis=0)
    return [Interval(*map(float, of)) for of in zip(a_NK.T @ b_N, *bounds_2K, strict=True)]


def _weighed(sums_F: Floats, n_columns: int) -> NDArray[np.float64]:
    """Return `[K]` correlations from sums of 1, b, b^2 and each column's a, a^2, ab; NaN for constant columns."""
    _, b, bb = sums_F[:3] / sums_F[0]
    a_K, aa_K, ab_K = np.split(sums_F[3:] / sums_F[0], [n_columns, 2 * n_columns])
    variances_K, variance = aa_K - a_K**2, bb - b**2
    varies_K = (variances_K > _ROUNDING * aa_K) & (variance > _ROUNDING * bb)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(varies_K, (ab_K - a_K * b) / np.sqrt(variances_K * variance), np.nan))


@dataclass(frozen=True, slots=True)
class Bin:
    """A bin of predictions of similar confidence, and how many of them were right."""

    n: int
    confidence: float
    """Their mean probability."""
    accuracy: float
    """Share that was right."""


def reliability(differences_P: Floats, beta: float, n_bins: int = 10) -> list[Bin]:
    """Return the reliability curve of pairs, in bins of equal numbers, by rising confidence.

    Which answer was chosen is known, so a pair says nothing but the probability of that, p = sigmoid(beta (R_chosen -
    R_rejected)); its confidence is the probability of the answer that is preferred, max(p, 1 - p). It is right where
    `wins` says so of the scores, as everywhere: p itself is rounded to 1/2 where the difference is not yet 0.

    Args:
        n_bins: As many, or as many as there are pairs.

    Raises:
        MetricError: a difference is not finite, or beta is not above 0.
    """
    if not beta > 0:
        raise MetricError(f"got beta {beta}; expected a number above 0; check the model")
    right_P = wins(differences_P)
    sizes_P = np.abs(differences_P.astype(np.float64))
    confidence_P = expit(beta * sizes_P)
    order = np.argsort(sizes_P, kind="stable")
    bins = np.array_split(order, min(n_bins, len(order))) if len(order) else []
    return [Bin(len(of), float(confidence_P[of].mean()), float(right_P[of].mean())) for of in bins]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error: the mean distance of confidence and accuracy; NaN without pairs."""
    n_pairs = sum(one.n for one in bins)
    return sum(one.n * abs(one.confidence - one.accuracy) for one in bins) / n_pairs if n_pairs else float("nan")


def _weighted_mean(values: Mapping[str, Score], weights: Mapping[str, float]) -> Score:
    """Return the mean over the names that have a value; the others are left out of both sums."""
    total: Any = sum(weights[name] * value for name, value in values.items())
    mean: Score = total / sum(weights[name] for name in values)
    return mean


def _refuse_unknown(names: Mapping[str, Any], known: set[str], kind: str) -> None:
    if unknown := sorted(names.keys() - known):
        raise MetricError(f"got {kind} {', '.join(unknown)}; expected some of {', '.join(sorted(known))}; drop it")


def section_scores(
    subset_accuracy: Mapping[str, Score], weights: Mapping[str, Mapping[str, float]]
) -> dict[str, Score]:
    """Return RewardBench's sections: means of the subsets' accuracies, weighted by their counts.

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


def overall_score(sections: Mapping[str, Score], section_weights: Mapping[str, float]) -> Score:
    """Return RewardBench's score: the mean of the sections by weight (1 each, prior sets 0.5).

    A section that was not measured is left out of both sums, so a partial run gives a mean of what there is.
    """
    _refuse_unknown(sections, set(section_weights), "section")
    if not sections:
        raise MetricError("got no section; expected at least one; evaluate a benchmark first")
    return _weighted_mean(sections, section_weights)

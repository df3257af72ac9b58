"""What decorrelation did, as tables: correlations before and after, with intervals, on any sample of answers.

Suffixes: N answers, K objectives.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from armorm.config import TOKEN_LENGTH, Correlation
from armorm.maths.decorrelate import Decorrelation
from armorm.maths.metrics import Interval, bootstrap_correlation

Floats = NDArray[np.floating]
Row = dict[str, Any]


def penalty_rows(found: Decorrelation) -> list[Row]:
    """Return the penalties that were found: a row for each objective and nuisance."""
    figures = {"lambda": found.lambda_MK, "before": found.before_MK, "after": found.after_MK, "step": found.step_MK}
    return [
        {"objective": objective, "nuisance": nuisance, "status": found.status_K[k]}
        | {name: float(values_MK[m, k]) for name, values_MK in figures.items()}
        for k, objective in enumerate(found.objectives)
        for m, nuisance in enumerate(found.nuisances)
    ]


def correlation_rows(
    rewards_NK: Floats,
    transform_KK: Floats,
    n_tokens_N: Floats,
    prompts_N: NDArray[np.generic],
    *,
    objectives: Sequence[str],
    nuisances: Sequence[str],
    correlation: Correlation,
) -> list[Row]:
    """Return the correlation of every objective with every nuisance, and with token length whether it is one or not.

    An objective's correlation with itself is left out. Intervals are bootstraps over prompts.

    Args:
        rewards_NK: `[N, K]` raw rewards.
        transform_KK: `[K, K]` the decorrelation's T.
        n_tokens_N: `[N]` tokens of each answer; answers where it is NaN do not count.
        prompts_N: `[N]` what the bootstrap draws.
        objectives: Names of the columns.
        nuisances: Some of them, or `n_tokens`.
        correlation: By ranks or by values.
    """
    counted_N = np.isfinite(n_tokens_N)
    rewards_NK, n_tokens_N, prompts_N = rewards_NK[counted_N], n_tokens_N[counted_N], prompts_N[counted_N]
    if not len(rewards_NK):
        return []
    counts = {"n_responses": len(rewards_NK), "n_prompts": len(np.unique(prompts_N))}
    rows: list[Row] = []
    for nuisance in dict.fromkeys((*nuisances, TOKEN_LENGTH)):
        with_N = n_tokens_N if nuisance == TOKEN_LENGTH else rewards_NK[:, list(objectives).index(nuisance)]
        both = [
            bootstrap_correlation(columns_NK, with_N, prompts_N, correlation=correlation)
            for columns_NK in (rewards_NK, rewards_NK @ transform_KK)
        ]
        rows += [
            {"objective": name, "nuisance": nuisance} | counts | _flat("before", before) | _flat("after", after)
            for name, before, after in zip(objectives, *both, strict=True)
            if name != nuisance
        ]
    return rows


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return a row for each part, dataset and nuisance: the mean size of correlations, and the largest left."""
    by = itemgetter("part", "dataset", "nuisance", "n_responses", "n_prompts")
    return [
        dict(zip(("part", "dataset", "nuisance", "n_responses", "n_prompts"), key, strict=True)) | _summary(list(of))
        for key, of in groupby(sorted(rows, key=by), by)
    ]


def _summary(rows: Sequence[Mapping[str, Any]]) -> Row:
    defined = [row for row in rows if row["before"] is not None and row["after"] is not None]
    if not defined:
        return {"mean_before": None, "mean_after": None, "largest": None}
    largest = max(defined, key=lambda row: abs(row["after"]))
    return {
        "mean_before": float(np.mean([abs(row["before"]) for row in defined])),
        "mean_after": float(np.mean([abs(row["after"]) for row in defined])),
        "largest": {
            "objective": largest["objective"],
            "estimate": largest["after"],
            "low": largest["after_low"],
            "high": largest["after_high"],
        },
    }


def _flat(name: str, interval: Interval) -> Row:
    """Return the row with NaN as null, as SQL wants it."""
    values = {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return {key: value if np.isfinite(value) else None for key, value in values.items()}

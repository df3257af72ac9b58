"""What decorrelation did, as tables: correlations before and after, with intervals, on any sample of answers.

Suffixes: N answers, K objectives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from armorm.config import TOKEN_LENGTH, Correlation
from armorm.maths.metrics import Interval, bootstrap_correlation

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class CorrelationRow:
    """Correlation of one objective with one nuisance, or with length, in a sample of answers."""

    objective: str
    nuisance: str
    n_responses: int
    n_prompts: int
    before: Interval
    """The correlation of the raw reward; NaN where it is constant, here and after."""
    after: Interval
    """The correlation of the decorrelated reward."""


@dataclass(frozen=True, slots=True)
class LargestCorrelation(Interval):
    """The correlation that is left of the objective that has the largest."""

    objective: str = ""


@dataclass(frozen=True, slots=True)
class CorrelationSummary:
    """All objectives together, with one nuisance, in one sample."""

    part: str
    """`reference` or `held_out`."""
    dataset: str
    nuisance: str
    n_responses: int
    n_prompts: int
    mean_before: float | None = None
    """Mean size; None where no correlation is defined."""
    mean_after: float | None = None
    largest: LargestCorrelation | None = None


def correlation_rows(
    rewards_NK: Floats,
    transform_KK: Floats,
    n_tokens_N: Floats,
    prompts_N: NDArray[np.generic],
    *,
    objectives: Sequence[str],
    nuisances: Sequence[str],
    correlation: Correlation,
) -> list[CorrelationRow]:
    """Correlation of every objective with every nuisance, and with token length whether it is one or not.

    An objective's correlation with itself is left out. Intervals are bootstraps over prompts.

    Args:
        n_tokens_N: `[N]` tokens of each answer; answers where it is NaN do not count.
        prompts_N: `[N]` what the bootstrap draws.
        nuisances: Some of them, or `n_tokens`.
    """
    counted_N = np.isfinite(n_tokens_N)
    rewards_NK, n_tokens_N, prompts_N = rewards_NK[counted_N], n_tokens_N[counted_N], prompts_N[counted_N]
    if not len(rewards_NK):
        return []
    counts = len(rewards_NK), len(np.unique(prompts_N))
    rows: list[CorrelationRow] = []
    for nuisance in dict.fromkeys((*nuisances, TOKEN_LENGTH)):
        with_N = n_tokens_N if nuisance == TOKEN_LENGTH else rewards_NK[:, list(objectives).index(nuisance)]
        both = [
            bootstrap_correlation(columns_NK, with_N, prompts_N, correlation=correlation)
            for columns_NK in (rewards_NK, rewards_NK @ transform_KK)
        ]
        rows += [
            CorrelationRow(name, nuisance, *counts, before, after)
            for name, before, after in zip(objectives, *both, strict=True)
            if name != nuisance
        ]
    return rows


def summarise(rows: Sequence[CorrelationRow], *, part: str, dataset: str) -> list[CorrelationSummary]:
    """Return a line for each nuisance of a sample: mean size of the correlations, and the largest one that is left."""
    by = attrgetter("nuisance", "n_responses", "n_prompts")
    return [
        _summary(CorrelationSummary(part, dataset, *key), list(of)) for key, of in groupby(sorted(rows, key=by), by)
    ]


def _summary(empty: CorrelationSummary, rows: Sequence[CorrelationRow]) -> CorrelationSummary:
    defined = [row for row in rows if np.isfinite((row.before.estimate, row.after.estimate)).all()]
    if not defined:
        return empty
    largest = max(defined, key=lambda row: abs(row.after.estimate))
    return replace(
        empty,
        mean_before=float(np.mean([abs(row.before.estimate) for row in defined])),
        mean_after=float(np.mean([abs(row.after.estimate) for row in defined])),
        largest=LargestCorrelation(largest.after.estimate, largest.after.low, largest.after.high, largest.objective),
    )

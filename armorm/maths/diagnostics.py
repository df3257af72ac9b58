"""What a model has learnt and where it errs: correlations of its rewards, coefficients of its gate, worst mistakes.

Suffixes: N answers, P pairs, U prompts, K objectives. All gives plain values, to be kept as a record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from armorm.config import TOKEN_LENGTH, Correlation
from armorm.maths.metrics import STANDARDISE

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class CorrelationMatrices:
    """Correlations among rewards and with length, before and after decorrelation."""

    names: tuple[str, ...]
    """The objectives, then `n_tokens`."""
    n_responses: int
    correlation: Correlation
    before: tuple[tuple[float | None, ...], ...]
    """A row for each name; NaN or None for what is constant. Empty without responses."""
    after: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, slots=True)
class KindRow:
    """Mean coefficients of the prompts of one kind."""

    kind: str
    """What the name names: `dataset`, `section`, `subset`."""
    name: str
    n_prompts: int
    coefficients: tuple[float, ...]
    """The coefficients of the raw rewards, an objective each."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one term adds to the scores of a pair's two answers."""

    objective: str
    """Or what is taken out of all others."""
    chosen: float
    rejected: float
    difference: float
    weight: float = float("nan")
    """The gate's, for the prompt; NaN of what is taken out."""


def correlation_matrices(
    rewards_NK: Floats,
    transform_KK: Floats,
    n_tokens_N: Floats,
    *,
    objectives: Sequence[str],
    correlation: Correlation,
) -> CorrelationMatrices:
    """Correlation of every predicted reward with every other, and with token length, before and after decorrelation.

    Args:
        rewards_NK: `[N, K]` raw rewards of distinct answers.
        n_tokens_N: `[N]` tokens of each answer; answers where it is NaN do not count.
    """
    counted_N = np.isfinite(n_tokens_N)
    rewards_NK, n_tokens_N = rewards_NK[counted_N], n_tokens_N[counted_N]

    def matrix(columns_NK: Floats) -> tuple[tuple[float, ...], ...]:
        columns = [*columns_NK.T, n_tokens_N]
        marks = np.stack([STANDARDISE[correlation](column_N) for column_N in columns])
        return tuple(map(tuple, (marks @ marks.T).tolist())) if len(n_tokens_N) else ()

    before, after = matrix(rewards_NK), matrix(rewards_NK @ transform_KK)
    return CorrelationMatrices((*objectives, TOKEN_LENGTH), len(n_tokens_N), correlation, before, after)


def mean_by_kind(
    kind: str, names: Sequence[str], names_P: NDArray[Any], prompt_P: NDArray[np.integer], values_UK: Floats
) -> list[KindRow]:
    """Mean of the gate's coefficients over the distinct prompts of each kind.

    Args:
        kind: What the names name: `dataset`, `section`, `subset`.
        names: Those to look for, in order; one without prompts is left out.
        names_P: `[P]` of each pair.
        prompt_P: `[P]` row of each pair's prompt.
        values_UK: `[U, K]` a row for each prompt.
    """
    rows = []
    for name in names:
        prompts = np.unique(prompt_P[names_P == name])
        if not len(prompts):
            continue
        means_K = values_UK[prompts].mean(axis=0, dtype=np.float64)
        rows.append(KindRow(kind, name, len(prompts), tuple(means_K.tolist())))
    return rows


def worst_pairs(differences_P: Floats, n: int) -> NDArray[np.intp]:
    """Return the places of the pairs that a model gets most wrong, the worst first, then the earlier. A tie is a miss.

    Args:
        differences_P: `[P]` scores, chosen minus rejected.
        n: How many, at most.
    """
    in_order = np.argsort(differences_P, kind="stable")[:n]
    return in_order[differences_P[in_order] <= 0]


def explain_pair(
    chosen: Mapping[str, float], rejected: Mapping[str, float], gating: Mapping[str, float]
) -> tuple[Part, ...]:
    """Return what each term adds to the scores of a pair's two answers; what sets them apart most comes first.

    The sums over the terms are the scores.

    Args:
        chosen: term to what it adds to the score of the chosen answer.
        rejected: the same terms of the rejected answer.
        gating: objective to the gate's weight for the prompt.
    """
    parts = [
        Part(name, added, rejected[name], added - rejected[name], gating.get(name, float("nan")))
        for name, added in chosen.items()
    ]
    return tuple(sorted(parts, key=lambda part: -abs(part.difference)))

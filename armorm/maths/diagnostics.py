"""What a model has learnt and where it errs: how its rewards go together, what its gate turns to, its worst mistakes.

Suffixes: N answers, P pairs, U prompts, K objectives. All gives plain values, to be kept as a record.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from armorm.config import TOKEN_LENGTH, Correlation
from armorm.maths.metrics import STANDARDISE
from armorm.maths.score import contributions

Floats = NDArray[np.floating]
Json = dict[str, Any]


def correlation_matrices(
    rewards_NK: Floats,
    transform_KK: Floats,
    n_tokens_N: Floats,
    *,
    objectives: Sequence[str],
    correlation: Correlation,
) -> Json:
    """Return the correlations of predicted rewards with each other and with token length, before and after.

    Args:
        rewards_NK: `[N, K]` raw rewards of distinct answers.
        transform_KK: `[K, K]` the decorrelation's T.
        n_tokens_N: `[N]` tokens of each answer; answers where it is NaN do not count.
        objectives: Names of the columns.
        correlation: By ranks or by values.

    Returns:
        `names` (the objectives, then `n_tokens`), `n_responses`, `correlation`, and the matrices `before` and `after`,
        of lists; NaN for what is constant.
    """
    counted_N = np.isfinite(n_tokens_N)
    rewards_NK, n_tokens_N = rewards_NK[counted_N], n_tokens_N[counted_N]

    def matrix(columns_NK: Floats) -> list[list[float]]:
        columns = [*columns_NK.T, n_tokens_N]
        standardised = np.stack([STANDARDISE[correlation](column_N) for column_N in columns])
        return (standardised @ standardised.T).tolist() if len(n_tokens_N) else []

    return {
        "names": [*objectives, TOKEN_LENGTH],
        "n_responses": len(n_tokens_N),
        "correlation": correlation,
        "before": matrix(rewards_NK),
        "after": matrix(rewards_NK @ transform_KK),
    }


def mean_by_kind(
    kind: str, names: Sequence[str], names_P: NDArray[Any], prompt_P: NDArray[np.integer], values_UK: Floats
) -> list[Json]:
    """Return the mean of the gate's coefficients over the distinct prompts of each kind.

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
        rows.append({"kind": kind, "name": name, "n_prompts": len(prompts), "coefficients": means_K.tolist()})
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
    chosen_K: Floats, rejected_K: Floats, transform_KK: Floats, gating_K: Floats, *, objectives: Sequence[str]
) -> list[Json]:
    """Return what each objective adds to the scores of a pair's two answers; what sets them apart most comes first.

    The sums over the objectives are the scores.

    Args:
        chosen_K: `[K]` raw rewards.
        rejected_K: `[K]`.
        transform_KK: `[K, K]` the decorrelation's T.
        gating_K: `[K]` the gate's weights for the prompt.
        objectives: Names of the columns.
    """
    both_2K = contributions(np.stack([chosen_K, rejected_K]), transform_KK, gating_K[None]).astype(np.float64)
    differences_K = both_2K[0] - both_2K[1]
    return [
        {
            "objective": objectives[k],
            "weight": float(gating_K[k]),
            "chosen": float(both_2K[0, k]),
            "rejected": float(both_2K[1, k]),
            "difference": float(differences_K[k]),
        }
        for k in np.argsort(-np.abs(differences_K), kind="stable")
    ]

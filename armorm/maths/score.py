"""The scoring formula, once: the gate's loss, evaluation and the exported model agree by calling it.

Suffixes: N rows (or pairs), K objectives. Arrays are NumPy arrays or torch tensors alike. The formula is linear in the
rewards, so the score of a difference of rewards is the difference of the scores.
"""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Array = TypeVar("Array", "NDArray[np.floating]", "torch.Tensor")


def score(rewards_NK: Array, transform_KK: Array, gating_NK: Array) -> Array:
    """Return `[N]` the score `R = g(f(x))' r'` with `r' = r T` (Eq. 4 of arXiv 2406.12845)."""
    total_N: Array = (gating_NK * (rewards_NK @ transform_KK)).sum(-1)
    return total_N


def coefficients(transform_KK: Array, gating_NK: Array) -> Array:
    """Return `[N, K]` weights of the raw rewards, `g T'`: `sum(rewards * coefficients)` is the score."""
    return gating_NK @ transform_KK.T


def contributions(rewards_NK: Array, transform_KK: Array, gating_NK: Array) -> Array:
    """Return `[N, K]` what each raw reward adds to the score, its penalty for verbosity booked under verbosity."""
    return rewards_NK * coefficients(transform_KK, gating_NK)


def reweighted(gating_NK: Array, factors_K: Array) -> Array:
    """Return `[N, K]` gate weights times factors of 0 or more, with the sum they had; 0 masks an objective.

    Where the gate gives the objectives that are left nothing at all, they share by their factors.
    """
    weighed_NK = gating_NK * factors_K
    weighed_NK = weighed_NK + (weighed_NK.sum(-1)[..., None] == 0) * factors_K
    weights_NK: Array = weighed_NK / weighed_NK.sum(-1)[..., None] * gating_NK.sum(-1)[..., None]
    return weights_NK

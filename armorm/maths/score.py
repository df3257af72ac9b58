"""The scoring formula, once: the gate's loss, evaluation and the exported model agree by calling it.

Suffixes: N rows (or pairs), K objectives. Arrays are NumPy arrays or torch tensors alike. The formula is linear in the
rewards, so the score of a difference of rewards is the difference of the scores.
"""

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.floating]
Array = TypeVar("Array", "NDArray[np.floating]", "torch.Tensor")


def score(rewards_NK: Array, transform_KK: Array, gating_NK: Array) -> Array:
    """Return `[N]` the score `R = g(f(x))' r'` with `r' = r T` (Eq. 4 of arXiv 2406.12845)."""
    total_N: Array = (gating_NK * (rewards_NK @ transform_KK)).sum(-1)
    return total_N


def coefficients(transform_KK: Array, gating_NK: Array) -> Array:
    """Return `[N, K]` weights of the raw rewards, `g T'`: `sum(rewards * coefficients)` is the score."""
    return gating_NK @ transform_KK.T


def contributions(
    rewards_NK: Floats, transform_KK: Floats, gating_NK: Floats, decorrelated_K: NDArray[np.bool_]
) -> Floats:
    """Return `[N, K + 1]` what sums to the score: gate times raw reward, and last, all that decorrelation takes out.

    An objective that is taken out of the others adds nothing of its own: its share is in the last term.

    Args:
        decorrelated_K: `[K]` the objectives that are taken out of none.
    """
    own_NK = gating_NK * rewards_NK * decorrelated_K
    taken_N = score(rewards_NK, transform_KK, gating_NK) - own_NK.sum(axis=-1)
    return np.concatenate([own_NK, taken_N[:, None]], axis=1)


def reweighted(gating_NK: Array, factors_K: Array) -> Array:
    """Return `[N, K]` gate weights times factors of 0 or more, with the sum they had; 0 masks an objective.

    Where the gate gives the objectives that are left nothing at all, they share by their factors.
    """
    weighed_NK = gating_NK * factors_K
    weighed_NK = weighed_NK + (weighed_NK.sum(-1)[..., None] == 0) * factors_K
    weights_NK: Array = weighed_NK / weighed_NK.sum(-1)[..., None] * gating_NK.sum(-1)[..., None]
    return weights_NK

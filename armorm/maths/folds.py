"""Folds of prompts, for rewards that a pair had no part in.

A linear reward looks better than it is on the rows that it was fitted to, and a gate that is trained on these prompts
would trust it too much. The gate is therefore shown, of each training pair, rewards that were fitted without the pair's
fold (stacking with cross-validated predictions: Wolpert, Neural Networks 5, 1992).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

FOLDS: Final = 5


def fold_of(prompt_ids: NDArray[np.object_]) -> NDArray[np.int64]:
    """Return `[N]` the fold of each row, by its prompt's id, so that it stays as data grow and order changes.

    The last hex digits are used: the split comes of a hash of the whole id.
    """
    return np.array([int(prompt_id[-8:], 16) % FOLDS for prompt_id in prompt_ids], dtype=np.int64)

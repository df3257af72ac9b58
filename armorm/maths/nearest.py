"""The nearest of many vectors to some others, by cosine.

Suffixes: E vectors whose nearest is looked for, N vectors to look among, D feature size, B a block of the N.
"""

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from armorm.maths.gate import Vectors

BLOCK_ROWS: Final = 2048


def nearest(vectors_ED: NDArray[np.floating], among_ND: "Vectors") -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return `[E]` row of the nearest vector and `[E]` cosine to it, both less the mean of those to look among.

    The mean is taken off as hidden states share a large part, which would make all of them alike (Ethayarajh, "How
    Contextual are Contextualized Word Representations?", arXiv 1909.00512). It is read twice, a block at a time.

    Args:
        vectors_ED: `[E, D]` whose nearest is looked for.
        among_ND: `[N, D]`, at least one row.
    """
    blocks = [slice(start, start + BLOCK_ROWS) for start in range(0, len(among_ND), BLOCK_ROWS)]
    mean_D = sum(np.asarray(among_ND[rows], dtype=np.float64).sum(axis=0) for rows in blocks) / len(among_ND)
    units_ED = _units(vectors_ED, mean_D)
    row_E = np.zeros(len(units_ED), dtype=np.intp)
    cosine_E = np.full(len(units_ED), -np.inf, dtype=np.float32)
    for rows in blocks:
        cosines_EB = units_ED @ _units(among_ND[rows], mean_D).T
        best_E = cosines_EB.argmax(axis=1)
        found_E = cosines_EB[np.arange(len(best_E)), best_E]
        better_E = found_E > cosine_E
        row_E[better_E], cosine_E[better_E] = best_E[better_E] + rows.start, found_E[better_E]
    return row_E, cosine_E


def _units(vectors_ND: NDArray[np.floating], mean_D: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return `[N, D]` directions from the mean; a vector that is the mean itself has none, and is like no other."""
    centred_ND = np.asarray(vectors_ND - mean_D, dtype=np.float32)
    norms_N = np.linalg.norm(centred_ND, axis=1, keepdims=True)
    return np.asarray(centred_ND / np.where(norms_N > 0, norms_N, 1))

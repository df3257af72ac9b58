"""Preferences as one more objective: the maximum-likelihood direction of training pairs, as a linear reward.

A reward w'x that has no linear correlation with a nuisance z is one with w'Cov(x, z) = 0. Under that constraint the
likeliest direction is another one than the likeliest of all with the nuisance taken off afterwards, and predicts pairs
better. (Features from which Cov(x, z) is projected out are linearly guarded: LEACE, arXiv 2306.03819, theorem 3.1.)

Suffixes: P pairs, D feature size, F folds, M nuisances.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from armorm.maths.folds import FOLDS
from armorm.maths.probe import Blocks, ProbeFit, fit_probe
from armorm.maths.ridge import BLOCK_ROWS

if TYPE_CHECKING:
    from armorm.maths.gate import Vectors

Floats = NDArray[np.floating]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PreferenceFit:
    """A Bradley-Terry direction, and those that each training pair had no part in."""

    probe: ProbeFit
    """Fitted to all training pairs, its strength chosen on validation pairs."""
    w_D: NDArray[np.float64]
    """`[D]` the same under the constraint; without one it is the probe's."""
    fold_FD: NDArray[np.float64]
    """`[F, D]` constrained directions at the same strength, each fitted to the training pairs of the other folds."""


def fit_preference(
    pairs_of: Callable[[Rows], Blocks],
    training: Rows,
    validation: Rows,
    fold_P: NDArray[np.integer],
    covariances_MD: Floats | None = None,
) -> PreferenceFit:
    """Fit the direction, and for each fold one without its pairs.

    Args:
        pairs_of: differences of the features of some pairs, chosen less rejected.
        training: rows of the training pairs.
        validation: rows of the validation pairs.
        fold_P: `[P]` 0 .. F - 1 of each pair, by its prompt; of others than training pairs it does not matter.
        covariances_MD: `[M, D]` of the features with each nuisance.

    Raises:
        MetricError: there are no training or no validation pairs, or all differences are zero.
    """
    probe = whole = fit_probe(pairs_of(training), pairs_of(validation))
    free_of = pairs_of
    if covariances_MD is not None and len(covariances_MD):
        basis_DM = scipy.linalg.orth(covariances_MD.T.astype(np.float64))

        def free_of(rows: Rows) -> Blocks:
            return lambda: (X_BD - (X_BD @ basis_DM) @ basis_DM.T for X_BD in pairs_of(rows)())

        whole = fit_probe(free_of(training), free_of(validation))
    others = [training[fold_P[training] != fold] for fold in range(FOLDS)]
    fits = (
        fit_probe(free_of(rows), free_of(validation), strengths=[whole.strength]) if len(rows) else whole
        for rows in others
    )
    return PreferenceFit(probe, whole.w_D, np.stack([fit.w_D for fit in fits]))


def covariances(X_ND: "Vectors", Z_MN: Floats) -> NDArray[np.float64]:
    """Return `[M, D]` covariances of features with nuisances, a block of rows at a time.

    Args:
        X_ND: `[N, D]` features, which may be read from shards as they are sliced.
        Z_MN: `[M, N]` nuisances; NaN where one is not known.
    """
    centred_MN = np.nan_to_num(Z_MN - np.nanmean(Z_MN, axis=1, keepdims=True))
    n_M1 = (~np.isnan(Z_MN)).sum(axis=1, keepdims=True)
    blocks = (slice(start, start + BLOCK_ROWS) for start in range(0, len(X_ND), BLOCK_ROWS))
    return np.asarray(sum(centred_MN[:, block] @ X_ND[block].astype(np.float64) for block in blocks) / n_M1)

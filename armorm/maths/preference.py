"""Preferences as one more objective: the maximum-likelihood direction of training pairs, as a linear reward.

Suffixes: P pairs, D feature size, F folds.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from armorm.maths.folds import FOLDS
from armorm.maths.probe import Blocks, ProbeFit, fit_probe

Floats = NDArray[np.floating]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PreferenceFit:
    """A Bradley-Terry direction, and those that each training pair had no part in."""

    probe: ProbeFit
    """Fitted to all training pairs, its strength chosen on validation pairs."""
    fold_FD: NDArray[np.float64]
    """`[F, D]` directions at the same strength, each fitted to the training pairs of the other folds."""


def fit_preference(
    pairs_of: Callable[[Rows], Blocks], training: Rows, validation: Rows, fold_P: NDArray[np.integer]
) -> PreferenceFit:
    """Fit the direction, and for each fold one without its pairs.

    Args:
        pairs_of: differences of the features of some pairs, chosen less rejected.
        training: rows of the training pairs.
        validation: rows of the validation pairs.
        fold_P: `[P]` 0 .. F - 1 of each pair, by its prompt; of others than training pairs it does not matter.

    Raises:
        MetricError: there are no training or no validation pairs, or all differences are zero.
    """
    probe = fit_probe(pairs_of(training), pairs_of(validation))
    others = [training[fold_P[training] != fold] for fold in range(FOLDS)]
    fits = (
        fit_probe(pairs_of(rows), pairs_of(validation), strengths=[probe.strength]) if len(rows) else probe
        for rows in others
    )
    return PreferenceFit(probe, np.stack([fit.w_D for fit in fits]))

"""The best fixed mixture of the objectives: what a gate starts from, and has to beat.

Suffixes: P pairs, K objectives.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit

from armorm.errors import GateError

Floats = NDArray[np.floating]

LEAST_SHARE: Final = 0.02
"""The share of the weights that all objectives have together: from a weight near 0 a softmax hardly learns."""

_BETAS: Final = (1e-6, 1e6)
"""Between which beta is searched, in units of one over the spread of the margins."""


@dataclass(frozen=True, slots=True)
class FixedMixture:
    """One weight an objective for all prompts, and the scale of its score."""

    weights_K: NDArray[np.float64]
    """`[K]` above 0, of sum 1; 0 of an objective that does not enter."""
    beta: float
    """The maximum-likelihood scale of training pairs."""


def fit_mixture(differences_PK: Floats, entering_K: NDArray[np.bool_]) -> FixedMixture:
    """Fit the maximum-likelihood weights of training pairs, `mean log(1 + exp(-d'v))` over `v >= 0` (Eq. 5).

    The problem is convex; `v = beta g`. A weak normal prior on the weights of differences of unit spread, worth one
    pair, keeps pairs that can be told apart from a beta without end.

    Args:
        differences_PK: `[P, K]` decorrelated rewards r' of the chosen answers less those of the rejected ones.
        entering_K: `[K]` the objectives that may have a weight.

    Raises:
        GateError: no objective may enter, or those that may are the same for both answers of every pair.
    """
    spread_K = np.sqrt((differences_PK.astype(np.float64) ** 2).mean(axis=0))
    columns = np.flatnonzero(entering_K & (spread_K > 0))
    if not len(columns):
        raise GateError(
            f"got {int(entering_K.sum())} objectives for the gate, none of which tells the answers of a pair apart; "
            "expected one at least; lower least_ratings in [gate], or name objectives in always"
        )
    D_PK = differences_PK[:, columns] / spread_K[columns]
    n_pairs = len(D_PK)

    def loss_and_gradient(v_K: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin_P = D_PK @ v_K
        loss = np.logaddexp(0, -margin_P).mean() + v_K @ v_K / (2 * n_pairs)
        return float(loss), -(expit(-margin_P) @ D_PK) / n_pairs + v_K / n_pairs

    start_K = np.full(len(columns), 1 / len(columns))
    found = minimize(loss_and_gradient, start_K, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(columns))
    v_K = np.zeros(len(entering_K))
    v_K[columns] = found.x / spread_K[columns]
    if not v_K.any():  # no objective agrees with the pairs: all of them alike, each in units of its spread
        v_K[columns] = 1 / spread_K[columns]
    weights_K = (1 - LEAST_SHARE) * v_K / v_K.sum() + LEAST_SHARE * entering_K / entering_K.sum()
    return FixedMixture(weights_K, fit_beta(differences_PK @ weights_K))


def fit_beta(margins_P: Floats) -> float:
    """Fit the maximum-likelihood beta of pairs: the smallest `mean log(1 + exp(-beta margin))`.

    Of margins that are all of one sign there is none, and the end of the range is returned.
    """
    spread = float(np.sqrt((margins_P.astype(np.float64) ** 2).mean()))
    if not spread:
        return 1.0

    def loss(log_beta: float) -> float:
        return float(np.logaddexp(0, -np.exp(log_beta) / spread * margins_P).mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(_BETAS)), method="bounded")
    return float(np.exp(found.x)) / spread

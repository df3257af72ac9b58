"""How far off a reward may be: the standard deviation of ridge's prediction, with quantiles that held-out ratings give.

Suffixes: N rows, D feature size, K objectives, Q quantiles.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.stats import norm

from armorm.maths.statistics import RidgeStatistics

Floats = NDArray[np.floating]

LEAST_RATINGS: Final = 100
"""Held-out ratings that quantiles are taken from; of fewer, those of the normal distribution."""

QUANTILES: Final = 400
"""Kept of the errors, at most."""


@dataclass(frozen=True, slots=True)
class RewardError:
    """The error of one objective's prediction."""

    factor_DD: NDArray[np.float32]
    """`[D, D]` the lower Cholesky factor of X'X + alpha I over the rows that the weights were fitted to."""
    noise: float
    """Standard deviation of a rating about its expectation."""
    errors_Q: NDArray[np.float64]
    """`[Q]` quantiles of held-out errors, in units of the standard deviation of each; empty: normal ones."""

    def deviations(self, X_ND: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`[N]` standard deviations of the reward, and of a rating, which has the judge's noise besides.

        That of the reward is `noise sqrt(x' (X'X + alpha I)^-1 x)`, by one triangular solve for all rows.
        """
        solved_DN = scipy.linalg.solve_triangular(
            self.factor_DD, X_ND.T.astype(np.float32), lower=True, check_finite=False
        )
        leverage_N = (solved_DN.astype(np.float64) ** 2).sum(axis=0)
        return self.noise * np.sqrt(leverage_N), self.noise * np.sqrt(1 + leverage_N)

    def quantile(self, level: float) -> float:
        """The error, in standard deviations, that a share `level` of ratings stays below.

        Of n held-out errors it is the one of rank `level (n + 1)`, so that a new rating is below it as often as is said
        whatever its distribution (split conformal prediction: Lei et al., JASA 113, 2018, section 2.2).
        """
        if not len(self.errors_Q):
            return float(norm.ppf(level))
        n = len(self.errors_Q)
        place = np.clip(level * (n + 1) - 1, 0, n - 1)
        return float(np.interp(place, np.arange(n), self.errors_Q))

    def interval(self, rewards_N: Floats, X_ND: Floats, *, level: float = 0.9) -> NDArray[np.float64]:
        """`[2, N]` bounds between which a share `level` of ratings lie."""
        _, deviation_N = self.deviations(X_ND)
        tails = ((1 - level) / 2, (1 + level) / 2)
        return np.stack([rewards_N + self.quantile(tail) * deviation_N for tail in tails])


def fit_error(
    train: RidgeStatistics, final: RidgeStatistics, alpha: float, held_out_N: Floats, X_ND: Floats
) -> RewardError:
    """Fit the error of one objective.

    Args:
        train: statistics of the rows that the held-out errors' weights were fitted to.
        final: statistics of the rows that the final weights were fitted to.
        alpha: ridge's penalty.
        held_out_N: `[N]` ratings less predictions, on rows that the weights of `train` do not depend on.
        X_ND: `[N, D]` features of those rows.
    """
    noise = float(np.sqrt((held_out_N**2).mean())) if len(held_out_N) else float("nan")
    rough = RewardError(_factor(train, alpha), noise, np.empty(0))
    if not len(held_out_N):
        return RewardError(_factor(final, alpha), noise, np.empty(0))
    leverage_N = (rough.deviations(X_ND)[0] / noise) ** 2 if noise else np.zeros(len(held_out_N))
    noise = float(np.sqrt((held_out_N**2 / (1 + leverage_N)).mean()))
    errors_N = np.sort(held_out_N / (noise * np.sqrt(1 + leverage_N))) if noise else np.zeros(len(held_out_N))
    enough = len(errors_N) >= LEAST_RATINGS
    return RewardError(_factor(final, alpha), noise, _thinned(errors_N) if enough else np.empty(0))


def score_deviation(deviations_NK: Floats, coefficients_NK: Floats) -> NDArray[np.float64]:
    """`[N]` standard deviation of scores, the errors of different objectives taken as independent."""
    return np.asarray(np.sqrt(((deviations_NK * coefficients_NK) ** 2).sum(axis=1)))


def coverage(truth_N: Floats, bounds_2N: Floats) -> float:
    """Share of ratings within their interval."""
    return float(((truth_N >= bounds_2N[0]) & (truth_N <= bounds_2N[1])).mean()) if len(truth_N) else float("nan")


def _factor(statistics: RidgeStatistics, alpha: float) -> NDArray[np.float32]:
    penalised_DD = statistics.gram_DD.copy(order="F")
    np.einsum("dd->d", penalised_DD)[:] += alpha
    factor_DD = scipy.linalg.cholesky(penalised_DD, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(factor_DD, np.float32)


def _thinned(errors_N: Floats) -> NDArray[np.float64]:
    """The errors, or of many the quantiles that stand for as many of them each."""
    if len(errors_N) <= QUANTILES:
        return np.asarray(errors_N, np.float64)
    return np.asarray(np.quantile(errors_N, np.arange(1, QUANTILES + 1) / (QUANTILES + 1)), np.float64)

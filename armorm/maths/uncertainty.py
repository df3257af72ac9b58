"""How far off rewards may be: the standard deviation of ridge's predictions, with quantiles that held-out ratings give.

Suffixes: N rows, D feature size, K objectives, M factors, T elements of a triangle, Q quantiles. Objectives that were
fitted to the same rows with the same alpha share a Cholesky factor of X'X + alpha I, D (D + 1) / 2 numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.special import expit
from scipy.stats import norm

from armorm.maths.metrics import clustered_error
from armorm.maths.probe import Blocks, ProbeFit
from armorm.maths.ridge import BLOCK_ROWS, HeldOut, ObjectiveFit, Part, sets_of, total_of

if TYPE_CHECKING:
    from armorm.maths.gate import Vectors

Floats = NDArray[np.floating]

LEAST_RATINGS: Final = 100
"""Held-out ratings that quantiles and correlations are taken from; of fewer, normal and independent errors."""

LEVELS: Final = np.arange(1, 400) / 400
"""The levels of the quantiles that are kept."""

COVERED: Final = 0.9
"""The level of the intervals whose coverage is reported."""


@dataclass(frozen=True, slots=True)
class RewardErrors:
    """The errors of linear rewards; every field is a tensor of the same name in a file."""

    factors_MT: NDArray[np.float32]
    """`[M, T]` lower Cholesky factors of X'X + alpha I over the rows that weights were fitted to, packed by columns."""
    centres_MD: NDArray[np.float32]
    """`[M, D]` features for which a reward is taken as known: 0, but for one that is fitted to differences."""
    factor_K: NDArray[np.int32]
    """`[K]` the factor of each objective."""
    noise_K: NDArray[np.float64]
    """`[K]` standard deviation of a rating about its expectation."""
    correlation_KK: NDArray[np.float64]
    """`[K, K]` of the errors of objectives that are rated on the same rows; of others 0."""
    quantiles_KQ: NDArray[np.float64]
    """`[K, Q]` quantiles of held-out errors, in units of the standard deviation of each; NaN: those of the normal."""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, for a file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Return the errors that such arrays were made from.

        Raises:
            ValueError: an array is missing, or they do not fit each other.
        """
        found = cls(**{field.name: tensors[field.name] for field in fields(cls)})
        n_factors, n_features = found.centres_MD.shape
        n_objectives = len(found.noise_K)
        expected = {
            "factors_MT": (n_factors, n_features * (n_features + 1) // 2),
            "factor_K": (n_objectives,),
            "correlation_KK": (n_objectives, n_objectives),
            "quantiles_KQ": (n_objectives, len(LEVELS)),
        }
        for name, shape in expected.items():
            if tensors[name].shape != shape:
                raise ValueError(f"{name} is of shape {tensors[name].shape}, where {shape} is expected")
        if not np.isin(found.factor_K, range(n_factors)).all():
            raise ValueError("factor_K names a factor that is not there")
        return found

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """Return the errors of the objectives of all parts, one part after the other."""
        starts = np.cumsum([0, *(len(part.factors_MT) for part in parts[:-1])])
        moved = [part.factor_K + start for part, start in zip(parts, starts, strict=True)]
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("factors_MT", "centres_MD", "noise_K", "quantiles_KQ")
        }
        correlation_KK = scipy.linalg.block_diag(*(part.correlation_KK for part in parts))
        return cls(factor_K=np.concatenate(moved).astype(np.int32), correlation_KK=correlation_KK, **joined)

    def of_factor(self, factor: int) -> Self:
        """Return the errors of the objectives that share a factor."""
        here = np.flatnonzero(self.factor_K == factor)
        parts = {name: getattr(self, name)[[factor]] for name in ("factors_MT", "centres_MD")}
        parts |= {name: getattr(self, name)[here] for name in ("noise_K", "quantiles_KQ")}
        correlation_KK = self.correlation_KK[np.ix_(here, here)]
        return replace(self, factor_K=np.zeros(len(here), np.int32), correlation_KK=correlation_KK, **parts)

    def deviations(self, X_ND: "Vectors") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`[N, K]` standard deviations of the rewards, and of ratings, which have the judge's noise besides.

        That of a reward is `noise sqrt(x' (X'X + alpha I)^-1 x)`, by one triangular solve a factor for all rows.
        """
        leverage_MN = np.stack([self._leverages(m, X_ND) for m in range(len(self.factors_MT))])
        leverage_NK = leverage_MN[self.factor_K].T
        return self.noise_K * np.sqrt(leverage_NK), self.noise_K * np.sqrt(1 + leverage_NK)

    def score_deviations(self, deviations_NK: Floats, coefficients_NK: Floats) -> NDArray[np.float64]:
        """`[N]` standard deviations of scores, from those of the rewards and the coefficients of the raw rewards."""
        parts_NK = deviations_NK * coefficients_NK
        return np.asarray(np.sqrt(np.maximum(((parts_NK @ self.correlation_KK) * parts_NK).sum(axis=1), 0)))

    def quantiles(self, level: float) -> NDArray[np.float64]:
        """`[K]` errors, in standard deviations, that a share `level` of ratings stays below.

        Of n held-out errors it is the one of rank `level (n + 1)`, so that a new rating is below it as often as is said
        whatever its distribution (split conformal prediction: Lei et al., JASA 113, 2018, section 2.2).
        """
        found_K = np.array([np.interp(level, LEVELS, of_Q) for of_Q in self.quantiles_KQ])
        return np.where(np.isnan(found_K), norm.ppf(level), found_K)

    def bounds(self, rewards_NK: Floats, X_ND: "Vectors", *, level: float = COVERED) -> NDArray[np.float64]:
        """`[2, N, K]` bounds between which a share `level` of ratings lie."""
        _, deviation_NK = self.deviations(X_ND)
        tails = ((1 - level) / 2, (1 + level) / 2)
        return np.stack([rewards_NK + self.quantiles(tail) * deviation_NK for tail in tails])

    def _leverages(self, factor: int, X_ND: "Vectors") -> NDArray[np.float64]:
        centre_D = self.centres_MD[factor]
        lower_DD, _ = lapack.stpttr(len(centre_D), self.factors_MT[factor], uplo="L")
        return _leverages(lower_DD, X_ND, np.arange(len(X_ND)), centre_D)


def fit_errors(
    parts: Sequence[Part],
    objectives: Sequence[str],
    alpha_K: Floats,
    X_ND: "Vectors",
    errors_NK: Floats,
    *,
    refit: bool = True,
) -> RewardErrors:
    """Fit the errors of ridge's rewards.

    Args:
        parts: all rows, as the weights were fitted to.
        X_ND: `[N, D]` features of held-out rows.
        errors_NK: `[N, K]` their ratings less the predictions of the weights of `train` alone; NaN without a rating.
        refit: whether the final weights come from `train` and `validation` together.
    """
    alpha_K, n_objectives = np.asarray(alpha_K), len(objectives)
    factors: list[NDArray[np.float32]] = []
    factor_K, noise_K = np.zeros(n_objectives, np.int32), np.full(n_objectives, np.nan)
    correlation_KK, quantiles_KQ = np.eye(n_objectives), np.full((n_objectives, len(LEVELS)), np.nan)
    for members, names in sets_of(parts, objectives):
        columns = np.array([list(objectives).index(name) for name in names])
        by_alpha = [columns[alpha_K[columns] == alpha] for alpha in np.unique(alpha_K[columns])]
        rows = np.flatnonzero(~np.isnan(errors_NK[:, columns]).any(axis=1))  # who labels one of a set labels all
        standard_NK = np.zeros((len(rows), n_objectives))
        total = total_of(members, names, "train")
        for here in by_alpha:
            leverage_N1 = _leverages(_factor(total.gram_DD, alpha_K[here[0]]), X_ND, rows)[:, None]
            scaled_NG = errors_NK[np.ix_(rows, here)] / np.sqrt(1 + leverage_N1)
            if len(rows):
                noise_K[here] = np.sqrt((scaled_NG**2).mean(axis=0))
            standard_NK[:, here] = np.divide(
                scaled_NG, noise_K[here], out=np.zeros_like(scaled_NG), where=noise_K[here] > 0
            )
        if len(rows) >= LEAST_RATINGS:
            standard_NG = standard_NK[:, columns]
            correlation_KK[np.ix_(columns, columns)] = standard_NG.T @ standard_NG / len(rows)
            correlation_KK[columns, columns] = 1.0  # also of one that is predicted without error
            ranks_Q = LEVELS * (len(rows) + 1) - 1
            quantiles_KQ[columns] = [np.interp(ranks_Q, range(len(rows)), np.sort(of_N)) for of_N in standard_NG.T]
        if refit:
            total.merge(total_of(members, names, "validation"))
        for here in by_alpha:
            factor_K[here] = len(factors)
            factors.append(_packed(_factor(total.gram_DD, alpha_K[here[0]])))
    centres_MD = np.zeros((len(factors), X_ND.shape[1]), np.float32)
    return RewardErrors(np.stack(factors), centres_MD, factor_K, noise_K, correlation_KK, quantiles_KQ)


def preference_errors(training: Blocks, fit: ProbeFit, centre_D: Floats, unit: float) -> RewardErrors:
    """Return the error of a Bradley-Terry direction by Laplace's approximation, its curvature in place of X'X.

    Pairs determine differences of rewards alone, so the deviation is that of the reward less the mean answer's.

    Args:
        training: differences of the features of the pairs that it was fitted to.
        fit: the direction as it was fitted.
        centre_D: `[D]` mean features of the answers.
        unit: factor that the direction is multiplied with as a reward.
    """
    curvature_DD = np.zeros((len(fit.w_D), len(fit.w_D)), order="F")
    for X_BD in training():
        wide_BD = X_BD.astype(np.float64)
        p_B1 = expit(wide_BD @ fit.w_D)[:, None]
        curvature_DD += (wide_BD * p_B1 * (1 - p_B1)).T @ wide_BD
    factor_DD = _factor(curvature_DD, fit.alpha * fit.n_train)
    return RewardErrors(
        _packed(factor_DD)[None],
        np.asarray(centre_D, np.float32)[None],
        np.zeros(1, np.int32),
        np.array([unit]),
        np.eye(1),
        np.full((1, len(LEVELS)), np.nan),
    )


def lower_bounds(scores_N: Floats, deviations_N: Floats, level: float) -> NDArray[np.float64]:
    """`[N]` bounds that scores under perfectly known rewards are below with probability `level`.

    The quantile is that of the normal distribution, whatever that of ratings: an error of weights is a mean over many.
    """
    return np.asarray(scores_N + norm.ppf(level) * deviations_N)


def with_coverage(
    fits: Sequence[ObjectiveFit], errors: RewardErrors, X_ND: "Vectors", test: HeldOut
) -> tuple[ObjectiveFit, ...]:
    """Return the fits with their noise, and with the share of test ratings that lie in their interval.

    Args:
        X_ND: `[N, D]` features of the test rows.
        test: these rows, as the final weights predict them.
    """
    inside_NK = np.full(test.truth_NK.shape, np.nan)
    for factor in range(len(errors.factors_MT)):  # rows that its objectives are rated on: most are not
        here, of_factor = np.flatnonzero(errors.factor_K == factor), errors.of_factor(factor)
        rated = np.flatnonzero(~np.isnan(test.truth_NK[:, here]).all(axis=1))
        for start in range(0, len(rated), BLOCK_ROWS):
            block = rated[start : start + BLOCK_ROWS]
            truth_NG = test.truth_NK[np.ix_(block, here)]
            bounds_2NG = of_factor.bounds(test.prediction_NK[np.ix_(block, here)], X_ND[block])
            inside_NG = (bounds_2NG[0] <= truth_NG) & (truth_NG <= bounds_2NG[1])
            inside_NK[np.ix_(block, here)] = np.where(np.isnan(truth_NG), np.nan, inside_NG)
    told = []
    for k, fit in enumerate(fits):
        rated = np.flatnonzero(~np.isnan(inside_NK[:, k]))
        inside_N, prompts_N = inside_NK[rated, k], test.prompts_N[rated]
        share = float(inside_N.mean()) if len(rated) else float("nan")
        error = clustered_error(inside_N, prompts_N)
        told.append(replace(fit, noise=float(errors.noise_K[k]), test_coverage=share, test_coverage_error=error))
    return tuple(told)


def _leverages(
    factor_DD: NDArray[np.float32], X_ND: "Vectors", rows: NDArray[np.integer], centre_D: Floats | float = 0.0
) -> NDArray[np.float64]:
    """`[N]` `x' (L L')^-1 x` of some rows, a block at a time."""
    leverage_N = np.empty(len(rows))
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        centred_DN = np.asarray(X_ND[block] - centre_D, np.float32).T
        solved_DN = scipy.linalg.solve_triangular(factor_DD, centred_DN, lower=True, check_finite=False)
        leverage_N[start : start + len(block)] = np.square(solved_DN, dtype=np.float64).sum(axis=0)
    return leverage_N


def _factor(gram_DD: NDArray[np.float64], alpha: float) -> NDArray[np.float32]:
    """`[D, D]` lower triangular L with L L' = X'X + alpha I; where rounding makes X'X indefinite, by eigenvectors."""
    penalised_DD = gram_DD.copy(order="F")
    np.einsum("dd->d", penalised_DD)[:] += alpha
    try:
        factor_DD: Floats = scipy.linalg.cholesky(penalised_DD, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        values_D, vectors_DD = scipy.linalg.eigh(gram_DD, check_finite=False)
        root_DD = np.sqrt(np.maximum(values_D, 0) + alpha)[:, None] * vectors_DD.T
        factor_DD = scipy.linalg.qr(root_DD, mode="r", check_finite=False)[0].T
    return np.asarray(factor_DD, np.float32)


def _packed(factor_DD: NDArray[np.float32]) -> NDArray[np.float32]:
    packed_T, _ = lapack.strttp(np.asfortranarray(factor_DD), uplo="L")
    return np.asarray(packed_T)

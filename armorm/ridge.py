"""Stage 1: ridge regression of the ratings on the features, with one alpha per objective and no intercept.

Suffixes: N rows, D feature size, K objectives, G objectives that are labelled on the same rows, A alphas.
All that ridge needs to know of its rows is additive, so rows are read once, in blocks, grouped by their label mask
(which objectives are labelled): one Gram matrix serves all objectives of a mask, and an objective's own is the sum over
the masks that hold it. Objectives with the same masks share one eigendecomposition, which serves every alpha.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from armorm.errors import RegressionError
from armorm.metrics import mse, r2, spearman

Floats = NDArray[np.floating]
Rows = NDArray[np.intp]
Mask = NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.floating)

ALPHAS: Final = tuple(10.0**exponent for exponent in range(-4, 5))
"""1e-4 .. 1e4 by decades."""

BLOCK_ROWS: Final = 4096


@dataclass(slots=True)
class RidgeStatistics:
    """Additive statistics of rows on which G objectives are labelled, in float64."""

    gram_DD: NDArray[np.float64]
    """`[D, D]` X'X."""
    moment_DG: NDArray[np.float64]
    """`[D, G]` X'Y."""
    squares_G: NDArray[np.float64]
    """`[G]` y'y."""
    n_rows: int = 0

    @classmethod
    def zeros(cls, n_features: int, n_objectives: int) -> "RidgeStatistics":
        """The statistics of no rows."""
        square = np.zeros((n_features, n_features))
        return cls(square, np.zeros((n_features, n_objectives)), np.zeros(n_objectives))

    def update(self, X_ND: Floats, Y_NG: Floats) -> None:
        """Adds one block of rows, every one of them labelled.

        Raises:
            RegressionError: if a feature or a label is not finite.
        """
        X_ND, Y_NG = X_ND.astype(np.float64), Y_NG.astype(np.float64)
        _refuse_not_finite("feature", X_ND)
        _refuse_not_finite("label", Y_NG)
        self.gram_DD += X_ND.T @ X_ND
        self.moment_DG += X_ND.T @ Y_NG
        self.squares_G += (Y_NG**2).sum(axis=0)
        self.n_rows += len(X_ND)

    def merge(self, other: "RidgeStatistics") -> None:
        """Adds the statistics of other rows."""
        self.gram_DD += other.gram_DD
        self.moment_DG += other.moment_DG
        self.squares_G += other.squares_G
        self.n_rows += other.n_rows

    def select(self, columns: Rows) -> "RidgeStatistics":
        """The statistics of some of the objectives; the Gram matrix is shared, not copied."""
        return RidgeStatistics(self.gram_DD, self.moment_DG[:, columns], self.squares_G[columns], self.n_rows)

    def mse(self, W_AGD: Floats) -> NDArray[np.float64]:
        """`[A, G]` mean squared error of weights on these very rows, `(y'y - 2 w'X'y + w'X'Xw) / n`."""
        explained_AG = (W_AGD * (2 * self.moment_DG.T - W_AGD @ self.gram_DD)).sum(axis=-1)
        return np.asarray(np.maximum(self.squares_G - explained_AG, 0) / self.n_rows)


@dataclass(frozen=True, slots=True)
class ObjectiveFit:
    """How one objective was fitted; figures of rows that do not exist are NaN."""

    objective: str
    alpha: float
    n_train: int
    n_validation: int
    n_test: int
    train_mse: float
    validation_mse: float
    test_mse: float
    test_r2: float
    test_spearman: float


@dataclass(frozen=True, slots=True)
class RidgeFit:
    """The regression layer: trained objectives only, by name."""

    objectives: tuple[str, ...]
    W_KD: NDArray[np.float64]
    """`[K, D]` weights, one row per trained objective."""
    reports: tuple[ObjectiveFit, ...]
    untrained: dict[str, str]
    """Objective -> why it was not trained."""


def solve_path(gram_DD: Floats, moment_DG: Floats, alphas: Sequence[float]) -> NDArray[np.float64]:
    """`[A, G, D]` ridge weights `(X'X + alpha I)^-1 X'Y` for every alpha, by one eigendecomposition.

    Eigenvalues below zero are rounding (fewer rows than features leave exact zeros) and count as zero.
    """
    if min(alphas) <= 0:
        raise RegressionError(f"got alphas {list(alphas)}; expected positive numbers; a tiny one is as good as none")
    values_D, vectors_DD = np.linalg.eigh(gram_DD)
    shrunk_ADG = (vectors_DD.T @ moment_DG) / (np.maximum(values_D, 0)[:, None] + np.reshape(alphas, (-1, 1, 1)))
    return np.asarray((vectors_DD @ shrunk_ADG).transpose(0, 2, 1))


def predict(X_ND: Floats, W_KD: NDArray[Scalar], *, rows: Rows | None = None) -> NDArray[Scalar]:
    """`[N, K]` predicted rewards `X W'` of all or some rows, in blocks and in the precision of the weights.

    Raises:
        RegressionError: if a prediction is not finite, as with features that overflowed.
    """
    rows = np.arange(len(X_ND)) if rows is None else rows
    rewards_NK = np.empty((len(rows), len(W_KD)), W_KD.dtype)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        rewards_NK[block] = X_ND[rows[block]].astype(W_KD.dtype) @ W_KD.T
    _refuse_not_finite("prediction", rewards_NK)
    return rewards_NK


def _refuse_not_finite(what: str, values: Floats) -> None:
    if bad := int((~np.isfinite(values)).any(axis=1).sum()):
        raise RegressionError(
            f"got {bad} rows with a {what} that is not finite; expected numbers; leave those rows out"
        )


def collect_statistics(X_ND: Floats, Y_NK: Floats, rows: Rows) -> Iterator[tuple[Rows, RidgeStatistics]]:
    """The statistics of some rows, for each set of objectives that are labelled on the same of them.

    Args:
        X_ND: `[N, D]` features; may be a memory map, and is read once.
        Y_NK: `[N, K]` ratings, NaN where there is none.
        rows: Indices of the rows that count.

    Yields:
        Indices of the objectives of a set, and their statistics. Sets without a label are left out.
    """
    masks_MK, mask_of_row = np.unique(~np.isnan(Y_NK[rows]), axis=0, return_inverse=True)
    patterns, pattern_of_objective = np.unique(masks_MK.T, axis=0, return_inverse=True)
    sets = [np.flatnonzero(pattern_of_objective == p) for p in np.flatnonzero(patterns.any(axis=1))]
    totals = [RidgeStatistics.zeros(X_ND.shape[1], len(columns)) for columns in sets]
    for m, mask_K in enumerate(masks_MK):
        labelled = np.flatnonzero(mask_K)
        part = _statistics_of(X_ND, Y_NK, rows[mask_of_row == m], labelled)
        for columns, total in zip(sets, totals, strict=True):
            if mask_K[columns[0]]:
                total.merge(part.select(np.searchsorted(labelled, columns)))
    yield from zip(sets, totals, strict=True)


def _statistics_of(X_ND: Floats, Y_NK: Floats, rows: Rows, columns: Rows) -> RidgeStatistics:
    statistics = RidgeStatistics.zeros(X_ND.shape[1], len(columns))
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        statistics.update(X_ND[block], Y_NK[np.ix_(block, columns)])
    return statistics


def fit_ridge(
    X_ND: Floats,
    Y_NK: Floats,
    *,
    objectives: Sequence[str],
    train_N: Mask,
    validation_N: Mask,
    test_N: Mask,
    alphas: Sequence[float] = ALPHAS,
) -> RidgeFit:
    """Fits every objective that can be fitted, each with the alpha of the lowest validation error.

    Minimises `||X w - y||^2 + alpha ||w||^2` over the present labels of the training rows, without an intercept.

    Args:
        X_ND: `[N, D]` features f(x+y), of any float type.
        Y_NK: `[N, K]` ratings in 0..1, NaN where there is none.
        objectives: Names of the columns of `Y_NK`.
        train_N: `[N]` rows that weights come from.
        validation_N: `[N]` rows that alphas are chosen on.
        test_N: `[N]` rows that the reported figures come from; there may be none.
        alphas: Penalties to choose from.

    Raises:
        RegressionError: if shapes disagree, splits overlap, numbers are not finite, or nothing can be trained.
    """
    _check(X_ND, Y_NK, objectives, (train_N, validation_N, test_N))
    untrained = _untrainable(Y_NK, objectives, train_N, validation_N)
    trained = tuple(name for name in objectives if name not in untrained)
    if not trained:
        listed = "; ".join(f"{name}: {reason}" for name, reason in untrained.items())
        raise RegressionError(f"got no objective that can be trained ({listed}); add ratings", untrained=untrained)
    Y_NK = Y_NK[:, [name in trained for name in objectives]]
    path_AKD = np.empty((len(alphas), len(trained), X_ND.shape[1]))
    train_AK = np.empty(path_AKD.shape[:2])
    for columns, statistics in collect_statistics(X_ND, Y_NK, np.flatnonzero(train_N)):
        path_AKD[:, columns] = solve_path(statistics.gram_DD, statistics.moment_DG, alphas)
        train_AK[:, columns] = statistics.mse(path_AKD[:, columns])
    validation_AK = _path_mse(X_ND, Y_NK, validation_N, path_AKD)
    chosen = (validation_AK.argmin(axis=0), np.arange(len(trained)))
    errors_K = zip(np.asarray(alphas)[chosen[0]], train_AK[chosen], validation_AK[chosen], strict=True)
    W_KD = path_AKD[chosen]
    reports = _reports(X_ND, Y_NK, W_KD, trained, (train_N, validation_N, test_N), errors_K)
    return RidgeFit(trained, W_KD, reports, untrained)


def _check(X_ND: Floats, Y_NK: Floats, objectives: Sequence[str], splits: Sequence[Mask]) -> None:
    n_rows = len(X_ND)
    if X_ND.ndim != 2 or Y_NK.shape != (n_rows, len(objectives)) or any(len(split_N) != n_rows for split_N in splits):
        raise RegressionError(
            f"got features {X_ND.shape}, ratings {Y_NK.shape} and splits of {[len(s) for s in splits]} rows; expected "
            f"[N, D], [N, {len(objectives)}] and N each"
        )
    _refuse_not_finite("label", np.nan_to_num(Y_NK, nan=0.0, posinf=np.inf, neginf=-np.inf))
    if shared := int((np.sum(splits, axis=0) > 1).sum()):
        raise RegressionError(f"got {shared} rows in more than one split; expected none; split by prompt")


def _untrainable(Y_NK: Floats, objectives: Sequence[str], train_N: Mask, validation_N: Mask) -> dict[str, str]:
    """Objective -> why it cannot be trained; empty if all can."""
    reasons = {}
    for name, y_N in zip(objectives, Y_NK.T, strict=True):
        train, validation = (y_N[rows_N & ~np.isnan(y_N)] for rows_N in (train_N, validation_N))
        got = f"got {len(train)} training and {len(validation)} validation ratings"
        if min(len(train), len(validation)) < 2:
            reasons[name] = f"{got}; expected at least 2 of each"
        elif np.ptp(train) == 0:
            reasons[name] = f"{got}, those of training all {train[0]:g}; expected ratings that differ"
    return reasons


def _path_mse(X_ND: Floats, Y_NK: Floats, rows_N: Mask, path_AKD: Floats) -> NDArray[np.float64]:
    """`[A, K]` mean squared error over the present labels, of every alpha at one reading of the rows."""
    rows = np.flatnonzero(rows_N & ~np.isnan(Y_NK).all(axis=1))
    n_alphas, n_objectives, n_features = path_AKD.shape
    rewards = predict(X_ND, path_AKD.reshape(-1, n_features), rows=rows).reshape(-1, n_alphas, n_objectives)
    return np.asarray(np.nanmean((rewards - Y_NK[rows][:, None]) ** 2, axis=0))


def _reports(
    X_ND: Floats,
    Y_NK: Floats,
    W_KD: Floats,
    trained: Sequence[str],
    splits: tuple[Mask, Mask, Mask],
    errors_K: Iterable[tuple[float, float, float]],
) -> tuple[ObjectiveFit, ...]:
    """Counts, errors (alpha, training, validation) and test figures of every objective."""
    labelled_NK = ~np.isnan(Y_NK)
    n_train_K, n_validation_K, n_test_K = ((labelled_NK[rows_N]).sum(axis=0) for rows_N in splits)
    rows = np.flatnonzero(splits[2] & labelled_NK.any(axis=1))
    rewards_NK = predict(X_ND, W_KD, rows=rows)
    reports = []
    for k, (name, (alpha, train_mse, validation_mse)) in enumerate(zip(trained, errors_K, strict=True)):
        present = labelled_NK[rows, k]
        truth, prediction = Y_NK[rows[present], k], rewards_NK[present, k]
        reports.append(
            ObjectiveFit(
                objective=name,
                alpha=float(alpha),
                n_train=int(n_train_K[k]),
                n_validation=int(n_validation_K[k]),
                n_test=int(n_test_K[k]),
                train_mse=float(train_mse),
                validation_mse=float(validation_mse),
                test_mse=mse(truth, prediction),
                test_r2=r2(truth, prediction),
                test_spearman=spearman(truth, prediction),
            )
        )
    return tuple(reports)

"""Stage 1: ridge regression of the ratings on the features, with one alpha per objective and no intercept.

Suffixes: N rows, D feature size, K objectives, G objectives that are labelled on the same rows, A alphas.
All that ridge needs to know of its rows is additive (see `statistics`). So rows are counted once, in parts within which
the same objectives are labelled, and an objective's own statistics are the sum over the parts that label it.
Objectives of the same parts share their factorisations, and their alphas are chosen without a second look at any row.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from armorm.errors import RegressionError
from armorm.maths.metrics import clustered_error, mse, r2, spearman
from armorm.maths.statistics import RidgeStatistics, refuse_not_finite

if TYPE_CHECKING:
    from armorm.maths.gate import Vectors

Floats = NDArray[np.floating]
Rows = NDArray[np.intp]
Mask = NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.floating)
End = Literal["smallest", "largest"]
Screening = Literal["few_ratings", "no_better_than_mean"]
"""Why an objective is kept out of the gate: too few training ratings, or a held-out R2 not significantly above 0."""

ALPHAS: Final = tuple(10.0**exponent for exponent in range(-4, 5))
"""1e-4 .. 1e4 by decades."""

BLOCK_ROWS: Final = 4096

SURE: Final = 1.96
"""Standard errors of a 95 % interval."""

CHOLESKYS_OF_AN_EIGH: Final = 20
"""One eigendecomposition takes as long as so many Cholesky factorisations, 15 to 25 by the size."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows on which the same objectives are labelled, by split (`train` or `validation`), read when asked for."""

    objectives: tuple[str, ...]
    statistics: Callable[[str], RidgeStatistics]


@dataclass(frozen=True, slots=True)
class Weights:
    """What was fitted, before it is tested."""

    W_KD: NDArray[np.float64]
    train_W_KD: NDArray[np.float64]
    """The weights of `train` alone, of which validation rows say the truth."""
    alphas: tuple[float, ...]
    """The alphas that were chosen from."""
    alpha_K: NDArray[np.float64]
    train_mse_K: NDArray[np.float64]
    validation_mse_K: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows that weights do not depend on, with their predictions. Ratings that are not there are NaN."""

    truth_NK: Floats
    prediction_NK: Floats
    prompts_N: NDArray[np.generic]
    """`[N]` which prompt each row is of: rows of one prompt are not independent."""
    widths_NK: Floats
    """`[N, K]` native units that the values 0..1 of that row's dataset span."""


NAN: Final = float("nan")


@dataclass(frozen=True, slots=True)
class ObjectiveFit:
    """How one objective was fitted; figures of rows that do not exist are NaN, and those that older models lack."""

    objective: str
    alpha: float = NAN
    alpha_end: End | None = None
    """Whether that is the smallest or the largest of several: a better one may lie beyond."""
    n_train: int | None = None
    n_validation: int | None = None
    n_test: int | None = None
    train_mse: float = NAN
    """The error of the weights that are fitted to `train` alone, as is `validation_mse`, which alpha is chosen by."""
    validation_mse: float = NAN
    validation_r2: float = NAN
    """R2 of the same weights; it decides, with its error, whether the objective enters the gate."""
    validation_r2_error: float = NAN
    """Its standard error, over prompts."""
    test_mse: float = NAN
    """The error of the final weights; all that follows is of them too."""
    test_mse_error: float = NAN
    """Its standard error, over prompts."""
    test_mse_native: float = NAN
    """In squares of the units that the datasets rate in, each row in those of its own."""
    test_r2: float = NAN
    test_r2_error: float = NAN
    """Its standard error, over prompts."""
    test_spearman: float = NAN
    noise: float = NAN
    """Standard deviation of a rating about its expectation, by held-out errors."""
    test_coverage: float = NAN
    """Share of test ratings in their 90 % interval."""
    test_coverage_error: float = NAN
    """Its standard error, over prompts."""


@dataclass(frozen=True, slots=True)
class Untrained:
    """Why an objective was not trained."""

    reason: Literal["too_few", "all_equal"]
    n_train: int
    n_validation: int
    value: float | None = None
    """The value of all training ratings, where they are equal."""

    @property
    def n_rated(self) -> int:
        """The number of its ratings."""
        return self.n_train + self.n_validation

    @property
    def line(self) -> str:
        """A sentence with the counts."""
        got = f"got {self.n_train} training and {self.n_validation} validation ratings"
        if self.reason == "too_few":
            return f"{got}; expected at least 2 of each"
        return f"{got}, those of training all {self.value:g}; expected ratings that differ"


@dataclass(frozen=True, slots=True)
class RidgeFit:
    """The regression layer: trained objectives only, by name."""

    objectives: tuple[str, ...]
    W_KD: NDArray[np.float64]
    """`[K, D]` weights, one row per trained objective."""
    reports: tuple[ObjectiveFit, ...]
    untrained: dict[str, Untrained]
    """Objective -> why it was not trained."""


def solve_path(statistics: RidgeStatistics, alphas: Sequence[float]) -> NDArray[np.float64]:
    """Return `[A, G, D]` ridge weights `(X'X + alpha I)^-1 X'Y` for every alpha.

    By a Cholesky factorisation for each, or by one eigendecomposition for all where that is cheaper, or where X'X is
    singular: with fewer rows than features no more eigenvalues than rows are above zero, and the eigenvectors of the
    others, to which X'Y is orthogonal but for rounding, are left out. Where rounding makes X'X + alpha I indefinite,
    eigenvalues below zero count as zero.

    Raises:
        RegressionError: an alpha is not positive.
    """
    if min(alphas) <= 0:
        raise RegressionError(f"got alphas {list(alphas)}; expected positive numbers; use a tiny one for no penalty")
    n_features = len(statistics.gram_DD)
    if not statistics.n_rows:
        return np.zeros((len(alphas), statistics.moment_DG.shape[1], n_features))
    if statistics.n_rows >= n_features and len(alphas) <= CHOLESKYS_OF_AN_EIGH:
        try:
            return np.stack([_by_cholesky(statistics, alpha) for alpha in alphas])
        except np.linalg.LinAlgError:
            pass
    return _by_eigenvectors(statistics, alphas, rank=min(statistics.n_rows, n_features))


def _by_cholesky(statistics: RidgeStatistics, alpha: float) -> NDArray[np.float64]:
    penalised_DD = statistics.gram_DD.copy(order="F")
    np.einsum("dd->d", penalised_DD)[:] += alpha
    factor = scipy.linalg.cho_factor(penalised_DD, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(scipy.linalg.cho_solve(factor, statistics.moment_DG, check_finite=False).T)


def _by_eigenvectors(statistics: RidgeStatistics, alphas: Sequence[float], *, rank: int) -> NDArray[np.float64]:
    n_features = len(statistics.gram_DD)
    largest = None if rank == n_features else (n_features - rank, n_features - 1)
    values_R, vectors_DR = scipy.linalg.eigh(statistics.gram_DD, subset_by_index=largest, check_finite=False)
    penalised_AR = np.maximum(values_R, 0) + np.reshape(alphas, (-1, 1))
    shrunk_ARG = (vectors_DR.T @ statistics.moment_DG) / penalised_AR[:, :, None]
    return np.asarray((vectors_DR @ shrunk_ARG).transpose(0, 2, 1))


def fit_parts(
    parts: Sequence[Part],
    objectives: Sequence[str],
    *,
    alphas: Sequence[float] = ALPHAS,
    refit: bool = True,
) -> Weights:
    """Fit objectives, each with the alpha of the lowest error on `validation`.

    Args:
        parts: all rows; statistics of no more than two of them are in memory at once.
        objectives: those to fit; each is labelled in both splits of some part.
        refit: whether the final weights come from `train` and `validation` together, or from `train` alone.
    """
    fitted: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], float, float, float]] = {}
    for members, names in sets_of(parts, objectives):
        total = total_of(members, names, "train")
        path_AGD = solve_path(total, alphas)
        train_AG = total.mse(path_AGD)
        validation = total_of(members, names, "validation")
        validation_AG = validation.mse(path_AGD)
        best_G = validation_AG.argmin(axis=0)
        train_W_GD = path_AGD[best_G, range(len(names))]
        W_GD = train_W_GD.copy()
        if refit:
            total.merge(validation)
            for a in np.unique(best_G):
                columns = np.flatnonzero(best_G == a)
                (W_GD[columns],) = solve_path(total.select(columns), [alphas[a]])
        for g, (name, a) in enumerate(zip(names, best_G, strict=True)):
            fitted[name] = (W_GD[g], train_W_GD[g], alphas[a], train_AG[a, g], validation_AG[a, g])
    W_K, train_W_K, *figures = zip(*(fitted[name] for name in objectives), strict=True)
    return Weights(np.stack(W_K), np.stack(train_W_K), tuple(alphas), *map(np.array, figures))


def fit_folds(
    parts: Sequence[Part], objectives: Sequence[str], alphas: Sequence[float], *, n_folds: int
) -> NDArray[np.float64]:
    """Return `[F, K, D]` weights, those of a fold fitted to the rows of the others.

    Args:
        parts: all rows, with a split for each fold, named by `fold_split`.
    """
    fitted: dict[str, list[NDArray[np.float64]]] = {name: [] for name in objectives}
    for members, names in sets_of(parts, objectives):
        of_folds = [total_of(members, names, fold_split(fold)) for fold in range(n_folds)]
        for fold in range(n_folds):
            rest = RidgeStatistics.zeros(len(of_folds[0].gram_DD), len(names))
            for other in (*of_folds[:fold], *of_folds[fold + 1 :]):
                rest.merge(other)
            for g, name in enumerate(names):
                alpha = alphas[list(objectives).index(name)]
                fitted[name].append(solve_path(rest.select(np.array([g])), [alpha])[0, 0])
    return np.stack([np.stack(fitted[name]) for name in objectives], axis=1)


def fold_split(fold: int) -> str:
    """Return the name of a fold among the splits of `parts_of`."""
    return str(fold)


def sets_of(parts: Sequence[Part], objectives: Sequence[str]) -> Iterator[tuple[list[Part], list[str]]]:
    """Yield the objectives that the same parts label, with these parts."""
    holders: dict[tuple[int, ...], list[str]] = {}
    for name in objectives:
        held = tuple(number for number, part in enumerate(parts) if name in part.objectives)
        holders.setdefault(held, []).append(name)
    for held, names in holders.items():
        yield [parts[number] for number in held], names


def total_of(members: Sequence[Part], names: Sequence[str], split: str) -> RidgeStatistics:
    """Return the sum over parts, of the named objectives."""
    total: RidgeStatistics | None = None
    for part in members:
        statistics = part.statistics(split).select(_columns(part, names))
        if total is None:
            total = statistics
        else:
            total.merge(statistics)
    assert total, f"{names} are labelled in no part"
    return total


def _columns(part: Part, names: Sequence[str]) -> Rows:
    return np.array([part.objectives.index(name) for name in names], np.intp)


def predict(X_ND: "Vectors", W_KD: NDArray[Scalar], *, rows: Rows | None = None) -> NDArray[Scalar]:
    """Return `[N, K]` predicted rewards `X W'` of all or some rows, in blocks and in the precision of the weights.

    Raises:
        RegressionError: if a prediction is not finite, as with features that overflowed.
    """
    rows = np.arange(len(X_ND)) if rows is None else rows
    rewards_NK = np.empty((len(rows), len(W_KD)), W_KD.dtype)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        rewards_NK[block] = X_ND[rows[block]].astype(W_KD.dtype) @ W_KD.T
    refuse_not_finite("prediction", rewards_NK)
    return rewards_NK


def count_rows(X_ND: "Vectors", Y_NG: Floats, rows: Rows) -> RidgeStatistics:
    """Return the statistics of some rows, in blocks; the features may be a memory map."""
    statistics = RidgeStatistics.zeros(X_ND.shape[1], Y_NG.shape[1])
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        statistics.add(X_ND[block], Y_NG[block])
    return statistics


def label_masks(Y_NK: Floats) -> Iterator[tuple[Rows, Rows]]:
    """Yield rows and columns of each mask: which objectives are labelled, and on which rows just these are."""
    masks_MK, mask_of_row = np.unique(~np.isnan(Y_NK), axis=0, return_inverse=True)
    for number, mask_K in enumerate(masks_MK):
        if mask_K.any():
            yield np.flatnonzero(mask_of_row == number), np.flatnonzero(mask_K)


def parts_of(X_ND: "Vectors", Y_NK: Floats, objectives: Sequence[str], splits: Mapping[str, Mask]) -> list[Part]:
    """Rows in memory as parts, one for each mask; a split is counted when it is asked for."""

    def statistics(rows: Rows, columns: Rows, split: str) -> RidgeStatistics:
        return count_rows(X_ND, Y_NK[:, columns], rows[splits[split][rows]])

    return [
        Part(tuple(objectives[k] for k in columns), partial(statistics, rows, columns))
        for rows, columns in label_masks(Y_NK)
    ]


def fit_ridge(
    X_ND: Floats,
    Y_NK: Floats,
    *,
    objectives: Sequence[str],
    train_N: Mask,
    validation_N: Mask,
    test_N: Mask,
    alphas: Sequence[float] = ALPHAS,
    refit: bool = True,
) -> RidgeFit:
    """Fit every objective that can be fitted, each with the alpha of the lowest validation error.

    Minimises `||X w - y||^2 + alpha ||w||^2` over the present labels of the training rows, without an intercept.

    Args:
        X_ND: `[N, D]` features f(x+y), of any float type.
        Y_NK: `[N, K]` ratings in 0..1, NaN where there is none.
        train_N: `[N]` rows that weights come from.
        validation_N: `[N]` rows that alphas are chosen on.
        test_N: `[N]` rows that the reported figures come from; there may be none. Each counts as a prompt of its own.
        refit: Whether the final weights, alphas once chosen, come from the validation rows too.

    Raises:
        RegressionError: if shapes disagree, splits overlap, numbers are not finite, or nothing can be trained.
    """
    _check(X_ND, Y_NK, objectives, (train_N, validation_N, test_N))
    trained, untrained = trainable(Y_NK, objectives, train_N, validation_N)
    Y_NK = Y_NK[:, [name in trained for name in objectives]]
    parts = parts_of(X_ND, Y_NK, trained, {"train": train_N, "validation": validation_N})
    weights = fit_parts(parts, trained, alphas=alphas, refit=refit)
    labelled_NK = ~np.isnan(Y_NK)

    def held_out(rows_N: Mask, W_KD: NDArray[np.float64]) -> HeldOut:
        rows = np.flatnonzero(rows_N & labelled_NK.any(axis=1))
        predicted_NK = predict(X_ND, W_KD, rows=rows)
        return HeldOut(Y_NK[rows], predicted_NK, np.arange(len(rows)), np.ones(predicted_NK.shape))

    reports = report_fits(
        trained,
        weights,
        labelled_NK[train_N].sum(axis=0),
        held_out(validation_N, weights.train_W_KD),
        held_out(test_N, weights.W_KD),
    )
    return RidgeFit(trained, weights.W_KD, reports, untrained)


def _check(X_ND: Floats, Y_NK: Floats, objectives: Sequence[str], splits: Sequence[Mask]) -> None:
    n_rows = len(X_ND)
    if X_ND.ndim != 2 or Y_NK.shape != (n_rows, len(objectives)) or any(len(split_N) != n_rows for split_N in splits):
        raise RegressionError(
            f"got features {X_ND.shape}, ratings {Y_NK.shape} and splits of {[len(s) for s in splits]} rows; expected "
            f"[N, D], [N, {len(objectives)}] and N each"
        )
    refuse_not_finite("label", np.nan_to_num(Y_NK, nan=0.0, posinf=np.inf, neginf=-np.inf))
    if shared := int((np.sum(splits, axis=0) > 1).sum()):
        raise RegressionError(f"got {shared} rows in more than one split; expected none; split by prompt")


def trainable(
    Y_NK: Floats, objectives: Sequence[str], train_N: Mask, validation_N: Mask
) -> tuple[tuple[str, ...], dict[str, Untrained]]:
    """Return the objectives that can be trained, and of the others why not.

    Raises:
        RegressionError: none can.
    """
    reasons: dict[str, Untrained] = {}
    for name, y_N in zip(objectives, Y_NK.T, strict=True):
        train, validation = (y_N[rows_N & ~np.isnan(y_N)] for rows_N in (train_N, validation_N))
        counts = len(train), len(validation)
        if min(counts) < 2:
            reasons[name] = Untrained("too_few", *counts)
        elif np.ptp(train) == 0:
            reasons[name] = Untrained("all_equal", *counts, float(train[0]))
    trained = tuple(name for name in objectives if name not in reasons)
    if not trained:
        why = {name: reason.line for name, reason in reasons.items()}
        listed = "; ".join(f"{name}: {line}" for name, line in why.items())
        raise RegressionError(f"got no objective that can be trained ({listed}); add ratings", untrained=why)
    return trained, reasons


def report_fits(
    objectives: Sequence[str], weights: Weights, n_train_K: Rows, validation: HeldOut, test: HeldOut
) -> tuple[ObjectiveFit, ...]:
    """Return counts, errors and held-out figures of every objective.

    Args:
        validation: validation rows, as the weights of the training rows alone predict them.
        test: test rows, as the final weights predict them.
    """
    reports = []
    for k, name in enumerate(objectives):
        validated, tested = _figures(validation, k), _figures(test, k)
        reports.append(
            ObjectiveFit(
                objective=name,
                alpha=float(weights.alpha_K[k]),
                alpha_end=_end(float(weights.alpha_K[k]), weights.alphas),
                n_train=int(n_train_K[k]),
                n_validation=validated.n,
                n_test=tested.n,
                train_mse=float(weights.train_mse_K[k]),
                validation_mse=float(weights.validation_mse_K[k]),
                validation_r2=validated.r2,
                validation_r2_error=validated.r2_error,
                test_mse=tested.mse,
                test_mse_error=tested.mse_error,
                test_mse_native=tested.mse_native,
                test_r2=tested.r2,
                test_r2_error=tested.r2_error,
                test_spearman=tested.spearman,
            )
        )
    return tuple(reports)


def screen(
    reports: Sequence[ObjectiveFit], *, least_ratings: int, by_r2: bool = True, always: Sequence[str] = ()
) -> dict[str, Screening]:
    """Return the objectives that are not to enter the gate, and why.

    Args:
        least_ratings: training ratings that an objective needs.
        by_r2: whether its held-out R2 has to be above 0 by its 95 % interval.
        always: objectives that enter in any case.
    """
    left_out: dict[str, Screening] = {}
    for fit in reports:
        if fit.objective in always:
            continue
        if (fit.n_train or 0) < least_ratings:
            left_out[fit.objective] = "few_ratings"
        elif by_r2 and not fit.validation_r2 - SURE * fit.validation_r2_error > 0:
            left_out[fit.objective] = "no_better_than_mean"
    return left_out


def _end(alpha: float, alphas: Sequence[float]) -> End | None:
    """Return at which end of the grid an alpha is; None for a grid of one."""
    ends: dict[float, End] = {min(alphas): "smallest", max(alphas): "largest"}
    return ends.get(alpha) if len(ends) > 1 else None


class _Figures(NamedTuple):
    n: int
    mse: float
    mse_error: float
    mse_native: float
    r2: float
    r2_error: float
    spearman: float


def _figures(held_out: HeldOut, k: int) -> _Figures:
    """What the held-out rows say of one objective. R2 is `1 - sum(e^2) / sum((y - mean)^2)`, a ratio of two means: its
    error is that of the mean of `e^2 - (1 - R2) (y - mean)^2` over the variance, to first order."""
    present = np.flatnonzero(~np.isnan(held_out.truth_NK[:, k]))
    truth_N, prediction_N = held_out.truth_NK[present, k], held_out.prediction_NK[present, k]
    prompts_N, widths_N = held_out.prompts_N[present], held_out.widths_NK[present, k]
    squares_N, explained = (truth_N - prediction_N) ** 2, r2(truth_N, prediction_N)
    spread_N = (truth_N - truth_N.mean()) ** 2 if len(present) else squares_N
    of_ratio = clustered_error(squares_N - (1 - explained) * spread_N, prompts_N)
    return _Figures(
        n=len(present),
        mse=mse(truth_N, prediction_N),
        mse_error=clustered_error(squares_N, prompts_N),
        mse_native=mse(truth_N * widths_N, prediction_N * widths_N),
        r2=explained,
        r2_error=of_ratio / float(spread_N.mean()) if explained == explained else float("nan"),
        spearman=spearman(truth_N, prediction_N),
    )

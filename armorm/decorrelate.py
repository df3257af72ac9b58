"""Stage 2: takes the influence of a nuisance objective (verbosity) out of the others.

Suffixes: N rows of the reference distribution, K objectives. For objective i, `r'_i = r_i - lambda_i * r_v` (Eq. 2 of
arXiv 2406.12845) with lambda_i such that `Corr(r'_i, r_v) = 0` (Eq. 3), both predicted rewards. On a fixed sample the
rank correlation is a non-increasing step function of lambda: as lambda grows each pair of rows swaps its order at most
once, against `r_v`. It tends to +1 and -1, so its sign change can be bracketed and closed in upon, wherever it lies.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from armorm.errors import DecorrelationError
from armorm.metrics import average_ranks, pearson, unit

Correlation = Literal["spearman", "pearson"]
Status = Literal["decorrelated", "nuisance", "no_root", "above_tolerance"]
"""`no_root`: no sign change was found, as with constant predictions; `above_tolerance`: its step is too big."""

Floats = NDArray[np.floating]

_ZERO = 1e-7
"""A rank correlation this small is zero for any purpose: the search stops."""

_MAX_DOUBLINGS = 40
_RESOLVED: tuple[Status, ...] = ("decorrelated", "nuisance")
_NAN = float("nan")
_NOTHING = (_NAN, _NAN, _NAN)


@dataclass(frozen=True, slots=True)
class Decorrelation:
    """The penalties found on a reference sample, with a status for every objective."""

    objectives: tuple[str, ...]
    nuisance: str
    correlation: Correlation
    lambda_K: NDArray[np.float64]
    """`[K]` penalties; 1 for the nuisance itself, NaN where none was found."""
    before_K: NDArray[np.float64]
    """`[K]` correlation of the raw reward with the nuisance."""
    after_K: NDArray[np.float64]
    """`[K]` correlation that is left; NaN where it is not defined (the nuisance becomes constant 0)."""
    status_K: tuple[Status, ...]

    @property
    def unresolved(self) -> dict[str, Status]:
        """Objective -> status, of those without a penalty."""
        return {name: s for name, s in zip(self.objectives, self.status_K, strict=True) if s not in _RESOLVED}

    @property
    def transform_KK(self) -> NDArray[np.float64]:
        """`[K, K]` T with `r' = r T`: the identity, less lambda in the nuisance's row.

        Raises:
            DecorrelationError: if an objective is unresolved; no penalty is ever made up.
        """
        if self.unresolved:
            listed = ", ".join(f"{name} ({status})" for name, status in self.unresolved.items())
            raise DecorrelationError(
                f"got no penalty for {listed}; expected one for each objective; leave them out of the model, or give "
                "more and more varied reference responses",
                unresolved=self.unresolved,
            )
        transform_KK = np.eye(len(self.objectives))
        transform_KK[self.objectives.index(self.nuisance)] -= self.lambda_K
        return transform_KK


def decorrelate(
    rewards_NK: Floats,
    objectives: Sequence[str],
    *,
    nuisance: str = "helpsteer-verbosity",
    correlation: Correlation = "spearman",
    tolerance: float = 0.03,
) -> Decorrelation:
    """Finds each objective's penalty on a reference sample (Eq. 2 and 3).

    Args:
        rewards_NK: `[N, K]` predicted rewards over the reference distribution's responses.
        objectives: Names of the columns.
        nuisance: The objective whose influence is removed.
        correlation: Rank correlation, or the linear one (closed form).
        tolerance: Largest absolute correlation that may be left; few or heavily tied rows make steps above it.

    Raises:
        DecorrelationError: if the sample itself is unusable. An objective without a root is no error here: it has
            its status, and `Decorrelation.transform_KK` refuses.
    """
    v_N = _nuisance_column(rewards_NK, objectives, nuisance)
    solve = _SOLVERS[correlation](v_N)
    found = [
        (1.0, 1.0, _NAN) if name == nuisance else _NOTHING if np.ptp(r_N) == 0 else solve(r_N.astype(np.float64))
        for name, r_N in zip(objectives, rewards_NK.T, strict=True)
    ]
    lambda_K, before_K, after_K = np.array(found).T
    status_K = tuple(
        "nuisance" if name == nuisance else _status(after, tolerance)
        for name, after in zip(objectives, after_K, strict=True)
    )
    lambda_K[[status not in _RESOLVED for status in status_K]] = _NAN
    return Decorrelation(tuple(objectives), nuisance, correlation, lambda_K, before_K, after_K, status_K)


def _nuisance_column(rewards_NK: Floats, objectives: Sequence[str], nuisance: str) -> NDArray[np.float64]:
    """The nuisance's predictions, after the checks that everything else rests on."""
    if rewards_NK.ndim != 2 or rewards_NK.shape[1] != len(objectives):
        raise DecorrelationError(f"got rewards of shape {rewards_NK.shape}; expected [N, {len(objectives)}]")
    if nuisance not in objectives:
        raise DecorrelationError(
            f"got objectives {', '.join(objectives)}; expected {nuisance} among them; "
            "train it, or name another nuisance"
        )
    if not np.isfinite(rewards_NK).all():
        raise DecorrelationError("got rewards that are not finite; expected numbers; check the features for overflow")
    v_N = rewards_NK[:, list(objectives).index(nuisance)].astype(np.float64)
    if len(v_N) < 3 or np.ptp(v_N) == 0:
        raise DecorrelationError(
            f"got {len(v_N)} reference rows with {len(np.unique(v_N))} different predictions of {nuisance}; "
            "expected 3 rows or more, and 2 predictions; give more and more varied reference responses"
        )
    return v_N


def _status(after: float, tolerance: float) -> Status:
    if np.isnan(after):
        return "no_root"
    return "decorrelated" if abs(after) <= tolerance else "above_tolerance"


Solver = Callable[[NDArray[np.float64]], tuple[float, float, float]]
"""From an objective's predictions to (lambda, correlation before, correlation after)."""


def _slope(r_N: Floats, v_N: Floats) -> float:
    """`cov(r, v) / var(v)`: the penalty that removes the linear correlation."""
    centred_N = v_N - v_N.mean()
    return float(centred_N @ r_N / (centred_N @ centred_N))


def _pearson_solver(v_N: NDArray[np.float64]) -> Solver:
    def solve(r_N: NDArray[np.float64]) -> tuple[float, float, float]:
        lambda_ = _slope(r_N, v_N)
        return lambda_, pearson(r_N, v_N), pearson(r_N - lambda_ * v_N, v_N)

    return solve


def _spearman_solver(v_N: NDArray[np.float64]) -> Solver:
    ranks_N = unit(average_ranks(v_N))

    def solve(r_N: NDArray[np.float64]) -> tuple[float, float, float]:
        def correlation(lambda_: float) -> float:
            return float(unit(average_ranks(r_N - lambda_ * v_N)) @ ranks_N)

        bracket = _bracket(correlation, _slope(r_N, v_N), radius=0.1 * float(r_N.std() / v_N.std()))
        root, after = _crossing(correlation, *bracket) if bracket else (_NAN, _NAN)
        return root, correlation(0.0), after

    return solve


_SOLVERS: dict[Correlation, Callable[[NDArray[np.float64]], Solver]] = {
    "pearson": _pearson_solver,
    "spearman": _spearman_solver,
}


def _bracket(correlation: Callable[[float], float], centre: float, *, radius: float) -> tuple[float, float] | None:
    """Widens an interval about `centre` until the correlation changes its sign in it; None if it never does."""
    for _ in range(_MAX_DOUBLINGS):
        if correlation(centre - radius) > 0 >= correlation(centre + radius):
            return centre - radius, centre + radius
        radius *= 2
    return None


def _crossing(correlation: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Closes in on the step that crosses zero, and takes its side with the smaller correlation.

    Secant and bisection steps take turns: the first are quick while the steps look like a smooth curve, the second
    halve the interval when they do not.
    """
    at_low, at_high = correlation(low), correlation(high)
    resolution = np.spacing(max(abs(low), abs(high)))
    for step in itertools.count():
        if min(abs(at_low), abs(at_high)) <= _ZERO or high - low <= resolution:
            break
        secant = low + (high - low) * at_low / (at_low - at_high)
        middle = secant if step % 2 == 0 and low < secant < high else (low + high) / 2
        if not low < middle < high:
            break
        if (at_middle := correlation(middle)) > 0:
            low, at_low = middle, at_middle
        else:
            high, at_high = middle, at_middle
    return (low, at_low) if abs(at_low) < abs(at_high) else (high, at_high)

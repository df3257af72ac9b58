"""Stage 2: takes the influence of nuisances (verbosity, other objectives, plain token length) out of the objectives.

Suffixes: N rows of the reference distribution, K objectives, M nuisances. For objective i,
`r'_i = r_i - sum_m lambda_mi p_m` (Eq. 2 of arXiv 2406.12845) with lambda such that `Corr(r'_i, z_m) = 0` for every m
(Eq. 3). A nuisance has what is to be uncorrelated, z, and what is taken off for it, p. Of an objective both are its
predicted reward. Token length is no linear function of the features, so it cannot be taken off itself: p is its best
linear prediction from the K rewards, and `r' = r T` stays one matrix of the published layout. For one nuisance and
linear correlation that is LEACE (arXiv 2306.03819): of all matrices it changes the rewards least.

With one objective as nuisance the rank correlation is, on a fixed sample, a non-increasing step function of lambda: as
lambda grows each pair of rows swaps its order at most once, against `r_v`. It tends to +1 and -1, so its sign change
can be bracketed and closed in upon, wherever it lies. Several are removed by turns, each along the direction that
leaves the linear correlation with the others alone, so that few turns are needed.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from armorm.config import NO_NUISANCE, TOKEN_LENGTH, Correlation
from armorm.errors import DecorrelationError
from armorm.maths.metrics import STANDARDISE, unit_ranks

Status = Literal["decorrelated", "untouched", "nuisance", "constant", "no_root", "above_tolerance", "lost", "copy"]
"""`untouched`: there is no nuisance; `constant`: predictions that do not vary; `no_root`: no sign change was found;
`above_tolerance`: too much is left, since the step that crosses zero is too big (few or heavily tied rows), or since
turns do not bring several to zero; `lost`: less than `LEAST_SPREAD` of the reward's spread is left; `copy`: what is
left is another objective's, or its negative."""

LEAST_SPREAD = 0.01
"""Share of a reward's standard deviation on the reference that has to be left."""

_SAME = 1 - 1e-6
"""Correlation of two decorrelated rewards, of either sign, from which on they count as one."""

Floats = NDArray[np.floating]
Vector = NDArray[np.float64]

_ZERO = 1e-7
"""A rank correlation this small is zero for any purpose: the search stops."""

_MAX_DOUBLINGS = 40
_MAX_TURNS = 30
_GONE = 1e-5
"""Turns end when every rank correlation is below it, or below its own step."""

_MIN_SINE = 1e-3
"""Nuisances that are closer to one another than this angle, as a sine, are not told apart."""

_NAN = float("nan")
_RESOLVED: tuple[Status, ...] = ("decorrelated", "untouched", "nuisance")


@dataclass(frozen=True, slots=True)
class Decorrelation:
    """The penalties found on a reference sample, with a status for every objective."""

    objectives: tuple[str, ...]
    nuisances: tuple[str, ...]
    correlation: Correlation
    directions_KM: NDArray[np.float64]
    """`[K, M]` what is taken off for each nuisance, as coefficients of the raw rewards: `p = r directions`."""
    lambda_MK: NDArray[np.float64]
    """`[M, K]` penalties; 1 of a nuisance for itself, NaN where none was found."""
    before_MK: NDArray[np.float64]
    """`[M, K]` correlation of the raw reward with the nuisance."""
    after_MK: NDArray[np.float64]
    """`[M, K]` correlation that is left; NaN where it is not defined (a nuisance becomes constant 0)."""
    step_MK: NDArray[np.float64]
    """`[M, K]` height of the step of the rank correlation between whose sides the penalty lies; 0 where the search met
    zero before."""
    status_K: tuple[Status, ...]

    @property
    def unresolved(self) -> dict[str, Status]:
        """Objective -> status, of those without a penalty."""
        return {name: s for name, s in zip(self.objectives, self.status_K, strict=True) if s not in _RESOLVED}

    @property
    def transform_KK(self) -> NDArray[np.float64]:
        """`[K, K]` T with `r' = r T`: the identity less `directions lambda`.

        Raises:
            DecorrelationError: if an objective is unresolved; no penalty is ever made up.
        """
        if self.unresolved:
            listed = ", ".join(f"{name} ({status})" for name, status in self.unresolved.items())
            raise DecorrelationError(
                f"got no penalty for {listed}; expected one for each objective, which leaves something of its own; "
                f"leave them out of the model, give more and more varied reference responses, or set [decorrelation] "
                f"nuisance to {NO_NUISANCE!r}",
                unresolved=self.unresolved,
            )
        return np.asarray(np.eye(len(self.objectives)) - self.directions_KM @ self.lambda_MK)


def decorrelate(
    rewards_NK: Floats,
    objectives: Sequence[str],
    *,
    nuisances: Sequence[str] = ("helpsteer-verbosity",),
    n_tokens_N: Floats | None = None,
    correlation: Correlation = "spearman",
    tolerance: float = 0.03,
) -> Decorrelation:
    """Find each objective's penalties on a reference sample (Eq. 2 and 3).

    Args:
        rewards_NK: `[N, K]` predicted rewards over the reference distribution's responses.
        nuisances: What is to be uncorrelated: objectives, or `n_tokens`. Without any, the objectives stay as they are.
        correlation: Rank correlation, or the linear one (closed form).
        tolerance: Largest absolute correlation that may be left; few or heavily tied rows make steps above it.

    Raises:
        DecorrelationError: if the sample itself is unusable, nuisances cannot be told apart, or every objective is a
            nuisance. An objective without a root is no error here: it has its status, and `Decorrelation.transform_KK`
            refuses.
    """
    if not nuisances:
        none_MK = np.empty((0, len(objectives)))
        untouched = tuple[Status, ...]("untouched" for _ in objectives)
        return Decorrelation(
            tuple(objectives), (), correlation, none_MK.T, none_MK, none_MK, none_MK, none_MK, untouched
        )
    rewards_NK = _checked(rewards_NK, objectives, nuisances, n_tokens_N)
    z_MN = np.stack([STANDARDISE[correlation](_column(rewards_NK, objectives, n, n_tokens_N)) for n in nuisances])
    directions_KM = np.stack(
        [_direction(rewards_NK, objectives, *named) for named in zip(nuisances, z_MN, strict=True)], axis=1
    )
    solver = _Solver(z_MN, rewards_NK @ directions_KM, nuisances, correlation)
    found = [solver.find(name, r_N) for name, r_N in zip(objectives, rewards_NK.T, strict=True)]
    lambda_MK, before_MK, after_MK, step_MK = (np.stack(parts, axis=1) for parts in zip(*found, strict=True))
    status_K: tuple[Status, ...] = tuple(
        "nuisance" if name in nuisances else _status(before_M, after_M, tolerance)
        for name, before_M, after_M in zip(objectives, before_MK.T, after_MK.T, strict=True)
    )
    left_NK = rewards_NK - rewards_NK @ directions_KM @ np.nan_to_num(lambda_MK)
    status_K = _kept(rewards_NK, left_NK, status_K)
    lambda_MK[:, [status not in _RESOLVED for status in status_K]] = np.nan
    return Decorrelation(
        tuple(objectives),
        tuple(nuisances),
        correlation,
        directions_KM,
        lambda_MK,
        before_MK,
        after_MK,
        step_MK,
        status_K,
    )


def _kept(rewards_NK: Floats, left_NK: Floats, status_K: tuple[Status, ...]) -> tuple[Status, ...]:
    """Return the statuses, where decorrelation has left nothing of an objective, or of two objectives one."""
    found = list(status_K)
    own = [k for k, status in enumerate(status_K) if status == "decorrelated"]
    before_K, after_K = rewards_NK.std(axis=0), left_NK.std(axis=0)
    for k in own:
        if after_K[k] < LEAST_SPREAD * before_K[k]:
            found[k] = "lost"
    own = [k for k in own if found[k] != "lost"]
    same_OO = np.abs(np.corrcoef(left_NK[:, own], rowvar=False).reshape(len(own), len(own))) > _SAME
    were_OO = np.abs(np.corrcoef(rewards_NK[:, own], rowvar=False).reshape(len(own), len(own))) > _SAME
    for place, k in enumerate(own):
        if (same_OO[place] & ~were_OO[place]).any():
            found[k] = "copy"
    return tuple(found)


def _checked(
    rewards_NK: Floats, objectives: Sequence[str], nuisances: Sequence[str], n_tokens_N: Floats | None
) -> NDArray[np.float64]:
    """Return the rewards, after the checks that everything else rests on."""
    if rewards_NK.ndim != 2 or rewards_NK.shape[1] != len(objectives):
        raise DecorrelationError(f"got rewards of shape {rewards_NK.shape}; expected [N, {len(objectives)}]")
    if set(objectives) <= set(nuisances):
        raise DecorrelationError(
            f"got nuisances {', '.join(nuisances)}, which are all the objectives, so nothing would be left; expected "
            "an objective beside them; go without nuisances"
        )
    if len(set(nuisances)) != len(nuisances):
        raise DecorrelationError(f"got nuisances {', '.join(nuisances)}; expected each once")
    if not np.isfinite(rewards_NK).all():
        raise DecorrelationError("got rewards that are not finite; expected numbers; check the features for overflow")
    for name in nuisances:
        if name == TOKEN_LENGTH and (n_tokens_N is None or n_tokens_N.shape != rewards_NK.shape[:1]):
            raise DecorrelationError(f"got no token counts; expected {len(rewards_NK)}, one a row; give n_tokens_N")
        if name not in (*objectives, TOKEN_LENGTH):
            raise DecorrelationError(
                f"got objectives {', '.join(objectives)}; expected {name} among them; "
                "train it, or name another nuisance"
            )
        column_N = _column(rewards_NK, objectives, name, n_tokens_N)
        if len(column_N) < 3 or np.ptp(column_N) == 0:
            raise DecorrelationError(
                f"got {len(column_N)} reference rows with {len(np.unique(column_N))} different predictions of {name}; "
                "expected 3 rows or more, and 2 predictions; give more and more varied reference responses"
            )
    return rewards_NK.astype(np.float64)


def _column(rewards_NK: Floats, objectives: Sequence[str], nuisance: str, n_tokens_N: Floats | None) -> Floats:
    """Return `[N]` what a nuisance is: an objective's predictions, or the tokens of each response."""
    column_N = n_tokens_N if nuisance == TOKEN_LENGTH else rewards_NK[:, list(objectives).index(nuisance)]
    assert column_N is not None, "checked"
    return column_N


def _direction(rewards_NK: Floats, objectives: Sequence[str], nuisance: str, z_N: Floats) -> Vector:
    """Return `[K]` what is subtracted for a nuisance; for token length, what rewards tell of its values."""
    if nuisance != TOKEN_LENGTH:
        return np.array([float(name == nuisance) for name in objectives])
    centred_NK = rewards_NK - rewards_NK.mean(axis=0)
    return np.asarray(np.linalg.lstsq(centred_NK, z_N * np.sqrt(len(z_N)))[0])


def _status(before_M: Vector, after_M: Vector, tolerance: float) -> Status:
    if np.isnan(before_M).all():
        return "constant"
    if np.isnan(after_M).any():
        return "no_root"
    return "decorrelated" if (np.abs(after_M) <= tolerance).all() else "above_tolerance"


Found = tuple[Vector, Vector, Vector, Vector]
"""The result for one objective, `[M]` each: penalties, correlations before and after, heights of the last step."""


class _Solver:
    """A search for the penalties of one objective after the other, for the same nuisances."""

    def __init__(
        self, z_MN: NDArray[np.float64], p_NM: NDArray[np.float64], nuisances: Sequence[str], correlation: Correlation
    ) -> None:
        """Take the standardised nuisances (centred, of length 1), and what is subtracted for each."""
        self._z_MN, self._p_NM, self._nuisances, self._correlation = z_MN, p_NM, list(nuisances), correlation
        cross_MM, lengths_M = z_MN @ p_NM, np.linalg.norm(p_NM - p_NM.mean(axis=0), axis=0)
        if not lengths_M.all() or np.linalg.svd(cross_MM / lengths_M, compute_uv=False)[-1] < _MIN_SINE:
            raise DecorrelationError(
                f"got nuisances {', '.join(nuisances)}, which the predictions do not tell apart; expected none that is "
                "another's copy, and token length only where predictions follow it; leave one out"
            )
        # A move along q_m changes the linear correlation with z_m alone. Of one nuisance, q is p.
        self._own_M = np.diag(cross_MM)
        self._turned_MM = np.linalg.solve(cross_MM, np.diag(self._own_M))
        self._q_MN = np.ascontiguousarray((p_NM @ self._turned_MM).T)

    def find(self, name: str, r_N: Vector) -> Found:
        """Return the penalties of one objective; NaN where there are none."""
        before_M = self._z_MN @ STANDARDISE[self._correlation](r_N)
        nothing_M, no_step_M = np.full((2, len(self._q_MN)), np.nan)
        if name in self._nuisances:  # takes itself off, whole, and is constant then
            return (np.array(self._nuisances) == name).astype(np.float64), before_M, nothing_M, no_step_M
        if np.ptp(r_N) == 0:
            return nothing_M, before_M, nothing_M, no_step_M
        moves_M, step_M = self._z_MN @ r_N / self._own_M, np.zeros(len(self._q_MN))
        if self._correlation == "spearman":
            moves_M, step_M = self._turns(r_N, moves_M)
        lambda_M = self._turned_MM @ moves_M
        if np.isnan(lambda_M).any():
            return nothing_M, before_M, nothing_M, no_step_M
        after_M = self._z_MN @ STANDARDISE[self._correlation](r_N - self._p_NM @ lambda_M)
        return lambda_M, before_M, after_M, step_M

    def _turns(self, r_N: Vector, moves_M: Vector) -> tuple[Vector, Vector]:
        """Remove one nuisance after the other, until none has come back; begins where linear correlations are 0."""
        step_M = np.zeros(len(moves_M))
        for _ in range(_MAX_TURNS):
            for m, (q_N, z_N) in enumerate(zip(self._q_MN, self._z_MN, strict=True)):
                rest_N = r_N - np.delete(moves_M, m) @ np.delete(self._q_MN, m, axis=0)
                moves_M[m], step_M[m] = _spearman_root(rest_N, q_N, z_N, near=moves_M[m])
            left_M = np.abs(self._z_MN @ unit_ranks(r_N - moves_M @ self._q_MN))
            if len(moves_M) == 1 or not (left_M > np.maximum(_GONE, step_M)).any():
                break
        return moves_M, step_M


def _spearman_root(r_N: Vector, q_N: Vector, z_N: Vector, *, near: float) -> tuple[float, float]:
    """Return where the rank correlation of `r - lambda q` with z crosses zero, and the height of that step; or NaN.

    Args:
        r_N: `[N]` what is to be uncorrelated.
        q_N: `[N]` what is taken off.
        z_N: `[N]` unit ranks of what it is not to be correlated with.
        near: Where to begin to look.
    """
    ranks_N = np.arange(len(r_N)) - (len(r_N) - 1) / 2
    scale = 1 / float(np.linalg.norm(ranks_N))

    def correlation(lambda_: float) -> float:
        moved_N = r_N - lambda_ * q_N
        order_N = np.argsort(moved_N)
        in_order_N = moved_N[order_N]
        if (in_order_N[1:] == in_order_N[:-1]).any():
            return float(unit_ranks(moved_N) @ z_N)
        return float(ranks_N @ z_N[order_N]) * scale

    bracket = _bracket(correlation, near, radius=0.1 * float(r_N.std() / q_N.std()))
    return _crossing(correlation, *bracket) if bracket else (_NAN, _NAN)


Point = tuple[float, float]
"""A penalty and the correlation there."""


def _bracket(correlation: Callable[[float], float], centre: float, *, radius: float) -> tuple[Point, Point] | None:
    """Widen an interval about `centre` until the correlation changes its sign in it; None if it never does."""
    for _ in range(_MAX_DOUBLINGS):
        low, high = centre - radius, centre + radius
        at_low, at_high = correlation(low), correlation(high)
        if at_low > 0 >= at_high:
            return (low, at_low), (high, at_high)
        radius *= 2
    return None


def _crossing(correlation: Callable[[float], float], left: Point, right: Point) -> tuple[float, float]:
    """Close in on the step that crosses zero: its side with the smaller correlation, and its height (0: met zero).

    Secant and bisection steps take turns: the first are quick while the steps look like a smooth curve, the second
    halve the interval when they do not.
    """
    (low, at_low), (high, at_high) = left, right
    resolution = np.spacing(max(abs(low), abs(high)))
    for step in itertools.count():
        if min(abs(at_low), abs(at_high)) <= _ZERO:
            return (low if abs(at_low) < abs(at_high) else high), 0.0
        secant = low + (high - low) * at_low / (at_low - at_high)
        middle = secant if step % 3 < 2 and low < secant < high else (low + high) / 2
        if high - low <= resolution or not low < middle < high:
            break
        if (at_middle := correlation(middle)) > 0:
            low, at_low = middle, at_middle
        else:
            high, at_high = middle, at_middle
    return (low if abs(at_low) < abs(at_high) else high), at_low - at_high

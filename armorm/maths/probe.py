"""A Bradley-Terry linear probe: the simplest reward model on the same features, without objectives and gate.

Suffixes: P pairs, B pairs of a block, D feature size, A alphas. A pair is the difference of its features, f(x+y_c) -
f(x+y_r), in which an intercept would cancel. Pairs are streamed: a pass over them serves all alphas at once.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from armorm.errors import MetricError

Floats = NDArray[np.floating]
Blocks = Callable[[], Iterable[Floats]]
"""Gives the pairs, `[B, D]` at a time and in the same order, whenever it is called."""

STRENGTHS: Final = tuple(10.0**exponent for exponent in range(-7, 2))
"""Alphas to choose from, in units of the mean square of a difference's feature: they mean the same at any scale."""

MAX_PASSES: Final = 100
GRADIENT: Final = 1e-6
"""Where the search ends: largest element of the gradient, in coordinates in which the curvature at 0 is 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport:
    """What is known of the probe of the alpha with the smallest loss on validation pairs."""

    alpha: float
    strength: float = float("nan")
    """Alpha in units of the mean square of a difference's feature."""
    n_train: int
    n_validation: int = 0
    validation_loss: float = float("nan")
    """Mean of `log(1 + exp(-w'd))`; log 2 is that of a coin."""
    n_passes: int = 0
    """Over the training pairs, of the search; at `MAX_PASSES` it is cut off."""
    gradient: float = float("nan")
    """Largest element of the gradient where the search ended, over all alphas."""
    converged: bool = True
    """Whether that is at most `GRADIENT`; if not, the search was cut off or got no further, and a better probe may
    exist. Older evaluations do not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFit(ProbeReport):
    """The probe itself."""

    w_D: NDArray[np.float64]


def fit_probe(training: Blocks, validation: Blocks, *, strengths: Sequence[float] = STRENGTHS) -> ProbeFit:
    """Minimise `mean log(1 + exp(-w'd)) + alpha ||w||^2 / 2` over training pairs, for each alpha.

    By L-BFGS over all alphas together, whose losses just add up. It runs in the eigenvectors of X'X / P, scaled so that
    the curvature at w = 0, X'X / 4P + alpha, is the identity: hidden states have directions thousands of times as long
    as others, among which it would crawl. Holds a block and two `[D, D]`. That it ended before it had converged is no
    error, but stands in the result.

    Raises:
        MetricError: there are no training or no validation pairs, or all differences are zero.
    """
    n_train, gram_DD = _gram(training)
    n_validation = sum(map(len, validation()))
    mean_square = float(np.trace(gram_DD)) / max(len(gram_DD), 1)
    if not n_train or not n_validation or not mean_square:
        raise MetricError(
            f"got {n_train} training pairs, with a mean square of {mean_square}, and {n_validation} validation pairs; "
            "expected some of both that differ; go without the probe"
        )
    alpha_A = mean_square * np.asarray(strengths)
    W_AD, n_passes, gradient = _descend(training, gram_DD, alpha_A, n_train)
    loss_A = np.sum([_losses(X_BD.astype(np.float64) @ W_AD.T) for X_BD in validation()], axis=0) / n_validation
    best = int(np.argmin(loss_A))
    return ProbeFit(
        w_D=W_AD[best],
        alpha=float(alpha_A[best]),
        strength=strengths[best],
        n_train=n_train,
        n_validation=n_validation,
        validation_loss=float(loss_A[best]),
        n_passes=n_passes,
        gradient=gradient,
        converged=gradient <= GRADIENT,
    )


def _gram(training: Blocks) -> tuple[int, NDArray[np.float64]]:
    """Return the number of pairs, and `[D, D]` X'X / P."""
    n_pairs, gram_DD = 0, np.zeros((0, 0))
    for X_BD in training():
        wide_BD = X_BD.astype(np.float64)
        gram_DD = wide_BD.T @ wide_BD if n_pairs == 0 else gram_DD + wide_BD.T @ wide_BD
        n_pairs += len(X_BD)
    return n_pairs, gram_DD / max(n_pairs, 1)


def _descend(
    training: Blocks, gram_DD: Floats, alpha_A: Floats, n_pairs: int
) -> tuple[NDArray[np.float64], int, float]:
    """Return `[A, D]` weights, the number of passes, and the largest element of the gradient at the end."""
    values_D, vectors_DD = scipy.linalg.eigh(gram_DD, check_finite=False)
    scale_AD = 1 / np.sqrt(np.maximum(values_D, 0) / 4 + alpha_A[:, None])

    def loss_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        turned_AD = flat.reshape(scale_AD.shape) * scale_AD
        W_AD = turned_AD @ vectors_DD.T
        loss, slope_AD = 0.0, np.zeros_like(W_AD)
        for X_BD in training():
            wide_BD = X_BD.astype(np.float64)
            margin_BA = wide_BD @ W_AD.T
            loss += _losses(margin_BA).sum()
            slope_AD -= expit(-margin_BA).T @ wide_BD
        penalty = (alpha_A @ (turned_AD**2).sum(axis=1)) / 2
        gradient_AD = (slope_AD @ vectors_DD / n_pairs + alpha_A[:, None] * turned_AD) * scale_AD
        return float(loss / n_pairs + penalty), gradient_AD.reshape(-1)

    found = minimize(
        loss_and_gradient,
        np.zeros(scale_AD.size),
        jac=True,
        method="L-BFGS-B",
        options={"maxfun": MAX_PASSES, "gtol": GRADIENT, "ftol": 0.0, "maxcor": 20},
    )
    W_AD = (found.x.reshape(scale_AD.shape) * scale_AD) @ vectors_DD.T
    return W_AD, int(found.nfev), float(np.abs(found.jac).max())


def _losses(margin_BA: Floats) -> NDArray[np.float64]:
    """Return `[A]` sums of `log(1 + exp(-margin))`."""
    return np.asarray(np.logaddexp(0, -margin_BA).sum(axis=0))

"""All that ridge regression needs to know of its rows: additive statistics, in float64.

Suffixes: N rows, D feature size, G objectives that are labelled on the same rows, A alphas.
Features are kept in at most 24 bits of mantissa, so the product of two is exact in float64, and what is left is the
rounding of sums: 1e-16 of their largest value a row. Rows can be taken out again as they were put in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from armorm.errors import RegressionError

Floats = NDArray[np.floating]
Indices = NDArray[np.intp]

LOST: Final = 16.0
"""How many times a sum may shrink while rows are taken out: four bits of 53 are lost then."""


@dataclass(slots=True)
class RidgeStatistics:
    """Statistics of rows on which the same G objectives are labelled."""

    gram_DD: NDArray[np.float64]
    """`[D, D]` X'X; the lower triangle alone, in Fortran's order, as LAPACK takes it."""
    moment_DG: NDArray[np.float64]
    """`[D, G]` X'Y."""
    squares_G: NDArray[np.float64]
    """`[G]` y'y."""
    peak_D: NDArray[np.float64]
    """`[D]` the largest that each diagonal element of X'X ever was: rounding errors are of that size."""
    n_rows: int = 0

    @classmethod
    def zeros(cls, n_features: int, n_objectives: int) -> "RidgeStatistics":
        """Return the statistics of no rows."""
        gram_DD = np.zeros((n_features, n_features), order="F")
        return cls(gram_DD, np.zeros((n_features, n_objectives)), np.zeros(n_objectives), np.zeros(n_features))

    def add(self, X_ND: Floats, Y_NG: Floats, *, sign: Literal[1, -1] = 1) -> None:
        """Add one block of rows, every one of them labelled; or take it out again.

        Raises:
            RegressionError: if a feature or a label is not finite.
        """
        X_ND, Y_NG = np.ascontiguousarray(X_ND, np.float64), np.asarray(Y_NG, np.float64)
        refuse_not_finite("feature", X_ND)
        refuse_not_finite("label", Y_NG)
        if len(X_ND):
            # half the work of a product of two matrices, and without a copy: X in C's order is X' in Fortran's
            self.gram_DD = blas.dsyrk(sign, X_ND.T, beta=1.0, c=self.gram_DD, lower=True, overwrite_c=True)
        self.moment_DG += sign * (X_ND.T @ Y_NG)
        self.squares_G += sign * (Y_NG**2).sum(axis=0)
        self.n_rows += sign * len(X_ND)
        self.peak_D = np.maximum(self.peak_D, self.gram_DD.diagonal())

    def merge(self, other: "RidgeStatistics") -> None:
        """Add the statistics of other rows."""
        self.gram_DD += other.gram_DD
        self.moment_DG += other.moment_DG
        self.squares_G += other.squares_G
        self.peak_D = np.maximum(self.peak_D + other.peak_D, self.gram_DD.diagonal())
        self.n_rows += other.n_rows

    @property
    def is_expired(self) -> bool:
        """Whether so much was taken out that the rest is better counted anew."""
        return bool((self.peak_D > LOST * np.maximum(self.gram_DD.diagonal(), 0)).any())

    def select(self, columns: Indices) -> "RidgeStatistics":
        """Return the statistics of some of the objectives; the Gram matrix is shared, not copied."""
        moment_DG, squares_G = self.moment_DG[:, columns], self.squares_G[columns]
        return RidgeStatistics(self.gram_DD, moment_DG, squares_G, self.peak_D, self.n_rows)

    def mse(self, W_AGD: Floats) -> NDArray[np.float64]:
        """Return `[A, G]` mean squared error of weights on these very rows, `(y'y - 2 w'X'y + w'X'Xw) / n`."""
        n_features = W_AGD.shape[-1]
        fitted_DM = blas.dsymm(1.0, self.gram_DD, W_AGD.reshape(-1, n_features).T, lower=True)  # X'Xw
        fitted_AGD = fitted_DM.T.reshape(W_AGD.shape)
        errors_AG = self.squares_G + (W_AGD * (fitted_AGD - 2 * self.moment_DG.T)).sum(axis=-1)
        return np.asarray(np.maximum(errors_AG, 0) / self.n_rows)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return arrays by name, for a file; of the symmetric matrix its triangle, D (D + 1) / 2 numbers."""
        packed, _ = lapack.dtrttp(self.gram_DD, uplo="L")
        rest = {"moment_DG": self.moment_DG, "squares_G": self.squares_G, "peak_D": self.peak_D}
        return {"gram": packed, **rest, "n_rows": np.array([self.n_rows])}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "RidgeStatistics":
        """Return the statistics that such arrays were made from."""
        gram_DD, _ = lapack.dtpttr(len(arrays["peak_D"]), arrays["gram"], uplo="L")
        n_rows = int(arrays["n_rows"][0])
        return cls(gram_DD, arrays["moment_DG"], arrays["squares_G"], arrays["peak_D"], n_rows)


def refuse_not_finite(what: str, values: Floats) -> None:
    """Refuse numbers that are not finite.

    Raises:
        RegressionError: a row of numbers holds one that is not finite.
    """
    if bad := int((~np.isfinite(values)).any(axis=1).sum()):
        raise RegressionError(
            f"got {bad} rows with a {what} that is not finite; expected numbers; leave those rows out"
        )

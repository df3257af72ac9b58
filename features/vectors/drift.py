"""How far the vectors of two backbones are from each other, on content that both have embedded.

Suffixes: N texts of the sample, D and E the backbones' hidden sizes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
import numpy.typing as npt

from armorm.features.store import Snapshot, Store
from armorm.features.vectors.shards import FeatureReader, Kind

Floats = npt.NDArray[np.floating]

SAMPLE: Final = 2048
"""Texts that are compared: the first of the shared ones in order of their ids, which are hashes."""

QUANTILES: Final = {"min": 0.0, "p05": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}


@dataclass(frozen=True, slots=True)
class Drift:
    """Two backbones on texts of one kind."""

    kind: Kind
    n_shared: int
    n_compared: int
    cosine: Mapping[str, float] | None
    """Mean and quantiles of the cosine of a text's two vectors; None where the backbones' sizes differ."""
    cka: float | None
    """Whether the same texts lie near to each other in both: 1 for vectors that are turned or scaled alike, about 0 for
    unrelated ones; None of fewer than four texts, or where nothing varies."""


def drift(store: Store, before: tuple[str, Snapshot], after: tuple[str, Snapshot]) -> list[Drift]:
    """Compare two backbones, each in the snapshot that its vectors are read from."""
    one, other = (FeatureReader(store, backbone_id, snapshot) for backbone_id, snapshot in (before, after))
    return [_drift(one, other, kind) for kind in get_args(Kind)]


def shared_ids(one: FeatureReader, other: FeatureReader, kind: Kind) -> list[str]:
    """Return what both have a vector of, in order."""
    ids = one.ids(kind)
    return ids.filter(ids.is_in(other.ids(kind).implode())).to_list()


def _drift(one: FeatureReader, other: FeatureReader, kind: Kind) -> Drift:
    shared = shared_ids(one, other, kind)
    sample = shared[:SAMPLE]
    X_ND, Y_NE = one.gather(kind, sample), other.gather(kind, sample)
    same_width = bool(sample) and X_ND.shape == Y_NE.shape
    return Drift(kind, len(shared), len(sample), cosines(X_ND, Y_NE) if same_width else None, linear_cka(X_ND, Y_NE))


def cosines(X_ND: Floats, Y_ND: Floats) -> dict[str, float]:
    """Return the mean and quantiles of the cosines of rows; no stored vector is zero."""
    X_ND, Y_ND = X_ND.astype(np.float64), Y_ND.astype(np.float64)
    cosine_N = (X_ND * Y_ND).sum(axis=1) / (np.linalg.norm(X_ND, axis=1) * np.linalg.norm(Y_ND, axis=1))
    return {"mean": float(cosine_N.mean())} | {n: float(np.quantile(cosine_N, q)) for n, q in QUANTILES.items()}


def linear_cka(X_ND: Floats, Y_NE: Floats) -> float | None:
    """Return linear centred kernel alignment (arXiv 1905.00414), by HSIC's unbiased estimator (Song et al., 2012).

    `HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y))`. The plain estimator comes near 1 for any vectors once there are fewer
    texts than dimensions, which is the usual case here (arXiv 2010.15327 uses this one for the same reason).
    """
    if len(X_ND) < 4:
        return None
    kernels = [_kernel(X_ND), _kernel(Y_NE)]
    xy, xx, yy = (_hsic(*pair) for pair in ((kernels[0], kernels[1]), (kernels[0],) * 2, (kernels[1],) * 2))
    return float(xy / np.sqrt(xx * yy)) if xx > 0 and yy > 0 else None


def _kernel(X_ND: Floats) -> Floats:
    """`[N, N]` inner products, without those of a text with itself; centred first, which changes no result but its
    rounding: hidden states share a mean far larger than their spread."""
    centred_ND = X_ND.astype(np.float64) - X_ND.mean(axis=0, dtype=np.float64)
    kernel_NN = centred_ND @ centred_ND.T
    np.fill_diagonal(kernel_NN, 0.0)
    return np.asarray(kernel_NN)


def _hsic(K_NN: Floats, L_NN: Floats) -> float:
    n = len(K_NN)
    k_N, l_N = K_NN.sum(axis=0), L_NN.sum(axis=0)
    sums = (K_NN * L_NN).sum() + k_N.sum() * l_N.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k_N @ l_N)
    return float(sums / (n * (n - 3)))

"""Two models on the same pairs: do they differ by more than chance?

Suffixes: P pairs, C prompts, T kinds of prompts, M points of a Fourier transform, R resamples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from armorm.maths.metrics import Interval, bootstrap_sums, interval


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two models on the same pairs."""

    n: int
    difference: Interval
    """Accuracy of the second less that of the first."""
    only_first: int
    """Pairs that only the first ranks correctly."""
    only_second: int
    p_value: float
    """Two-sided."""


def paired_test(
    first_P: NDArray[np.bool_],
    second_P: NDArray[np.bool_],
    groups_P: NDArray[np.generic],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> PairedTest:
    """Return whether two models that won these pairs differ, pairs of one prompt not being independent.

    If they do not, then on each prompt the two might as well be swapped, so the sum of wins more is as likely with each
    sign of each prompt's part: a sign-flip test, exact, and with one pair a prompt McNemar's exact test.
    """
    more_P = second_P.astype(np.int64) - first_P
    counted_PF = np.stack([more_P, np.ones(len(more_P))], axis=1)
    sums_RF = bootstrap_sums(counted_PF, groups_P, n_resamples=n_resamples, seed=seed)
    _, group_P = np.unique(groups_P, return_inverse=True)
    more_C = np.rint(np.bincount(group_P, weights=more_P)).astype(np.int64)
    return PairedTest(
        len(more_P),
        interval(float(more_P.mean()), sums_RF[:, 0] / sums_RF[:, 1]),
        int((more_P < 0).sum()),
        int((more_P > 0).sum()),
        sign_flip_p(more_C),
    )


def sign_flip_p(values_C: NDArray[np.integer]) -> float:
    """Return the probability that a sum of whole numbers is as far from 0 under random signs; exact to 1e-12.

    The sum has the characteristic function `prod cos(v t)`; its probabilities are the Fourier transform of that.
    """
    size_T, count_T = np.unique(np.abs(values_C[values_C != 0]), return_counts=True)
    largest = int(size_T @ count_T)
    n_points = next_fast_len(2 * largest + 1)  # so that no two sums fall on one
    angle_M = 2 * np.pi / n_points * np.arange(n_points)
    phi_M = np.prod([np.cos(size * angle_M) ** count for size, count in zip(size_T, count_T, strict=True)], axis=0)
    probability_M = np.fft.fft(phi_M * np.ones(n_points)).real / n_points
    sums = np.arange(-largest, largest + 1)
    tail = probability_M[sums[np.abs(sums) >= abs(int(values_C.sum()))]].sum()
    return float(np.clip(tail, 0, 1))

"""How much slower a 16-bit type is on this processor: one without units for it computes in float32 and converts."""

import time
from collections.abc import Callable
from functools import cache
from typing import Final

import torch
from torch import Tensor

from armorm.features.embedding.linear import multiply

WORTH_A_WARNING: Final = 1.5
"""The ratio to float32 from which on a slower type is reported."""

ROWS: Final = 1024
"""Rows of the square matrices that are multiplied."""

TRIALS: Final = 5


def slowdown(dtype: str, device: str) -> float | None:
    """Return how many times longer products take in this type than in float32; None if not worth a warning.

    Args:
        dtype: the name of torch's type.
        device: as torch names it; only processors are measured.
    """
    if dtype == "float32" or device != "cpu":
        return None
    ratio = product_s(dtype) / product_s("float32")
    return ratio if ratio > WORTH_A_WARNING else None


@cache
def product_s(dtype: str) -> float:
    """Return the seconds of the fastest of a few products on this processor; measured once in a process."""
    product = multiply if dtype == "float32" else torch.matmul
    matrix = torch.randn(ROWS, ROWS).to(getattr(torch, dtype))
    return min(_seconds(product, matrix) for _ in range(TRIALS))


def _seconds(product: Callable[[Tensor, Tensor], Tensor], matrix: Tensor) -> float:
    started = time.perf_counter()
    product(matrix, matrix)
    return time.perf_counter() - started

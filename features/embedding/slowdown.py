"""How much slower a 16-bit type is on this processor: one without units for it computes in float32 and converts."""

import time
from functools import cache
from typing import Final

import torch

from armorm.features.embedding.linear import multiply

WORTH_A_WORD: Final = 1.5
"""From this ratio to float32 on, a slower type is reported."""

WITHIN_S: Final = 0.3
"""How long the fastest product is looked for."""

LARGEST: Final = 8192
"""Rows of a matrix that it is looked for with."""


@cache
def product_flops(dtype: str, device: str) -> float:
    """Return operations a second of a product of square matrices, the best of those that fit into `WITHIN_S`.

    They grow while a product takes next to no time. Measured once in a process.

    Args:
        dtype: the name of torch's type.
        device: as torch names it: `cpu`, `cuda:1`.
    """
    product = multiply if (dtype, device) == ("float32", "cpu") else torch.matmul
    size, per_s, begun = 512, 0.0, time.perf_counter()
    matrix = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    while time.perf_counter() - begun < WITHIN_S:
        _finish(device)
        started = time.perf_counter()
        product(matrix, matrix)
        _finish(device)
        took_s = time.perf_counter() - started
        per_s = max(per_s, 2 * size**3 / took_s)
        if took_s < WITHIN_S / 100 and size < LARGEST:
            try:
                matrix = matrix.repeat(2, 2)
            except torch.OutOfMemoryError:  # on a card that the backbone fills
                break
            size *= 2
    return per_s


def slowdown(dtype: str, device: str) -> float | None:
    """Return how many times longer products take in this type than in float32; None where it is not worth a word.

    Args:
        dtype: the name of torch's type.
        device: as torch names it; only processors are measured.
    """
    if dtype == "float32" or device != "cpu":
        return None
    ratio = product_flops("float32", device) / product_flops(dtype, device)
    return ratio if ratio > WORTH_A_WORD else None


def _finish(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize(device)

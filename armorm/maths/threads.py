"""How many threads a product of matrices is worth."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

import numpy  # noqa: F401  # both bring a BLAS of their own, which the controller finds once they are loaded
import scipy.linalg  # noqa: F401
from threadpoolctl import ThreadpoolController

WIDE: Final = 2048
"""From so many features on, products keep more than one thread busy (docs/adr/0008)."""


@contextmanager
def blas_threads(n_features: int) -> Iterator[None]:
    """Let NumPy and SciPy multiply matrices of fewer than `WIDE` features in one thread.

    Threads of OpenBLAS wait for each other by spinning. On small matrices beside other work that costs more processor
    time than the product itself. The number for wide matrices is left as it is: one for each core, or what
    `OPENBLAS_NUM_THREADS` says.
    """
    with _controller().limit(limits=1 if n_features < WIDE else None, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()

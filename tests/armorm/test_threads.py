"""Small products are made in one thread; that stages do so is tested with the regression."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from armorm.maths.threads import WIDE, blas_threads


def used() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Also where the machine has one core."""
    with threadpool_limits(2, user_api="blas"):
        yield


@pytest.mark.parametrize(("n_features", "expected"), [(1, 1), (WIDE - 1, 1), (WIDE, 2), (2 * WIDE, 2)])
def test_wide_matrices_alone_have_more_than_one_thread(n_features: int, expected: int) -> None:
    with blas_threads(n_features):
        assert used() == {expected}
    assert used() == {2}

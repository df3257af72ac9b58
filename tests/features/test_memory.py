"""Memory of a process that embeds."""

import os

import pytest

from features.embedding.memory import KEPT_KERNELS, KERNEL_CACHES, bound_kernel_caches


def test_few_kernels_are_kept_unless_the_user_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = KERNEL_CACHES
    monkeypatch.setenv(first, "1024")
    monkeypatch.setenv(second, "")  # so that it is put back in the end
    monkeypatch.delenv(second)
    bound_kernel_caches()
    assert (os.environ[first], os.environ[second]) == ("1024", KEPT_KERNELS)

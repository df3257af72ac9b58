"""The paired test: McNemar's, where prompts have one pair each; exact under clusters; right under no difference."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, kstest

from armorm.maths.paired import paired_test, sign_flip_p


@given(only_first=st.integers(0, 40), only_second=st.integers(0, 40), both=st.integers(0, 5))
def test_with_a_pair_a_prompt_it_is_mcnemars_exact_test(only_first: int, only_second: int, both: int) -> None:
    values = np.repeat([-1, 1, 0], [only_first, only_second, both])
    n = only_first + only_second
    expected = binomtest(only_first, n).pvalue if n else 1.0
    assert sign_flip_p(values) == pytest.approx(expected, abs=1e-12)


@given(values=st.lists(st.integers(-4, 4), max_size=8))
def test_it_is_the_share_of_all_signs_that_give_as_much(values: list[int]) -> None:
    sums = [
        abs(sum(v * s for v, s in zip(values, signs, strict=True))) for signs in product((-1, 1), repeat=len(values))
    ]
    expected = np.mean([found >= abs(sum(values)) for found in sums])
    assert sign_flip_p(np.array(values, dtype=np.int64)) == pytest.approx(expected, abs=1e-12)


def test_many_prompts_are_no_more_work() -> None:
    assert sign_flip_p(np.ones(100_000, dtype=np.int64)) == pytest.approx(0, abs=1e-12)
    even = np.tile([-1, 1], 50_000)
    assert sign_flip_p(even) == pytest.approx(1, abs=1e-9)


def test_two_models_side_by_side(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, better = rng.random(2000) < 0.6, rng.random(2000) < 0.25
    found = paired_test(first, first | better, np.arange(2000))
    assert (found.n, found.only_first, found.only_second) == (2000, 0, int((better & ~first).sum()))
    assert found.difference.estimate == pytest.approx((better & ~first).mean())
    assert 0 < found.difference.low < found.difference.estimate < found.difference.high
    assert found.p_value < 1e-9
    turned = paired_test(first | better, first, np.arange(2000))
    assert turned.difference.estimate == -found.difference.estimate
    same = paired_test(first, first, np.arange(2000))
    assert (same.p_value, same.difference.low, same.difference.high) == (1, 0, 0)


def test_copies_of_pairs_say_nothing_new(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, 60)) < [[0.5], [0.65]]
    once = paired_test(first, second, np.arange(60))
    copied = paired_test(first.repeat(9), second.repeat(9), np.arange(60).repeat(9))
    assert copied.p_value == pytest.approx(once.p_value, abs=1e-12)
    assert copied.difference == once.difference
    naive = paired_test(first.repeat(9), second.repeat(9), np.arange(540))
    assert naive.p_value < once.p_value


def test_where_there_is_no_difference_p_is_no_smaller_than_it_says(seed: int) -> None:
    """Three pairs a prompt that go together: p is stochastically no smaller than uniform."""
    rng = np.random.default_rng(seed)
    more = rng.choice([-3, -1, 0, 1, 3], size=(400, 150))
    p_values = np.array([sign_flip_p(values) for values in more])
    assert (p_values < 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert kstest(p_values, "uniform", alternative="greater").pvalue > 0.001

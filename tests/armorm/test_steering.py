"""Steering: it changes what the objectives weigh, and nothing of what their sum says."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from armorm.errors import SteeringError
from armorm.maths.score import coefficients, contributions, reweighted, score
from armorm.maths.steering import Steering

NAMES = ("a", "b", "c")
GATING_NK = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])

positive = st.floats(1e-3, 1e3)


@given(arrays(float, (4, 3), elements=positive), arrays(float, 3, elements=st.just(0.0) | positive))
def test_weights_keep_their_sum_and_their_ratios(gating_NK: np.ndarray, factors_K: np.ndarray) -> None:
    factors_K[0] = 1.0
    steered_NK = reweighted(gating_NK, factors_K)
    np.testing.assert_allclose(steered_NK.sum(axis=1), gating_NK.sum(axis=1))
    np.testing.assert_allclose(steered_NK[:, 1] * gating_NK[:, 0], steered_NK[:, 0] * gating_NK[:, 1] * factors_K[1])
    np.testing.assert_array_equal(steered_NK[:, factors_K == 0], 0)
    of_torch = reweighted(torch.from_numpy(gating_NK), torch.from_numpy(factors_K))
    np.testing.assert_allclose(of_torch.numpy(), steered_NK)


def test_weights_of_one_change_nothing() -> None:
    np.testing.assert_allclose(Steering(only=NAMES).apply(GATING_NK, NAMES), GATING_NK)
    np.testing.assert_allclose(Steering().apply(GATING_NK, NAMES), GATING_NK)


def test_only_masks_and_weights_multiply() -> None:
    np.testing.assert_allclose(Steering(only=["b"]).apply(GATING_NK, NAMES), [[0, 1, 0]] * 2)
    steered = Steering(only=["a", "b"], weights={"b": 5}).apply(GATING_NK, NAMES)
    np.testing.assert_allclose(steered, [[0.25, 0.75, 0], [1 / 6, 5 / 6, 0]])


@pytest.mark.parametrize("size", [1e-300, 1e-50, 1e39, 1e300])
def test_the_ratios_of_weights_count_and_not_their_size(size: float) -> None:
    """Also past what float32, the gate's type, holds."""
    steered = Steering(weights={"a": size, "b": 2 * size, "c": 0}).apply(GATING_NK.astype(np.float32), NAMES)
    np.testing.assert_allclose(steered, [[5 / 11, 6 / 11, 0], [1 / 3, 2 / 3, 0]], rtol=1e-6)


def test_where_the_gate_gives_nothing_to_what_is_left_it_is_shared_by_the_factors() -> None:
    steered = Steering(weights={"c": 0, "b": 3}).apply(np.array([[0.0, 0.0, 1.0]]), NAMES)
    np.testing.assert_allclose(steered, [[0.25, 0.75, 0]])


def test_a_mixture_stands_in_the_gates_place_as_it_is() -> None:
    np.testing.assert_array_equal(Steering(mixture={"c": 2, "a": -1}).apply(GATING_NK, NAMES), [[-1, 0, 2]] * 2)


@given(arrays(float, (2, 3), elements=st.floats(-5, 5)), arrays(float, (3, 3), elements=st.floats(-2, 2)))
def test_the_contributions_still_sum_to_the_score(rewards_NK: np.ndarray, transform_KK: np.ndarray) -> None:
    for steering in (Steering(weights={"a": 3, "b": 0}), Steering(mixture={"a": 0.3, "c": -0.1})):
        steered_NK = steering.apply(GATING_NK, NAMES)
        total_N = score(rewards_NK, transform_KK, steered_NK)
        told_NM = contributions(rewards_NK, transform_KK, steered_NK, np.array([True, True, False]))
        np.testing.assert_allclose(told_NM.sum(axis=1), total_N, atol=1e-9)
        np.testing.assert_allclose(
            (rewards_NK * coefficients(transform_KK, steered_NK)).sum(axis=1), total_N, atol=1e-9
        )


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(SteeringError, match=r"\bx, y;.* a, b, c\b"):
        Steering(only=["y"], weights={"x": 1}).apply(GATING_NK, NAMES)
    with pytest.raises(SteeringError, match=r"\bweight 0\b"):
        Steering(only=["a"], weights={"a": 0}).apply(GATING_NK, NAMES)
    with pytest.raises(SteeringError, match=r" -1\b.*\ba;.*\b0\b"):
        Steering(weights={"a": -1})
    with pytest.raises(SteeringError, match=r"\bnan\b.*\ba;"):
        Steering(weights={"a": float("nan")})
    with pytest.raises(SteeringError, match=r"\binf\b.*\ba\b.*\bmixture\b"):
        Steering(mixture={"a": float("inf")})
    with pytest.raises(SteeringError, match=r"\bmixture\b.*\bweights\b"):
        Steering(mixture={"a": 1}, only=["a"])

"""The scoring formula: known answers, identities, and NumPy and torch alike."""

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from armorm.maths.score import coefficients, contributions, score

Array = npt.NDArray[np.float64]
K = 4
matrices = arrays(np.float64, st.tuples(st.integers(1, 5), st.just(K)), elements=st.floats(-10, 10))
transforms = arrays(np.float64, (K, K), elements=st.floats(-10, 10))


@given(rewards_NK=matrices)
def test_a_gate_of_ones_without_transform_is_the_plain_sum(rewards_NK: Array) -> None:
    np.testing.assert_allclose(
        score(rewards_NK, np.eye(K), np.ones_like(rewards_NK)), rewards_NK.sum(axis=1), atol=1e-12
    )


def test_known_answer() -> None:
    """r' = (1 - 0.5 * 2, 0, 3 + 2) = (0, 0, 5), and the gate takes half of each outer one."""
    rewards_NK, transform_KK = np.array([[1.0, 2.0, 3.0]]), np.array([[1, 0, 0], [-0.5, 0, 1.0], [0, 0, 1]])
    gating_NK = np.array([[0.5, 0.0, 0.5]])
    np.testing.assert_array_equal(score(rewards_NK, transform_KK, gating_NK), [2.5])
    np.testing.assert_array_equal(coefficients(transform_KK, gating_NK), [[0.5, 0.25, 0.5]])
    others_K = np.array([True, False, True])
    np.testing.assert_array_equal(contributions(rewards_NK, transform_KK, gating_NK, others_K), [[0.5, 0, 1.5, 0.5]])


@given(rewards_NK=matrices, transform_KK=transforms, data=st.data())
def test_coefficients_on_raw_rewards_give_the_score(
    rewards_NK: Array, transform_KK: Array, data: st.DataObject
) -> None:
    gating_NK = data.draw(arrays(np.float64, rewards_NK.shape, elements=st.floats(0, 1)))
    expected_N = score(rewards_NK, transform_KK, gating_NK)
    np.testing.assert_allclose((rewards_NK * coefficients(transform_KK, gating_NK)).sum(axis=1), expected_N, atol=1e-9)
    others_K = data.draw(arrays(np.bool_, rewards_NK.shape[1]))
    told_NM = contributions(rewards_NK, transform_KK, gating_NK, others_K)
    np.testing.assert_allclose(told_NM.sum(axis=1), expected_N, atol=1e-9)
    np.testing.assert_array_equal(told_NM[:, :-1], gating_NK * rewards_NK * others_K)


@given(chosen_NK=matrices, transform_KK=transforms, data=st.data())
def test_the_score_of_a_difference_is_the_difference_of_scores(
    chosen_NK: Array, transform_KK: Array, data: st.DataObject
) -> None:
    rejected_NK = data.draw(arrays(np.float64, chosen_NK.shape, elements=st.floats(-10, 10)))
    gating_NK = data.draw(arrays(np.float64, chosen_NK.shape, elements=st.floats(0, 1)))
    apart_N = score(chosen_NK, transform_KK, gating_NK) - score(rejected_NK, transform_KK, gating_NK)
    np.testing.assert_allclose(score(chosen_NK - rejected_NK, transform_KK, gating_NK), apart_N, atol=1e-9)


@given(rewards_NK=matrices, transform_KK=transforms)
def test_numpy_and_torch_agree(rewards_NK: Array, transform_KK: Array) -> None:
    gating_NK = np.full_like(rewards_NK, 1 / K)
    by_torch = score(*map(torch.from_numpy, (rewards_NK, transform_KK, gating_NK)))
    np.testing.assert_allclose(by_torch.numpy(), score(rewards_NK, transform_KK, gating_NK), atol=1e-12)

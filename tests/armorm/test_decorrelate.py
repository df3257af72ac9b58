"""Decorrelation: the effect is there before and gone after, planted penalties come back, no penalty is made up."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from armorm.decorrelate import Correlation, Decorrelation, decorrelate
from armorm.errors import DecorrelationError
from armorm.metrics import average_ranks, pearson, spearman

Array = npt.NDArray[np.float64]
N = 800
NAMES = ("helpful", "verbose", "honest", "harmless")
PLANTED = (0.7, 1.0, -0.4, 2.5)
CORRELATIONS: tuple[Correlation, ...] = ("spearman", "pearson")
MEASURES = {"spearman": spearman, "pearson": pearson}


def find(rewards_NK: Array, correlation: Correlation = "spearman", **settings: float) -> Decorrelation:
    names = NAMES[: rewards_NK.shape[1]]
    return decorrelate(rewards_NK, names, nuisance="verbose", correlation=correlation, **settings)


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def rewards_NK(rng: np.random.Generator) -> Array:
    """Rewards with planted penalties: positive, negative and above 1; skewed, so that ranks are not values."""
    rewards_NK = np.exp(rng.normal(size=(N, 4)))
    return rewards_NK + np.where(np.array(NAMES) == "verbose", 0, PLANTED) * rewards_NK[:, [1]]


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_correlation_is_there_before_and_gone_after(rewards_NK: Array, correlation: Correlation) -> None:
    found = find(rewards_NK, correlation)
    cleaned_NK = rewards_NK @ found.transform_KK
    measure = MEASURES[correlation]
    for k in (0, 2, 3):
        assert abs(measure(rewards_NK[:, k], rewards_NK[:, 1])) > 0.2
        assert abs(measure(cleaned_NK[:, k], rewards_NK[:, 1])) < 1e-4
        assert found.before_K[k] == pytest.approx(measure(rewards_NK[:, k], rewards_NK[:, 1]))
        assert found.after_K[k] == pytest.approx(measure(cleaned_NK[:, k], rewards_NK[:, 1]), abs=1e-4)
    assert found.status_K == ("decorrelated", "nuisance", "decorrelated", "decorrelated")
    assert found.unresolved == {}


def test_the_root_agrees_with_scipy(rewards_NK: Array) -> None:
    found = find(rewards_NK)
    for k in (0, 2, 3):
        cleaned_N = rewards_NK[:, k] - found.lambda_K[k] * rewards_NK[:, 1]
        assert spearmanr(cleaned_N, rewards_NK[:, 1]).statistic == pytest.approx(found.after_K[k], abs=1e-12)


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_planted_penalties_are_recovered(rewards_NK: Array, correlation: Correlation) -> None:
    """Up to the chance correlation of N independent rows."""
    np.testing.assert_allclose(find(rewards_NK, correlation).lambda_K, PLANTED, atol=5 / np.sqrt(N))


@pytest.mark.parametrize("correlation", CORRELATIONS)
@given(shift=st.floats(-3, 3), scale=st.floats(0.1, 10))
def test_what_is_added_of_the_nuisance_is_found_again(correlation: Correlation, shift: float, scale: float) -> None:
    """The penalty of `s r + c v` is `s lambda + c`, exactly but for the width of a step."""
    rewards_NK = np.random.default_rng(3).normal(size=(200, 2))
    base = find(rewards_NK, correlation).lambda_K[0]
    moved = np.stack([scale * rewards_NK[:, 0] + shift * rewards_NK[:, 1], rewards_NK[:, 1]], axis=1)
    assert find(moved, correlation).lambda_K[0] == pytest.approx(scale * base + shift, abs=1e-3 * scale)


def test_the_transform_changes_the_nuisance_row_alone(rewards_NK: Array) -> None:
    found = find(rewards_NK)
    expected = np.eye(4)
    expected[1] -= found.lambda_K
    np.testing.assert_array_equal(found.transform_KK, expected)
    assert found.lambda_K[1] == 1
    np.testing.assert_array_equal((rewards_NK @ found.transform_KK)[:, 1], 0)


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_a_second_fit_on_the_output_changes_nothing(rewards_NK: Array, correlation: Correlation) -> None:
    cleaned_NK = rewards_NK @ find(rewards_NK, correlation).transform_KK
    cleaned_NK[:, 1] = rewards_NK[:, 1]
    again = find(cleaned_NK, correlation)
    np.testing.assert_allclose(again.lambda_K, [0, 1, 0, 0], atol=1e-4)


def test_an_objective_that_is_uncorrelated_stays_as_it_is() -> None:
    """Each value of r meets each value of v once, so both correlations are 0."""
    r, v = (grid.ravel().astype(float) for grid in np.meshgrid(np.arange(20), np.arange(20)))
    for correlation in CORRELATIONS:
        found = find(np.stack([r, v], axis=1), correlation)
        assert found.before_K[0] == pytest.approx(0, abs=1e-12)
        assert found.lambda_K[0] == pytest.approx(0, abs=1e-6)


def rank_correlations(rewards_N2: Array) -> Array:
    """The rank correlation on every step, from left to right: between the penalties at which a pair of rows ties."""
    r, v = rewards_N2.T
    pairs = [(a, b) for a, b in itertools.combinations(range(len(r)), 2) if v[a] != v[b]]
    ties = np.unique([(r[a] - r[b]) / (v[a] - v[b]) for a, b in pairs])
    middles = np.r_[ties[0] - 1, (ties[1:] + ties[:-1]) / 2, ties[-1] + 1]
    return np.array([spearmanr(r - penalty * v, v).statistic for penalty in middles])


@pytest.mark.parametrize("case", range(5))
def test_the_search_goes_down_to_the_step_that_crosses_zero(case: int) -> None:
    rewards_N2 = np.random.default_rng(case).normal(size=(12, 2))
    steps = rank_correlations(rewards_N2)
    assert (np.diff(steps) <= 1e-12).all(), "the rank correlation never rises"
    crossing = int((steps > 1e-12).sum())
    smallest = np.abs(steps[crossing - 1 : crossing + 1]).min()
    assert abs(find(rewards_N2, tolerance=1.0).after_K[0]) <= smallest + 1e-9, "at least as good as the better side"


@given(
    values=arrays(float, (15, 2), elements=st.integers(0, 6).map(float)),
    eighths=st.lists(st.integers(-40, 40), min_size=2),
)
def test_rank_covariance_never_rises_with_the_penalty(values: Array, eighths: list[int]) -> None:
    """What bracketing rests on; with all the ties of whole ratings, and exact in binary."""
    r, v = values.T
    covariances = [average_ranks(r - eighth / 8 * v) @ average_ranks(v) for eighth in sorted(eighths)]
    assert (np.diff(covariances) <= 0).all()


def test_constant_predictions_get_a_status_and_no_penalty(rewards_NK: Array) -> None:
    rewards_NK[:, 2] = 0.1
    for correlation in CORRELATIONS:
        found = find(rewards_NK, correlation)
        assert found.unresolved == {"honest": "no_root"}
        assert np.isnan([found.lambda_K[2], found.after_K[2]]).all()
        with pytest.raises(DecorrelationError, match=r"honest \(no_root\)") as caught:
            _ = found.transform_KK
        assert caught.value.unresolved == {"honest": "no_root"}


def test_a_step_that_is_too_big_gets_a_status_and_no_penalty(rewards_NK: Array) -> None:
    """A copy of the nuisance can only jump from +1 to -1; so few rows cannot meet a strict tolerance."""
    rewards_NK[:, 0] = rewards_NK[:, 1]
    assert find(rewards_NK).status_K[0] in ("above_tolerance", "no_root")
    few = find(np.random.default_rng(0).normal(size=(8, 2)), tolerance=1e-6)
    assert few.unresolved == {"helpful": "above_tolerance"}
    assert np.isnan(few.lambda_K[0])
    assert abs(few.after_K[0]) > 1e-6


def test_a_root_too_far_out_to_bracket_gets_a_status(rng: np.random.Generator) -> None:
    """The reward follows the nuisance 1e20 times over, but one outlier makes their scales look alike."""
    r_N = rng.normal(size=50)
    rewards_NK = np.stack([r_N, 1e-20 * r_N], axis=1)
    rewards_NK[0, 1] = 1.0
    assert find(rewards_NK).unresolved == {"helpful": "no_root"}


def test_unusable_samples_are_refused(rewards_NK: Array) -> None:
    with pytest.raises(DecorrelationError, match="expected helpsteer-verbosity among them"):
        decorrelate(rewards_NK, NAMES)
    with pytest.raises(DecorrelationError, match=r"expected \[N, 3\]"):
        decorrelate(rewards_NK, NAMES[:3], nuisance="verbose")
    with pytest.raises(DecorrelationError, match="1 different predictions of verbose"):
        find(np.ones_like(rewards_NK))
    rewards_NK[0, 0] = np.inf
    with pytest.raises(DecorrelationError, match="not finite"):
        find(rewards_NK)

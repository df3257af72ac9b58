"""Decorrelation: the effect is there before and gone after, planted penalties come back, no penalty is made up."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from armorm.config import check_nuisance
from armorm.errors import DecorrelationError
from armorm.maths.decorrelate import Correlation, Decorrelation, decorrelate
from armorm.maths.metrics import average_ranks, pearson, spearman

Array = npt.NDArray[np.float64]
N = 800
NAMES = ("helpful", "verbose", "honest", "harmless")
PLANTED = (0.7, 1.0, -0.4, 2.5)
CORRELATIONS: tuple[Correlation, ...] = ("spearman", "pearson")
MEASURES = {"spearman": spearman, "pearson": pearson}


def find(rewards_NK: Array, correlation: Correlation = "spearman", **settings: float) -> Decorrelation:
    names = NAMES[: rewards_NK.shape[1]]
    return decorrelate(rewards_NK, names, nuisances=["verbose"], correlation=correlation, **settings)


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
        assert found.before_MK[0][k] == pytest.approx(measure(rewards_NK[:, k], rewards_NK[:, 1]))
        assert found.after_MK[0][k] == pytest.approx(measure(cleaned_NK[:, k], rewards_NK[:, 1]), abs=1e-4)
    assert found.status_K == ("decorrelated", "nuisance", "decorrelated", "decorrelated")
    assert found.unresolved == {}


def test_the_root_agrees_with_scipy(rewards_NK: Array) -> None:
    found = find(rewards_NK)
    for k in (0, 2, 3):
        cleaned_N = rewards_NK[:, k] - found.lambda_MK[0][k] * rewards_NK[:, 1]
        assert spearmanr(cleaned_N, rewards_NK[:, 1]).statistic == pytest.approx(found.after_MK[0][k], abs=1e-12)


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_planted_penalties_are_recovered(rewards_NK: Array, correlation: Correlation) -> None:
    """Up to the chance correlation of N independent rows."""
    np.testing.assert_allclose(find(rewards_NK, correlation).lambda_MK[0], PLANTED, atol=5 / np.sqrt(N))


@pytest.mark.parametrize("correlation", CORRELATIONS)
@given(shift=st.floats(-3, 3), scale=st.floats(0.1, 10))
def test_what_is_added_of_the_nuisance_is_found_again(correlation: Correlation, shift: float, scale: float) -> None:
    """The penalty of `s r + c v` is `s lambda + c`, exactly but for the width of a step."""
    rewards_NK = np.random.default_rng(3).normal(size=(200, 2))
    base = find(rewards_NK, correlation).lambda_MK[0][0]
    moved = np.stack([scale * rewards_NK[:, 0] + shift * rewards_NK[:, 1], rewards_NK[:, 1]], axis=1)
    assert find(moved, correlation).lambda_MK[0][0] == pytest.approx(scale * base + shift, abs=1e-3 * scale)


def test_the_transform_changes_the_nuisance_row_alone(rewards_NK: Array) -> None:
    found = find(rewards_NK)
    expected = np.eye(4)
    expected[1] -= found.lambda_MK[0]
    np.testing.assert_array_equal(found.transform_KK, expected)
    assert found.lambda_MK[0][1] == 1
    np.testing.assert_array_equal((rewards_NK @ found.transform_KK)[:, 1], 0)


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_a_second_fit_on_the_output_changes_nothing(rewards_NK: Array, correlation: Correlation) -> None:
    cleaned_NK = rewards_NK @ find(rewards_NK, correlation).transform_KK
    cleaned_NK[:, 1] = rewards_NK[:, 1]
    again = find(cleaned_NK, correlation)
    np.testing.assert_allclose(again.lambda_MK[0], [0, 1, 0, 0], atol=1e-4)


def test_an_objective_that_is_uncorrelated_stays_as_it_is() -> None:
    """Each value of r meets each value of v once, so both correlations are 0."""
    r, v = (grid.ravel().astype(float) for grid in np.meshgrid(np.arange(20), np.arange(20)))
    for correlation in CORRELATIONS:
        found = find(np.stack([r, v], axis=1), correlation)
        assert found.before_MK[0][0] == pytest.approx(0, abs=1e-12)
        assert found.lambda_MK[0][0] == pytest.approx(0, abs=1e-6)


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
    assert abs(find(rewards_N2, tolerance=1.0).after_MK[0][0]) <= smallest + 1e-9, "at least as good as the better side"


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
        assert found.unresolved == {"honest": "constant"}
        assert np.isnan([found.lambda_MK[0][2], found.after_MK[0][2]]).all()
        with pytest.raises(DecorrelationError, match=r"honest.*constant") as caught:
            _ = found.transform_KK
        assert caught.value.unresolved == {"honest": "constant"}


def test_a_step_that_is_too_big_gets_a_status_and_no_penalty(rewards_NK: Array) -> None:
    """A copy of the nuisance can only jump from +1 to -1; so few rows cannot meet a strict tolerance."""
    rewards_NK[:, 0] = rewards_NK[:, 1]
    assert find(rewards_NK).status_K[0] in ("above_tolerance", "no_root")
    few = find(np.random.default_rng(0).normal(size=(8, 2)), tolerance=1e-6)
    assert few.unresolved == {"helpful": "above_tolerance"}
    assert np.isnan(few.lambda_MK[0][0])
    assert abs(few.after_MK[0][0]) > 1e-6


def test_a_root_too_far_out_to_bracket_gets_a_status(rng: np.random.Generator) -> None:
    """The reward follows the nuisance 1e20 times over, but one outlier makes their scales look alike."""
    r_N = rng.normal(size=50)
    rewards_NK = np.stack([r_N, 1e-20 * r_N], axis=1)
    rewards_NK[0, 1] = 1.0
    assert find(rewards_NK).unresolved == {"helpful": "no_root"}


def test_what_is_left_is_below_1e_4_or_below_one_step(rng: np.random.Generator) -> None:
    """For every objective: of plenty of rows, and of few with the ties of whole ratings."""
    plenty = find(np.exp(rng.normal(size=(20_000, 4))) + rng.normal(size=(20_000, 1)))
    assert (np.abs(plenty.after_MK[0][[0, 2, 3]]) <= 1e-4).all()
    tied = find(rng.integers(0, 5, size=(60, 4)).astype(float), tolerance=1.0)
    assert (np.abs(tied.after_MK[0][[0, 2, 3]]) <= np.maximum(1e-4, tied.step_MK[0][[0, 2, 3]])).all()
    assert (tied.step_MK[0][[0, 2, 3]] > 1e-4).any()


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_several_nuisances_are_removed_at_once(rewards_NK: Array, correlation: Correlation) -> None:
    """Also where they are correlated with one another; one after the other would bring the first one back."""
    rewards_NK[:, 3] += 2 * rewards_NK[:, 0]
    nuisances = ("verbose", "harmless")
    found = decorrelate(rewards_NK, NAMES, nuisances=nuisances, correlation=correlation)
    cleaned_NK, measure = rewards_NK @ found.transform_KK, MEASURES[correlation]
    for m, nuisance in enumerate((1, 3)):
        assert found.before_MK[m] == pytest.approx([measure(r_N, rewards_NK[:, nuisance]) for r_N in rewards_NK.T])
        for k in (0, 2):
            assert abs(found.before_MK[m, k]) > 0.1
            assert abs(measure(cleaned_NK[:, k], rewards_NK[:, nuisance])) <= 1e-4
    assert found.status_K == ("decorrelated", "nuisance", "decorrelated", "nuisance")
    np.testing.assert_allclose(cleaned_NK[:, [1, 3]], 0, atol=1e-12)


def test_the_linear_penalties_of_several_are_those_of_regression(rewards_NK: Array) -> None:
    found = decorrelate(rewards_NK, NAMES, nuisances=("verbose", "harmless"), correlation="pearson")
    centred_NK = rewards_NK - rewards_NK.mean(axis=0)
    expected_MK = np.linalg.lstsq(centred_NK[:, [1, 3]], centred_NK)[0]
    np.testing.assert_allclose(found.lambda_MK, expected_MK, atol=1e-9)


@pytest.fixture
def n_tokens_N(rewards_NK: Array, rng: np.random.Generator) -> Array:
    """A length that two objectives follow, neither of them alone."""
    return np.round(50 * (rewards_NK[:, 0] + rewards_NK[:, 1] / 2 + np.exp(rng.normal(size=N))))


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("nuisances", [("n_tokens",), ("verbose", "n_tokens")])
def test_plain_token_length_is_removed_by_a_matrix(
    rewards_NK: Array, n_tokens_N: Array, correlation: Correlation, nuisances: tuple[str, ...]
) -> None:
    found = decorrelate(rewards_NK, NAMES, nuisances=nuisances, n_tokens_N=n_tokens_N, correlation=correlation)
    cleaned_NK, measure = rewards_NK @ found.transform_KK, MEASURES[correlation]
    assert found.unresolved == {}
    for k in (0, 2, 3):
        assert abs(measure(rewards_NK[:, k], n_tokens_N)) > 0.02
        assert abs(measure(cleaned_NK[:, k], n_tokens_N)) <= 1e-4
        if "verbose" in nuisances:
            assert abs(measure(cleaned_NK[:, k], rewards_NK[:, 1])) <= 1e-4


def test_of_all_matrices_that_remove_length_the_rewards_change_least(
    rewards_NK: Array, n_tokens_N: Array, rng: np.random.Generator
) -> None:
    """LEACE: the least mean square change, also of each objective alone."""
    found = decorrelate(rewards_NK, NAMES, nuisances=["n_tokens"], n_tokens_N=n_tokens_N, correlation="pearson")
    centred_NK, z_N = rewards_NK - rewards_NK.mean(axis=0), n_tokens_N - n_tokens_N.mean()

    def change_K(transform_KK: Array) -> Array:
        return np.asarray(((centred_NK @ (transform_KK - np.eye(4))) ** 2).sum(axis=0))

    cross_K = z_N @ centred_NK
    for direction_K in rng.normal(size=(20, 4)):
        other_KK = np.eye(4) - np.outer(direction_K, cross_K) / (cross_K @ direction_K)
        assert np.abs(z_N @ centred_NK @ other_KK).max() < 1e-6 * np.abs(cross_K).max()
        assert (change_K(other_KK) >= change_K(found.transform_KK) * (1 - 1e-9)).all()


def test_what_is_taken_off_for_length_never_exceeds_what_it_is_taken_off(rewards_NK: Array, n_tokens_N: Array) -> None:
    """Its spread is the objective's own times `corr(r_i, length) / corr(p, length)`; p follows length best."""
    found = decorrelate(rewards_NK, NAMES, nuisances=["n_tokens"], n_tokens_N=n_tokens_N, correlation="pearson")
    p_N = rewards_NK @ found.directions_KM[:, 0]
    share_K = np.abs(found.lambda_MK[0]) * p_N.std() / rewards_NK.std(axis=0)
    np.testing.assert_allclose(share_K, np.abs(found.before_MK[0]) / pearson(p_N, n_tokens_N))
    assert (share_K <= 1).all()


def test_nuisances_that_are_one_are_not_told_apart(rewards_NK: Array) -> None:
    rewards_NK[:, 3] = 2 * rewards_NK[:, 1]
    with pytest.raises(DecorrelationError, match=r"verbose, harmless\b.*\bcopy\b"):
        decorrelate(rewards_NK, NAMES, nuisances=("verbose", "harmless"))


def test_unusable_nuisances_are_refused(rewards_NK: Array) -> None:
    with pytest.raises(DecorrelationError):
        decorrelate(rewards_NK, NAMES, nuisances=("verbose", "verbose"))
    with pytest.raises(DecorrelationError, match=r"\b800\b.*\bn_tokens_N\b"):
        decorrelate(rewards_NK, NAMES, nuisances=["n_tokens"])


def test_unusable_samples_are_refused(rewards_NK: Array) -> None:
    with pytest.raises(DecorrelationError, match=r"\bhelpsteer-verbosity\b"):
        decorrelate(rewards_NK, NAMES)
    with pytest.raises(DecorrelationError, match=r"\(800, 4\).*\[N, 3\]"):
        decorrelate(rewards_NK, NAMES[:3], nuisances=["verbose"])
    with pytest.raises(DecorrelationError, match=r"\b800\b.*\b1\b.*\bverbose\b"):
        find(np.ones_like(rewards_NK))
    rewards_NK[0, 0] = np.inf
    with pytest.raises(DecorrelationError, match=r"\bfinite\b"):
        find(rewards_NK)


def test_without_a_nuisance_the_objectives_stay_as_they_are(rewards_NK: Array) -> None:
    found = decorrelate(rewards_NK, NAMES, nuisances=())
    assert np.array_equal(found.transform_KK, np.eye(len(NAMES)))
    assert set(found.status_K) == {"untouched"}


@pytest.mark.parametrize("n_objectives", [1, 2])
def test_objectives_that_are_all_nuisances_are_refused(rewards_NK: Array, n_objectives: int) -> None:
    """Each takes itself off, so the transform would be zero and every score 0."""
    names = NAMES[:n_objectives]
    with pytest.raises(DecorrelationError):
        decorrelate(rewards_NK[:, :n_objectives], names, nuisances=names)
    with pytest.raises(DecorrelationError):
        check_nuisance(names, names)


@pytest.mark.parametrize("correlation", ["spearman", "pearson"])
@pytest.mark.parametrize(("n_objectives", "status"), [(1, "lost"), (2, "copy")])
def test_length_leaves_nothing_of_one_objective_and_two_copies_of_two(
    rewards_NK: Array, n_tokens_N: Array, correlation: Correlation, n_objectives: int, status: str
) -> None:
    names = NAMES[:n_objectives]
    found = decorrelate(
        rewards_NK[:, :n_objectives],
        names,
        nuisances=("n_tokens",),
        n_tokens_N=n_tokens_N,
        correlation=correlation,
        tolerance=1.0,
    )
    assert set(found.status_K) <= {status, "lost"}
    with pytest.raises(DecorrelationError) as error:
        _ = found.transform_KK
    assert error.value.unresolved.keys() == {*names}
    with pytest.raises(DecorrelationError):
        check_nuisance(("n_tokens",), names)


def test_what_can_be_taken_out_is_known_before_any_work() -> None:
    for nuisances in ((), ("a",), ("n_tokens",), ("a", "b")):
        check_nuisance(nuisances, ["a", "b", "c"])
    for nuisances in (("d",), ("a", "n_tokens"), ("n_tokens", "helpsteer-verbosity"), ("a", "b", "c")):
        with pytest.raises(DecorrelationError):
            check_nuisance(nuisances, ["a", "b", "c"])

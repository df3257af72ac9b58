"""Figures of merit against known answers, scipy and the published row; and the baselines."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logit
from scipy.stats import rankdata, sem, spearmanr
from sklearn.metrics import r2_score

from armorm.config import Correlation
from armorm.errors import MetricError
from armorm.maths import baselines
from armorm.maths.metrics import (
    average_ranks,
    bootstrap_accuracies,
    bootstrap_accuracy,
    bootstrap_correlation,
    bootstrap_gaps,
    bootstrap_sums,
    calibration_error,
    clustered_error,
    interval,
    mse,
    overall_score,
    pair_accuracy,
    pearson,
    r2,
    reliability,
    section_scores,
    spearman,
    wins,
)

Array = npt.NDArray[np.float64]
SECTION_WEIGHTS = {"Chat": 1.0, "Chat Hard": 1.0, "Safety": 1.0, "Reasoning": 1.0, "Prior Sets": 0.5}
ratings = arrays(np.float64, st.integers(1, 30), elements=st.integers(0, 5).map(float))


@given(values_N=ratings)
def test_ranks_are_those_of_scipy_with_ties(values_N: Array) -> None:
    np.testing.assert_array_equal(average_ranks(values_N), rankdata(values_N))


@given(values=arrays(np.float64, st.tuples(st.just(2), st.integers(3, 30)), elements=st.integers(0, 5).map(float)))
def test_rank_correlation_is_that_of_scipy(values: Array) -> None:
    if np.ptp(values, axis=1).min() == 0:
        assert np.isnan(spearman(*values))
    else:
        assert spearman(*values) == pytest.approx(spearmanr(*values).statistic, abs=1e-12)
        assert pearson(*values) == pytest.approx(np.corrcoef(values)[0, 1], abs=1e-12)


def test_errors_of_a_prediction(seed: int) -> None:
    truth_N, prediction_N = np.random.default_rng(seed).normal(size=(2, 50))
    assert r2(truth_N, prediction_N) == pytest.approx(r2_score(truth_N, prediction_N))
    assert r2(truth_N, truth_N) == 1
    assert mse(np.array([1.0, 2.0]), np.array([1.0, 5.0])) == 4.5


def test_figures_that_are_not_defined_are_nan() -> None:
    none, constant = np.empty(0), np.ones(3)
    undefined = [mse(none, none), r2(none, none), r2(constant, constant), spearman(none, none), pair_accuracy(none)]
    assert np.isnan(undefined).all()


def test_a_tie_is_a_miss() -> None:
    assert wins(np.array([2.0, 1.0, 1.0]), np.array([1.0, 1.0, 2.0])).tolist() == [True, False, False]
    assert pair_accuracy(np.array([0.5, 0.0, -0.5, 0.1])) == 0.5


def test_a_score_that_is_not_finite_is_no_miss_but_a_fault() -> None:
    with pytest.raises(MetricError, match=r"\b1 pairs\b.*\bfinite\b"):
        wins(np.array([1.0, np.nan]), np.array([0.0, 0.0]))


def test_the_bootstrap_draws_whole_prompts(rng_wins: npt.NDArray[np.bool_]) -> None:
    """Copies of a pair say nothing new: their interval is that of one pair a prompt, not a narrower one."""
    n_prompts = len(rng_wins)
    once = bootstrap_accuracy(rng_wins, np.arange(n_prompts))
    copied = bootstrap_accuracy(rng_wins.repeat(9), np.arange(n_prompts).repeat(9))
    naive = bootstrap_accuracy(rng_wins.repeat(9), np.arange(9 * n_prompts))
    assert copied == once
    assert naive.high - naive.low < 0.5 * (once.high - once.low)


def test_the_bootstrap_agrees_with_the_normal_approximation(rng_wins: npt.NDArray[np.bool_]) -> None:
    found = bootstrap_accuracy(rng_wins, np.array([f"prompt {n}" for n in range(len(rng_wins))]), n_resamples=2000)
    share = rng_wins.mean()
    half_width = 1.96 * np.sqrt(share * (1 - share) / len(rng_wins))
    assert found.estimate == share
    assert (found.low, found.high) == pytest.approx((share - half_width, share + half_width), abs=0.015)


def test_the_bootstrap_is_the_same_for_a_seed_and_refuses_nonsense(rng_wins: npt.NDArray[np.bool_]) -> None:
    groups = np.arange(len(rng_wins))
    assert bootstrap_accuracy(rng_wins, groups, seed=1) == bootstrap_accuracy(rng_wins, groups, seed=1)
    assert bootstrap_accuracy(np.ones(5, dtype=bool), groups[:5]).low == 1
    with pytest.raises(MetricError, match="0 pairs"):
        bootstrap_accuracy(rng_wins[:0], groups[:0])
    with pytest.raises(MetricError, match=rf"\b{len(groups)} pairs\b.*\b{len(groups) - 1} groups\b"):
        bootstrap_accuracy(rng_wins, groups[1:])


def test_drawing_kinds_of_prompts_is_drawing_prompts(seed: int) -> None:
    """Means, variances and covariances of the resampled sums are those of prompts that are drawn one by one."""
    values_NF = np.random.default_rng(seed).integers(0, 3, size=(240, 2)).astype(float)
    prompts_N = np.arange(240) // 3
    found_RF = bootstrap_sums(values_NF, prompts_N, n_resamples=20_000, seed=seed)
    sums_CF = values_NF.reshape(80, 3, 2).sum(axis=1)
    np.testing.assert_allclose(found_RF.mean(axis=0), values_NF.sum(axis=0), rtol=0.01)
    np.testing.assert_allclose(np.cov(found_RF.T), 80 * np.cov(sums_CF.T, ddof=0), rtol=0.06, atol=5)
    counted = bootstrap_sums(np.ones((7, 1)), np.arange(7), n_resamples=50)
    assert (counted == 7).all(), "as many prompts are drawn as there are"


def test_scorers_share_their_draws(rng_wins: npt.NDArray[np.bool_]) -> None:
    prompts_P = np.arange(len(rng_wins)) // 2
    both = bootstrap_accuracies(np.stack([rng_wins, ~rng_wins], axis=1), prompts_P)
    assert [of.estimate for of in both] == pytest.approx([rng_wins.mean(), 1 - rng_wins.mean()])
    assert (both[0].low, both[0].high) == pytest.approx((1 - both[1].high, 1 - both[1].low))


def test_a_gap_between_two_parts_of_the_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first_P = np.arange(1200) % 3 == 0
    wins_P = rng.random(1200) < np.where(first_P, 0.9, 0.5)
    (found,) = bootstrap_gaps(wins_P[:, None], first_P, ~first_P, np.arange(1200))
    shares = [(wins_P[of_P].mean(), of_P.sum()) for of_P in (first_P, ~first_P)]
    half_width = 1.96 * np.sqrt(sum(share * (1 - share) / n for share, n in shares))
    assert found.estimate == pytest.approx(shares[0][0] - shares[1][0])
    assert (found.low, found.high) == pytest.approx(
        (found.estimate - half_width, found.estimate + half_width), abs=0.02
    )
    (none,) = bootstrap_gaps(wins_P[:, None], first_P, np.zeros(1200, dtype=bool), np.arange(1200))
    assert np.isnan([none.estimate, none.low, none.high]).all()


def test_an_interval_leaves_out_what_is_not_defined() -> None:
    assert interval(0.5, np.array([0.25, np.nan, 0.25])).high == 0.25
    assert np.isnan(interval(0.5, np.array([np.nan])).low)


@pytest.fixture
def rng_wins(seed: int) -> npt.NDArray[np.bool_]:
    return np.asarray(np.random.default_rng(seed).random(300) < 0.8)


def test_the_published_row() -> None:
    """ArmoRM-Llama3-8B-v0.1 in the table of RewardBench: 89.0."""
    sections = {"Chat": 96.9, "Chat Hard": 76.8, "Safety": 92.2, "Reasoning": 97.3, "Prior Sets": 74.3}
    assert overall_score(sections, SECTION_WEIGHTS) == pytest.approx(88.97, abs=0.005)


def test_the_published_row_without_prior_sets() -> None:
    """The mean of the four sections, by name: the leaderboard's score since prior sets are left out."""
    sections = {"Chat": 96.9, "Chat Hard": 76.8, "Safety": 92.2, "Reasoning": 97.3}
    assert overall_score(sections, SECTION_WEIGHTS) == pytest.approx(90.8)


def test_figures_of_resamples_go_through_the_same_means() -> None:
    resampled = {"Chat": np.array([90.0, 80.0]), "Prior Sets": np.array([60.0, 50.0])}
    np.testing.assert_allclose(overall_score(resampled, SECTION_WEIGHTS), [80.0, 70.0])


def test_a_section_that_was_not_measured_is_left_out_of_both_sums() -> None:
    assert overall_score({"Chat": 90.0, "Prior Sets": 60.0}, SECTION_WEIGHTS) == pytest.approx(80.0)


def test_sections_weigh_their_subsets_by_counts() -> None:
    weights = {"Safety": {"refuse": 154.0, "respond": 250.0}, "Reasoning": {"math-prm": 984.0, "hep-js": 164.0}}
    accuracy = {"refuse": 1.0, "respond": 0.0, "hep-js": 0.5}
    assert section_scores(accuracy, weights) == {"Safety": pytest.approx(154 / 404), "Reasoning": 0.5}
    assert section_scores({"hep-js": 0.5}, weights) == {"Reasoning": 0.5}


def test_names_that_are_in_no_table_are_refused() -> None:
    with pytest.raises(MetricError, match=r"\bhep-jss\b.*\bhep-js\b"):
        section_scores({"hep-jss": 1.0}, {"Reasoning": {"hep-js": 1.0}})
    with pytest.raises(MetricError, match=r"\bchat\b.*\bChat\b"):
        overall_score({"chat": 1.0}, SECTION_WEIGHTS)
    with pytest.raises(MetricError, match=r"\bsection\b"):
        overall_score({}, SECTION_WEIGHTS)


def test_baselines() -> None:
    differences_PK = np.array([[1.0, -4.0, 2.0], [-1.0, 5.0, 2.0], [1.0, 2.0, 0.0]])
    names = ("first", "second", "third")
    np.testing.assert_allclose(baselines.mean_objective(differences_PK), [-1 / 3, 2, 1])
    assert baselines.best_objective(differences_PK, names) == "first", "the first of equals"
    assert baselines.best_objective(differences_PK[1:], names) == "second"
    np.testing.assert_array_equal(baselines.single_objective(differences_PK, names, name="third"), [2, 2, 0])


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def two_a_prompt(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Answers of which two of a prompt are the very same, so that only half of them tell something."""
    columns_NK, with_N = rng.normal(size=(200, 3)), rng.normal(size=200)
    columns_NK[:, 1], columns_NK[:, 2] = columns_NK[:, 1] + with_N, 7
    return columns_NK.repeat(2, axis=0), with_N.repeat(2), np.arange(200).repeat(2)


@pytest.mark.parametrize(("correlation", "measure"), [("spearman", spearman), ("pearson", pearson)])
def test_correlations_have_intervals_over_prompts(
    two_a_prompt: tuple[Array, Array, Array], correlation: Correlation, measure: Callable[[Array, Array], float]
) -> None:
    columns_NK, with_N, prompts_N = two_a_prompt
    free, linked, constant = bootstrap_correlation(columns_NK, with_N, prompts_N, correlation=correlation)
    assert free.estimate == pytest.approx(measure(columns_NK[:, 0], with_N))
    assert linked.estimate == pytest.approx(measure(columns_NK[:, 1], with_N))
    assert free.low < free.estimate < free.high
    assert linked.low > 0.4
    assert np.isnan([constant.estimate, constant.low, constant.high]).all()
    # Fisher's interval of 200 prompts, not of 400 rows
    assert free.high - free.low == pytest.approx(2 * 1.96 / np.sqrt(200), rel=0.3)
    rows_alone = bootstrap_correlation(columns_NK, with_N, np.arange(400), correlation=correlation)[0]
    assert rows_alone.high - rows_alone.low < 0.85 * (free.high - free.low)


def test_a_bootstrap_of_correlations_weighs_ranks_as_repeating_rows_does(rng: np.random.Generator) -> None:
    """With one resample the interval is that resample, whose prompts are known."""
    columns_NK, with_N = rng.normal(size=(30, 2)), rng.normal(size=30)
    prompts_N = np.arange(30) // 3
    drawn = np.random.default_rng(5).integers(10, size=10)
    rows = np.concatenate([np.flatnonzero(prompts_N == prompt) for prompt in drawn])
    found = bootstrap_correlation(columns_NK, with_N, prompts_N, correlation="spearman", n_resamples=1, seed=5)
    expected = [pearson(average_ranks(a_N)[rows], average_ranks(with_N)[rows]) for a_N in columns_NK.T]
    assert [of.low for of in found] == pytest.approx(expected)
    with pytest.raises(MetricError, match=r"\b30 rows\b.*\b29\b.*\b30 groups\b"):
        bootstrap_correlation(columns_NK, with_N[1:], prompts_N)


def test_a_resample_without_variation_has_no_correlation(rng: np.random.Generator) -> None:
    """A column that one prompt alone makes vary: the third of the resamples that leave it out say nothing, not 0."""
    column_N, with_N = (np.arange(40) == 7).astype(float), rng.normal(size=40)
    (found,) = bootstrap_correlation(column_N[:, None], with_N, np.arange(40), seed=5)
    draws = np.random.default_rng(5)
    drawn = [rows for rows in (draws.integers(40, size=40) for _ in range(300)) if 7 in rows]
    ranks = average_ranks(column_N), average_ranks(with_N)
    expected = np.quantile([pearson(ranks[0][rows], ranks[1][rows]) for rows in drawn], [0.025, 0.975])
    assert len(drawn) < 250
    assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_the_standard_error_of_clusters(rng: np.random.Generator) -> None:
    """With one value each it is the usual one; with copies it is that of the values without their copies."""
    values_N = rng.normal(size=50)
    assert clustered_error(values_N, np.arange(50)) == pytest.approx(sem(values_N))
    assert clustered_error(values_N.repeat(4), np.arange(50).repeat(4)) == pytest.approx(sem(values_N))
    assert np.isnan(clustered_error(values_N, np.zeros(50)))


def test_a_calibrated_model_has_no_calibration_error(rng: np.random.Generator) -> None:
    """Pairs whose chosen answer is drawn by the very probability that is said; then one that is too sure."""
    says_P = rng.random(200_000)
    chosen_P = np.where(rng.random(len(says_P)) < says_P, says_P, 1 - says_P)
    logits_P = np.log(chosen_P / (1 - chosen_P))
    bins = reliability(logits_P / 7, beta=7.0)
    assert [one.n for one in bins] == [20_000] * 10
    assert [one.accuracy for one in bins] == pytest.approx([one.confidence for one in bins], abs=0.015)
    assert calibration_error(bins) < 0.01
    too_sure = reliability(logits_P, beta=3.0)
    assert calibration_error(too_sure) > 0.1
    assert all(one.confidence > one.accuracy for one in too_sure[1:])


def test_the_calibration_error_is_the_mean_distance() -> None:
    bins = reliability(logit(np.array([0.5, 0.4, 0.9, 0.9])), 1.0, n_bins=2)
    assert [(one.n, one.accuracy) for one in bins] == [(2, 0.0), (2, 1.0)]
    assert [one.confidence for one in bins] == pytest.approx([0.55, 0.9])
    assert calibration_error(bins) == pytest.approx((0.55 + 0.1) / 2)
    assert np.isnan(calibration_error(reliability(np.empty(0), 1.0)))
    with pytest.raises(MetricError, match=r"\b1 pairs\b.*\bfinite\b"):
        reliability(np.array([0.5, np.nan]), 1.0)
    for beta in (0.0, -1.0, float("nan")):
        with pytest.raises(MetricError, match="beta"):
            reliability(np.array([0.5]), beta)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("beta", [1e-30, 1.0, 1e3])
def test_who_wins_is_read_from_scores_and_not_from_their_rounded_probability(dtype: type, beta: float) -> None:
    """A difference of 1e-20 is a win, though its probability is 1/2 in any float; a tie is a miss at any size."""
    differences_P = np.array([0, 1e-20, -1e-20, 1e-9, -1e-9, 1, -1, 500, -500], dtype)
    bins = reliability(differences_P, beta, n_bins=1)
    assert bins[0].accuracy == pair_accuracy(differences_P) == pytest.approx(4 / 9)
    alone = reliability(differences_P, beta, n_bins=len(differences_P))
    assert [one.accuracy for one in alone] == [0, 1, 0, 1, 0, 1, 0, 1, 0]

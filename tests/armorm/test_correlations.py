"""Tables of what decorrelation did: every objective with every nuisance and with length, here and elsewhere."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from armorm.maths.correlations import CorrelationRow, correlation_rows, summarise
from armorm.maths.decorrelate import decorrelate
from armorm.maths.metrics import Interval, spearman
from armorm.stages.decorrelate import penalties_of

Array = npt.NDArray[np.float64]
NAMES = ("helpful", "verbose", "honest")
N = 400


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def rewards_NK(rng: np.random.Generator) -> Array:
    rewards_NK = rng.normal(size=(N, 3))
    return rewards_NK + [[1, 0, -2]] * rewards_NK[:, [1]]


@pytest.fixture
def rows(rewards_NK: Array, rng: np.random.Generator) -> list[CorrelationRow]:
    """Over the reference; the last ten answers have no count of tokens."""
    n_tokens_N = np.r_[np.round(50 + 10 * rewards_NK[:-10, 1] + rng.normal(size=N - 10)), np.full(10, np.nan)]
    found = decorrelate(rewards_NK[:-10], NAMES, nuisances=["verbose"])
    return correlation_rows(
        rewards_NK,
        found.transform_KK,
        n_tokens_N,
        np.arange(N) // 2,
        objectives=NAMES,
        nuisances=["verbose"],
        correlation="spearman",
    )


def test_each_objective_is_there_with_each_nuisance_and_with_length(rows: list[CorrelationRow]) -> None:
    pairs = [(row.objective, row.nuisance) for row in rows]
    assert pairs == [
        ("helpful", "verbose"),
        ("honest", "verbose"),
        ("helpful", "n_tokens"),
        ("verbose", "n_tokens"),
        ("honest", "n_tokens"),
    ]
    assert {(row.n_responses, row.n_prompts) for row in rows} == {(N - 10, N // 2 - 5)}


def test_the_effect_is_there_before_and_gone_after(rows: list[CorrelationRow], rewards_NK: Array) -> None:
    for row in rows[:2]:
        k = NAMES.index(row.objective)
        assert row.before.estimate == pytest.approx(spearman(rewards_NK[:-10, k], rewards_NK[:-10, 1]))
        assert row.before.low * row.before.high > 0, "no interval about 0"
        assert abs(row.after.estimate) <= 1e-4
        assert row.after.low < 0 < row.after.high
    for row in rows[2:]:
        assert abs(row.before.estimate) > 0.5
    assert abs(rows[2].after.estimate) < 0.2, "length goes as far as verbosity has told of it"
    assert np.isnan([rows[3].after.estimate, rows[3].after.low]).all(), "verbosity itself is constant then"


def test_a_summary_names_the_largest_that_is_left(rows: list[CorrelationRow]) -> None:
    rows[1] = replace(rows[1], after=Interval(-0.5))
    length, verbose = summarise(rows, part="held_out", dataset="d")
    assert (verbose.dataset, verbose.nuisance, verbose.n_responses) == ("d", "verbose", N - 10)
    assert verbose.largest
    assert (verbose.largest.objective, verbose.largest.estimate) == ("honest", -0.5)
    assert verbose.mean_before == pytest.approx(np.mean([abs(row.before.estimate) for row in rows[:2]]))
    assert length.nuisance == "n_tokens"
    constant = [replace(rows[0], before=Interval(np.nan), after=Interval(np.nan))]
    assert summarise(constant, part="held_out", dataset="d")[0].largest is None
    assert summarise([], part="held_out", dataset="d") == []


def test_penalties_have_a_row_for_each_objective_and_nuisance(rewards_NK: Array) -> None:
    penalties = penalties_of(decorrelate(rewards_NK, NAMES, nuisances=["verbose", "honest"]))
    assert [(row.objective, row.nuisance) for row in penalties][:2] == [
        ("helpful", "verbose"),
        ("helpful", "honest"),
    ]
    assert [row.status for row in penalties] == ["decorrelated"] * 2 + ["nuisance"] * 4
    assert [row.penalty for row in penalties[2:]] == [1, 0, 0, 1]


def test_a_sample_without_counts_has_no_rows(rewards_NK: Array) -> None:
    nothing = correlation_rows(
        rewards_NK,
        np.eye(3),
        np.full(N, np.nan),
        np.arange(N),
        objectives=NAMES,
        nuisances=["verbose"],
        correlation="pearson",
    )
    assert nothing == []

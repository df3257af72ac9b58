"""What a model has learnt and where it errs: known by construction."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armorm.maths.diagnostics import correlation_matrices, explain_pair, mean_by_kind, worst_pairs
from armorm.maths.metrics import pearson, spearman
from armorm.report.sections import decided

OBJECTIVES = ("a", "b", "v")


@pytest.mark.parametrize(("correlation", "measure"), [("spearman", spearman), ("pearson", pearson)])
def test_a_cell_is_the_correlation_of_its_row_and_column(correlation, measure, seed: int) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    rewards_NK, n_tokens_N = rng.normal(size=(50, 3)), rng.integers(1, 9, 50).astype(float)
    transform_KK = np.eye(3)
    transform_KK[2, :2] = -0.5
    found = correlation_matrices(rewards_NK, transform_KK, n_tokens_N, objectives=OBJECTIVES, correlation=correlation)
    assert found.names == ("a", "b", "v", "n_tokens")
    after_NF = np.column_stack([rewards_NK @ transform_KK, n_tokens_N])
    for i in range(4):
        assert found.before[i][i] == pytest.approx(1)
        for k in range(4):
            assert found.after[i][k] == pytest.approx(measure(after_NF[:, i], after_NF[:, k]), abs=1e-12)


def test_a_constant_has_no_correlation_and_answers_without_a_length_do_not_count() -> None:
    rewards_NK = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [-9.0, 7.0]])
    n_tokens_N = np.array([1.0, 2.0, 3.0, np.nan])
    found = correlation_matrices(rewards_NK, np.eye(2), n_tokens_N, objectives=("a", "b"), correlation="pearson")
    assert found.n_responses == 3
    assert found.before[0][2] == pytest.approx(1)
    assert np.isnan(np.array(found.before[1], dtype=float)).all()


def test_without_answers_there_is_no_matrix() -> None:
    found = correlation_matrices(
        np.empty((0, 2)), np.eye(2), np.empty(0), objectives=("a", "b"), correlation="spearman"
    )
    assert (found.before, found.n_responses) == ((), 0)


def test_a_prompt_counts_once_in_its_kind() -> None:
    values_UK = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    names_P = np.array(["x", "x", "x", "y"], dtype=object)
    rows = mean_by_kind("dataset", ["y", "none", "x"], names_P, np.array([0, 0, 1, 2]), values_UK)
    assert [(row.name, row.n_prompts, row.coefficients) for row in rows] == [
        ("y", 1, (0.5, 0.5)),
        ("x", 2, (0.5, 0.5)),
    ]


@given(st.lists(st.integers(-5, 5)), st.integers(0, 12))
def test_the_worst_pairs_are_the_first_of_all_that_are_not_won(differences: list[int], n: int) -> None:
    found = worst_pairs(np.array(differences, dtype=float), n).tolist()
    lost = [place for place, difference in enumerate(differences) if difference <= 0]
    assert found == sorted(lost, key=lambda place: (differences[place], place))[:n]


def test_an_explanation_is_in_order_of_what_sets_the_answers_apart() -> None:
    """Planted: safety decides for the chosen answer, which is longer, against helpfulness."""
    chosen, rejected = {"helpful": 0.2, "safe": 0.9, "length (taken out)": -0.3}, {"helpful": 0.3, "safe": 0.4}
    parts = explain_pair(chosen, {**rejected, "length (taken out)": -0.1}, {"helpful": 0.6, "safe": 0.4})
    assert [(part.objective, pytest.approx(part.difference)) for part in parts] == [
        ("safe", 0.5),
        ("length (taken out)", -0.2),
        ("helpful", -0.1),
    ]
    assert [part.weight for part in parts[::2]] == [0.4, 0.6]
    told = decided(parts)
    assert re.search(r"\bchosen\b.* 0\.2\b.*\bsafe \(\+0\.5\).*\bdecides\b", told)
    told = decided(explain_pair(rejected | {"helpful": 0.9}, rejected | {"safe": 1.2}, {}))
    assert re.search(r"\brejected\b.* 0\.2\b", told)
    told = decided(explain_pair({"a": 2.0, "b": 1.0}, {"a": 0.0, "b": 0.0}, {}))
    assert re.search(r"\bchosen\b.* 3\b.*\ba \(\+2\).*\bwithout\b", told)

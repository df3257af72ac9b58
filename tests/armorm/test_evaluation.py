"""Evaluation over arrays: scores that are planted, lengths that a scorer follows, a benchmark worked out by hand."""

import numpy as np
import numpy.typing as npt
import pytest

from armorm.config import EvaluationConfig
from armorm.maths import evaluation
from armorm.maths.evaluation import (
    Benchmark,
    LengthAccuracy,
    Missing,
    Ranked,
    benchmark_scores,
    held_out_accuracy,
    length_accuracy,
    length_bins,
    rank,
)
from armorm.maths.metrics import bootstrap_accuracy
from armorm.records.evaluation import Evaluation, PairAccuracy
from armorm.report.sections import benchmark_note, evaluation_line

Array = npt.NDArray[np.float64]
CONFIG = EvaluationConfig(n_resamples=400)


def names(*values: str) -> npt.NDArray[np.object_]:
    return np.array(values, dtype=object)


def prompts(n: int) -> npt.NDArray[np.object_]:
    return names(*(f"prompt {number}" for number in range(n)))


def test_baselines_that_there_are_stand_in_order() -> None:
    differences_PK = np.array([[1.0, -4.0], [-1.0, 5.0]])
    gate_P, lengths_P, probe_P = np.array([[0.1, 0.2], [3, -3], [0.3, -0.4]])
    everything = rank(
        differences_PK, gate_P, lengths_P, probe_P, objectives=("a", "b"), best_objective="b", mixture={"a": 1.0}
    )
    assert everything["mixture"].tolist() == [1, -1]
    assert list(everything) == list(evaluation.SCORERS)
    assert everything["single"].tolist() == [-4, 5]
    least = rank(differences_PK, gate_P, lengths_P, None, objectives=("a", "b"), best_objective=None, mixture={})
    assert list(least) == ["gate", "mean", "longer"]


def test_held_out_pairs_by_dataset() -> None:
    ranked = {"gate": np.array([1.0, 1, 1, -1, 1, 1]), "longer": np.array([-1.0, 1, 1, 1, -1, -1])}
    datasets_P = names("a", "a", "a", "a", "b", "b")
    found = held_out_accuracy(ranked, datasets_P=datasets_P, prompts_P=prompts(6), config=CONFIG)
    estimates = {row.dataset: [row.accuracy[name].estimate for name in ranked] for row in found}
    assert estimates == {"all": [5 / 6, 0.5], "a": [0.75, 0.75], "b": [1, 0]}
    assert [row.n for row in found] == [6, 4, 2]


def test_length_bins_are_symmetric_and_equal_lengths_are_apart(seed: int) -> None:
    lengths_P = np.rint(np.random.default_rng(seed).normal(50, 100, size=999))
    bin_P = length_bins(np.r_[lengths_P, 0])
    np.testing.assert_array_equal(length_bins(-np.r_[lengths_P, 0]), -bin_P)
    assert set(bin_P) == set(range(-4, 5))
    assert (bin_P == 0).sum() == (lengths_P == 0).sum() + 1
    sizes = [(np.abs(bin_P) == number).sum() for number in range(1, 5)]
    assert max(sizes) - min(sizes) < 20
    order = np.argsort(lengths_P)
    assert (np.diff(bin_P[:-1][order]) >= 0).all()


def test_the_fewest_of_lengths_are_bins_too() -> None:
    assert length_bins(np.empty(0)).tolist() == []
    assert length_bins(np.zeros(3)).tolist() == [0, 0, 0]
    assert set(np.abs(length_bins(np.array([-7.0, 7, 7])))) <= {1, 2, 3, 4}


def measured(weight: float, seed: int, n_pairs: int = 4000) -> LengthAccuracy:
    """Figures of a scorer that is right in 70 % of pairs, but for the length; beyond 200 / weight it alone counts."""
    rng = np.random.default_rng(seed)
    lengths_P = rng.normal(size=n_pairs) * 200
    truth_P = np.where(rng.random(n_pairs) < 0.7, 1.0, -1.0)
    ranked = {"gate": truth_P + weight * lengths_P / 200, "longer": lengths_P}
    return length_accuracy(ranked, np.rint(lengths_P), prompts_P=prompts(n_pairs), config=CONFIG)


def test_a_scorer_that_follows_length_shows_it(seed: int) -> None:
    fair, biased = measured(0, seed), measured(2, seed)
    assert list(fair.bias) == ["gate"], "the longer one is right or wrong by definition"
    assert fair.bias["gate"].low < 0.02
    assert fair.bias["gate"].high > -0.02
    assert biased.bias["gate"].low > 0.3
    # without the handful of pairs that round to the same length
    rising = [row.accuracy["gate"].estimate for row in biased.rows if row.n > 100]
    assert len(rising) == 8
    assert (rising[0], rising[-1]) == (0, 1)
    assert rising[3:5] == pytest.approx([0.7, 0.7], abs=0.08)  # too near in length for it to matter
    assert rising == sorted(rising[:4]) + sorted(rising[4:])
    assert sum(row.n for row in biased.rows) == 4000
    assert all(row.shortest <= row.longest for row in biased.rows)
    assert biased.n_longer + biased.n_shorter <= 4000


def test_bias_needs_both_kinds_of_pairs() -> None:
    ranked = {"gate": np.array([1.0, -1, 1])}
    found = length_accuracy(ranked, np.array([3.0, 0, 9]), prompts_P=prompts(3), config=CONFIG)
    assert (found.bias, found.n_longer, found.n_shorter) == ({}, 2, 0)
    first = found.rows[0]
    assert (first.shortest, first.longest, first.n) == (0, 0, 1)
    none = length_accuracy({"gate": np.empty(0)}, np.empty(0), prompts_P=prompts(0), config=CONFIG)
    assert (none.rows, none.bias) == ((), {})


PUBLISHED = {"easy": ("Chat", 4, 4.0), "hard": ("Chat", 2, 12.0), "old": ("Prior", 2, 1.0), "code": ("Reasoning", 9, 1)}
WEIGHTS = {"Prior": 0.5, "Chat": 1.0, "Reasoning": 1.0}


def scored(ranked: Ranked, subsets_P: npt.NDArray[np.object_], prompts_P: npt.NDArray[np.object_]) -> Benchmark:
    return benchmark_scores(
        ranked,
        subsets_P,
        prompts_P=prompts_P,
        published=PUBLISHED,
        section_weights=WEIGHTS,
        prior_section="Prior",
        config=CONFIG,
    )


def test_a_benchmark_with_and_without_prior_sets() -> None:
    subsets_P = names(*["easy"] * 4, *["hard"] * 2, *["old"] * 2)
    gate_P = np.array([1.0, 1, 1, -1, 1, -1, -1, -1])
    found = scored({"gate": gate_P, "longer": -gate_P}, subsets_P, prompts(8))
    chat = (4 * 0.75 + 12 * 0.5) / 16
    assert found.sections == {"Chat": chat, "Prior": 0}
    assert found.overall == pytest.approx(chat / 1.5)
    assert found.overall_without_prior_sets == pytest.approx(chat), "by name, wherever it stands"
    assert [(row.subset, row.n, row.accuracy) for row in found.subsets] == [
        ("easy", 4, 0.75),
        ("hard", 2, 0.5),
        ("old", 2, 0),
    ]
    assert list(found.baselines) == ["longer"]
    assert found.baselines["longer"].sections == {"Chat": 1 - chat, "Prior": 1}
    assert set(found.intervals) == {"Chat", "Prior", "overall", "overall without prior sets"}
    assert found.missing == Missing(("Reasoning",), ())
    assert (found.n_published, found.n_incomplete) == (3, 0)


def test_what_of_a_benchmark_there_are_no_pairs_of_is_named() -> None:
    found = scored({"gate": np.ones(4)}, names(*["easy"] * 4), prompts(4))
    assert found.missing == Missing(("Prior", "Reasoning"), ("hard",))
    assert "1 of 3 sections" in evaluation_line(Evaluation(pairs=PairAccuracy(), rewardbench=found))
    assert all(name in benchmark_note(found) for name in ("Prior", "Reasoning", "hard"))
    whole = names(*["easy"] * 4, *["hard"] * 2, *["old"] * 2, *["code"] * 9)
    complete = scored({"gate": np.ones(17)}, whole, prompts(17))
    assert complete.missing == Missing()
    assert "sections" not in evaluation_line(Evaluation(pairs=PairAccuracy(), rewardbench=complete))


def test_nothing_measured_is_no_score() -> None:
    found = scored({"gate": np.empty(0)}, names(), prompts(0))
    assert (found.subsets, found.sections, found.intervals, found.baselines) == ((), {}, {}, {})
    assert (found.overall, found.overall_without_prior_sets) == (None, None)


def test_intervals_of_subsets_and_scores(seed: int) -> None:
    """A subset's is that of its own prompts; a mean of independent halves is surer than each, of shared prompts not."""
    rng = np.random.default_rng(seed)
    gate_P = np.where(rng.random(800) < 0.7, 1.0, -1.0)
    subsets_P = names(*["easy"] * 400, *["old"] * 400)

    def widths(prompts_P: npt.NDArray[np.object_]) -> dict[str, float]:
        found = scored({"gate": np.r_[gate_P[:400], gate_P[:400]]}, subsets_P, prompts_P)
        (easy, old), whole = found.subsets, found.intervals["overall"]
        assert easy.accuracy == old.accuracy == pytest.approx(whole.estimate)
        alone = bootstrap_accuracy(gate_P[:400] > 0, prompts(400), n_resamples=400)
        assert (easy.low, easy.high) == pytest.approx((alone.low, alone.high), abs=0.02)
        return {"easy": easy.high - easy.low, "overall": whole.high - whole.low}

    apart, shared = widths(prompts(800)), widths(np.tile(prompts(400), 2))
    assert shared["overall"] == pytest.approx(shared["easy"], rel=0.1)
    # weights 1 and 0.5 of independent halves
    assert apart["overall"] == pytest.approx(apart["easy"] * np.sqrt(1 + 0.25) / 1.5, rel=0.2)


def test_a_subset_of_one_prompt_does_not_undo_the_intervals() -> None:
    gate_P = np.r_[np.ones(30), -np.ones(10), 1]
    found = scored({"gate": gate_P}, names(*["easy"] * 40, "old"), prompts(41))
    assert all(np.isfinite([of.low, of.high]).all() for of in found.intervals.values())
    assert (found.subsets[1].low, found.subsets[1].high) == (1, 1)

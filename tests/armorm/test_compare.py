"""Two models side by side: turned and stretched weights have the cosine and the change that they were given."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from armorm.config import GateConfig
from armorm.maths.evaluation import AccuracyRow, Benchmark, Missing
from armorm.maths.gate import Gate
from armorm.maths.metrics import Interval
from armorm.model.compare import ModelDiff, compare_objectives, compare_pairs, figures_of, model_sections, side_by_side
from armorm.model.head import RewardHead
from armorm.records.evaluation import Evaluation, PairAccuracy
from armorm.report.sections import taken_out

OBJECTIVES = ("verbosity", "truth", "safety")


def reward_model(W_KD: Any, objectives: tuple[str, ...] = OBJECTIVES, alpha: float = 1.0) -> RewardHead:
    n_objectives, n_features = W_KD.shape
    config = GateConfig(hidden_dim=2, n_hidden=1)
    gate = Gate(n_features, n_objectives, config)
    return RewardHead(
        objectives=objectives,
        untrained={},
        W_KD=W_KD,
        transform_KK=np.eye(n_objectives),
        gate_state={name: value.detach().numpy() for name, value in gate.state_dict().items()},
        gate_config=config,
        beta=alpha,
        nuisance=objectives[0],
        backbone_id="b",
        backbone={},
        scales={},
        metrics={
            "regression": [{"objective": name, "alpha": alpha, "test_spearman": 0.5} for name in objectives],
            "decorrelation": {
                "nuisance": "verbosity",
                "reference": "r",
                "objectives": [{"objective": name, "lambda": alpha / 2} for name in objectives],
            },
        },
        inputs={},
    )


def test_weights_by_objective_and_not_by_position() -> None:
    before = reward_model(np.array([[1.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 3.0, 0]]))
    angle = np.pi / 3
    turned = [2 * np.sin(angle), 2 * np.cos(angle), 0, 0]
    after = reward_model(np.array([turned, [4.0, 0, 0, 0]]), objectives=("truth", "verbosity"), alpha=10)
    truth, verbosity, safety = compare_objectives(before, after, (np.array([0.2, 0.3, 0.5]), None))
    assert [one.objective for one in (truth, verbosity, safety)] == ["truth", "verbosity", "safety"]
    assert truth.cosine == pytest.approx(0.5)
    assert truth.relative_change == pytest.approx(1)  # an equilateral triangle
    assert (verbosity.cosine, verbosity.relative_change) == (pytest.approx(1), pytest.approx(3))
    assert (verbosity.alpha, verbosity.penalty, verbosity.spearman) == ((1, 10), (0.5, 5), (0.5, 0.5))
    assert (truth.gate, safety.gate) == ((0.3, None), (0.5, None))
    assert (safety.cosine, safety.alpha) == (None, (1, None))


def test_of_another_size_weights_are_not_compared_and_figures_are() -> None:
    before, after = reward_model(np.eye(3, 4)), reward_model(np.eye(3, 6), alpha=3)
    changes = compare_objectives(before, after, (None, None))
    assert [(one.cosine, one.relative_change, one.gate) for one in changes] == [(None, None, (None, None))] * 3
    evaluation = Evaluation(
        pairs=PairAccuracy((AccuracyRow("all", 9, {"gate": Interval(0.75)}),)),
        rewardbench=Benchmark({"Chat": 0.9}, 0.8),
    )
    figures = side_by_side(figures_of(before, None), figures_of(after, evaluation))
    assert figures == {
        "gate beta": (1, 3),
        "held-out pairs: gate": (None, 0.75),
        "RewardBench Chat": (None, 0.9),
        "RewardBench overall": (None, 0.8),
    }
    part = replace(evaluation, rewardbench=Benchmark({"Chat": 0.9}, 0.9, missing=Missing(("Safety",))))
    of_part, of_whole = figures_of(before, part), figures_of(after, evaluation)
    moved = side_by_side(of_part, of_whole)
    assert moved["RewardBench overall"] == (None, 0.8), "a mean over other sections is another figure"
    sections = model_sections(ModelDiff("a", "b", (("verbosity",), ()), changes, figures, 0))
    assert all(len(row) == len(section.columns) for section in sections for row in section.rows)
    assert sections[1].rows[0] == ("gate beta", 1, 3, 2)
    before_row, after_row = sections[2].rows
    assert before_row == ("before", "verbosity")
    assert after_row == ("after", taken_out(()))


def test_pairs_of_benchmarks_are_told_by_themselves() -> None:
    first_P = np.array([True, False, False, False, True, True])
    second_P = np.array([True, True, True, False, False, False])
    datasets_P = np.array(["a", "a", "b", "b", "bench", "bench"], dtype=object)
    prompts_P = np.array([f"p{number}" for number in range(6)], dtype=object)
    found = compare_pairs(
        first_P, second_P, datasets_P=datasets_P, prompts_P=prompts_P, benchmark_P=datasets_P == "bench"
    )
    assert {name: (test.n, test.difference.estimate, test.p_value) for name, test in found.items()} == {
        "all held-out": (4, 0.5, pytest.approx(0.5)),
        "a": (2, 0.5, pytest.approx(1)),
        "b": (2, 0.5, pytest.approx(1)),
        "bench": (2, -1, pytest.approx(0.5)),
    }
    none = np.empty(0, dtype=object)
    assert compare_pairs(first_P[:0], first_P[:0], datasets_P=none, prompts_P=none, benchmark_P=first_P[:0]) == {}
    section = model_sections(ModelDiff("a", "b", ((), ()), (), {}, 0, found))[-1]
    assert all(len(row) == len(section.columns) for row in section.rows)


def test_the_same_model_has_not_changed() -> None:
    model = reward_model(np.random.default_rng(0).normal(size=(3, 5)))
    for one in compare_objectives(model, replace(model, beta=2.0), (None, None)):
        assert (one.cosine, one.relative_change) == (pytest.approx(1), 0)

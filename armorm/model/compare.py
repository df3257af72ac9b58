"""What differs between two models: weights, penalties, gate and figures, objective by objective.

Suffixes: K objectives, D feature size, P pairs. Objectives are matched by name; a model may lack some of the other's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from armorm.maths.paired import PairedTest, paired_test
from armorm.model.head import RewardHead
from armorm.records.decorrelation import Penalty
from armorm.records.evaluation import Evaluation
from armorm.report.sections import Section, benchmark_name, own_title, scorer_titles, shown, taken_out

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]
Names = NDArray[np.object_]

Pair = tuple[float | None, float | None]
"""A figure of the first model and of the second; None where it has none."""


@dataclass(frozen=True, slots=True)
class ObjectiveChange:
    """One objective in two models."""

    objective: str
    cosine: float | None
    """The cosine of its two weight vectors; None where one model lacks it, or the feature sizes differ."""
    relative_change: float | None
    """Length of the difference of the weights over the length of the first."""
    alpha: Pair
    """Ridge strengths."""
    penalty: Pair
    """Lambdas: how much of the nuisance, of several the first, is taken off."""
    gate: Pair
    """Mean weights of the gate over the same prompts."""
    spearman: Pair
    """Held-out rank correlations of predictions with ratings."""


@dataclass(frozen=True, slots=True)
class ModelDiff:
    """Two models side by side."""

    before: str
    after: str
    nuisances: tuple[Sequence[str], Sequence[str]]
    """What was taken out of the objectives of each model; empty where nothing was."""
    objectives: Sequence[ObjectiveChange]
    metrics: Mapping[str, Pair]
    n_prompts: int
    """The number of prompts that the gates were compared on."""
    paired: Mapping[str, PairedTest] = field(default_factory=dict)
    """Accuracy on the same pairs, held-out ones over all datasets, and each dataset; empty if one was not evaluated."""


def compare_objectives(
    before: RewardHead, after: RewardHead, gates: tuple[Floats | None, Floats | None]
) -> list[ObjectiveChange]:
    """Return every objective of either model, in the order of the second.

    Args:
        gates: `[K]` mean gate weights of each, over the same prompts, where they are known.
    """
    models = (before, after)
    alphas, spearmans = (
        [{fit.objective: _known(value(fit)) for fit in model.training.regression} for model in models]
        for value in (attrgetter("alpha"), attrgetter("test_spearman"))
    )
    penalties = [
        {of.objective: _known(of.penalty) for of in reversed(_penalties(model))}  # of several nuisances, the first
        for model in models
    ]
    weights = [
        {} if gate_K is None else dict(zip(model.objectives, map(float, gate_K), strict=True))
        for model, gate_K in zip(models, gates, strict=True)
    ]
    names = [*after.objectives, *(name for name in before.objectives if name not in after.objectives)]
    return [
        ObjectiveChange(
            name,
            *_weights_changed(before, after, name),
            alpha=_pair(alphas, name),
            penalty=_pair(penalties, name),
            gate=_pair(weights, name),
            spearman=_pair(spearmans, name),
        )
        for name in names
    ]


def figures_of(model: RewardHead, evaluation: Evaluation | None) -> dict[str, float | None]:
    """Return a model's figures by name, those of its evaluation where it was evaluated."""
    figures: dict[str, float | None] = {"gate beta": model.beta}
    if evaluation:
        for row in evaluation.pairs.rows[:1]:  # over all datasets
            titles = scorer_titles(row.accuracy, evaluation.pairs)
            figures |= {f"held-out pairs: {title}": row.accuracy[name].estimate for name, title in titles.items()}
        benchmark = benchmark_name(evaluation.rewardbench)  # means over other sections do not stand side by side
        figures |= {f"{benchmark} {name}": score for name, score in evaluation.rewardbench.figures.items()}
        for dataset, own in evaluation.benchmarks.items():
            figures |= {f"{own_title(own)} ({dataset}) {name}": of.estimate for name, of in own.scores.items()}
    return figures


def side_by_side(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> dict[str, Pair]:
    """Figures of two models under their names."""
    return {name: (before.get(name), after.get(name)) for name in {**before, **after}}


def compare_pairs(
    first_P: Bools, second_P: Bools, *, datasets_P: Names, prompts_P: Names, benchmark_P: Bools
) -> dict[str, PairedTest]:
    """Paired tests of two models, on the held-out pairs of all datasets together, and on those of each dataset.

    Args:
        benchmark_P: `[P]` pairs of benchmarks, which are reported by themselves.
    """
    groups = {"all held-out": ~benchmark_P} | {name: datasets_P == name for name in sorted(set(datasets_P))}
    return {
        name: paired_test(first_P[here_P], second_P[here_P], prompts_P[here_P])
        for name, here_P in groups.items()
        if here_P.any()
    }


def model_sections(diff: ModelDiff) -> list[Section]:
    """Two models as tables."""
    columns = ["objective", "Spearman", "gate", "lambda", "alpha", "cosine", "change"]
    rows = [
        (o.objective, *map(_moved, (o.spearman, o.gate, o.penalty, o.alpha)), o.cosine, o.relative_change)
        for o in diff.objectives
    ]
    figures = [(name, one, other, _difference(one, other)) for name, (one, other) in diff.metrics.items()]
    removed = [taken_out(nuisances) for nuisances in diff.nuisances]
    note = f"before → after; the gate's mean weights over the same {diff.n_prompts} prompts"
    return [
        Section("objectives", f"Objectives of model {diff.before[:12]} and {diff.after[:12]}", columns, rows, note),
        Section("figures", "Figures", ["figure", "before", "after", "difference"], figures),
        Section(
            "decorrelation",
            "Decorrelation",
            ["model", "was taken out"],
            list(zip(("before", "after"), removed, strict=True)),
        ),
        paired_section(diff.paired),
    ]


def paired_section(paired: Mapping[str, PairedTest], title: str = "Paired test") -> Section:
    """Tests of two models on the same pairs."""
    rows = [
        (name, t.n, t.difference.estimate, t.difference.low, t.difference.high, t.only_first, t.only_second, t.p_value)
        for name, t in paired.items()
    ]
    columns = ["pairs of", "n", "difference", "low", "high", "only before right", "only after right", "p"]
    note = "accuracy after less before on the same pairs, 95 % bootstrap interval over prompts; sign-flip test"
    return Section("paired-test", title, columns, rows, note)


def _penalties(model: RewardHead) -> Sequence[Penalty]:
    return model.training.decorrelation.objectives if model.training.decorrelation else ()


def _known(value: float) -> float | None:
    return value if value == value else None


def _weights_changed(before: RewardHead, after: RewardHead, name: str) -> tuple[float | None, float | None]:
    """Cosine and relative change."""
    known = name in before.objectives and name in after.objectives
    if not known or before.W_KD.shape[1] != after.W_KD.shape[1]:
        return None, None
    old_D, new_D = (model.W_KD[model.objectives.index(name)].astype(np.float64) for model in (before, after))
    old, new = np.linalg.norm(old_D), np.linalg.norm(new_D)
    if not old or not new:
        return None, None
    return float(old_D @ new_D / (old * new)), float(np.linalg.norm(new_D - old_D) / old)


def _pair(values: Sequence[Mapping[str, float | None]], name: str) -> Pair:
    return values[0].get(name), values[1].get(name)


def _moved(pair: Pair) -> str:
    """Return both numbers, or the one that has not changed."""
    before, after = map(shown, pair)
    return before if before == after else f"{before} → {after}"


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else other - one

"""Evaluation as pure functions over arrays: held-out pairs beside baselines, and a sectioned benchmark.

Suffixes: P pairs, K objectives, S scorers or subsets, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from armorm.config import DERIVED, EvaluationConfig
from armorm.maths import baselines
from armorm.maths.metrics import (
    Bin,
    Interval,
    Score,
    bootstrap_accuracies,
    bootstrap_gaps,
    bootstrap_sums,
    calibration_error,
    interval,
    overall_score,
    pair_accuracy,
    reliability,
    section_scores,
    wins,
)
from armorm.maths.paired import PairedTest, paired_test

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Names = npt.NDArray[np.object_]
Ranked = Mapping[str, Floats]
"""Scorer to `[P]` score differences, chosen minus rejected."""

SCORERS: Final = ("gate", "mixture", "mean", "single", "probe", "longer")
"""How pairs are ranked: the gate, the fixed mixture that it starts from, and what both have to beat."""

BASELINES: Final = ("mean", "single", "probe", "longer")
"""What is no part of the model."""

LENGTH_BINS = 4
"""Bins of length differences on each side."""


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """Accuracy on some held-out pairs."""

    dataset: str
    """Or `all`."""
    n: int
    accuracy: Mapping[str, Interval]
    """The accuracy of each scorer."""


@dataclass(frozen=True, slots=True)
class LengthRow:
    """Accuracy on the pairs of a bin of length differences."""

    shortest: int
    longest: int
    n: int
    accuracy: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class LengthAccuracy:
    """Accuracy by how much longer the chosen answer is; empty in evaluations that lack it."""

    rows: tuple[LengthRow, ...] = ()
    bias: Mapping[str, Interval] = field(default_factory=dict)
    """The length bias of each scorer; empty where chosen answers are never longer, or never shorter."""
    n_longer: int = 0
    n_shorter: int = 0


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """How sure the gate is of some pairs, and how often it is right."""

    dataset: str
    n: int
    confidence: float
    accuracy: float
    error: float
    """Expected calibration error."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Whether pairs come out as often as the gate is sure of them."""

    beta: float
    rows: tuple[CalibrationRow, ...] = ()
    bins: tuple[Bin, ...] = ()
    beta_by_dataset: Mapping[str, float] = field(default_factory=dict)
    """The betas of datasets that have their own."""


@dataclass(frozen=True, slots=True)
class Means:
    """A benchmark's own weighted means of one scorer; None without any pair."""

    sections: Mapping[str, float] = field(default_factory=dict)
    overall: float | None = None
    overall_without_prior_sets: float | None = None

    @property
    def figures(self) -> dict[str, float]:
        """Those that there are, under the names that they are shown by."""
        return _named(self.sections, self.overall, self.overall_without_prior_sets)


@dataclass(frozen=True, slots=True)
class SubsetRow:
    """Accuracy on a benchmark's subset; older evaluations have no interval."""

    section: str
    subset: str
    n: int
    accuracy: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True, slots=True)
class Missing:
    """What of a benchmark no pair is of, and all means leave out."""

    sections: tuple[str, ...] = ()
    subsets: tuple[str, ...] = ()
    """Subsets of the other sections."""


@dataclass(frozen=True, slots=True)
class Benchmark(Means):
    """A benchmark's figures of the gate, in 0..1, and of its baselines; older evaluations have not all of it."""

    subsets: tuple[SubsetRow, ...] = ()
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    """The intervals of the `figures`, by their names."""
    baselines: Mapping[str, Means] = field(default_factory=dict)
    missing: Missing = Missing()
    n_published: int = 0
    """Subsets that there are pairs of."""
    n_incomplete: int = 0
    """Those of them whose number of pairs is not the published one."""


def choose_best_objective(train_differences_PK: Floats, objectives: Sequence[str]) -> str | None:
    """Return the rated objective that alone ranks most training pairs correctly; None without training pairs."""
    rated = [k for k, name in enumerate(objectives) if name not in DERIVED]
    if not len(train_differences_PK):
        return None
    return baselines.best_objective(train_differences_PK[:, rated], [objectives[k] for k in rated])


def rank(
    differences_PK: Floats,
    score_differences_P: Floats,
    length_differences_P: Floats,
    probe_differences_P: Floats | None,
    *,
    objectives: Sequence[str],
    best_objective: str | None,
    mixture: Mapping[str, float],
) -> dict[str, Floats]:
    """Return what the gate and each baseline make of pairs, by the names of `SCORERS`.

    Args:
        differences_PK: `[P, K]` decorrelated rewards r' of chosen minus rejected: what the gate mixes, so that
            mean and single objective differ from it by the mixing alone.
        probe_differences_P: `[P]` the probe's; None without one.
        best_objective: the single objective, chosen on training pairs; None without one.
        mixture: the fixed mixture's weights; empty without one.
    """
    rated = [k for k, name in enumerate(objectives) if name not in DERIVED]
    ranked = {"gate": score_differences_P}
    if mixture:
        ranked["mixture"] = differences_PK @ np.array([mixture.get(name, 0.0) for name in objectives])
    ranked["mean"] = baselines.mean_objective(differences_PK[:, rated])
    if best_objective:
        ranked["single"] = baselines.single_objective(differences_PK, objectives, name=best_objective)
    if probe_differences_P is not None:
        ranked["probe"] = probe_differences_P
    return ranked | {"longer": length_differences_P}


def held_out_accuracy(
    ranked: Ranked, *, datasets_P: Names, prompts_P: Names, config: EvaluationConfig
) -> tuple[AccuracyRow, ...]:
    """Accuracy with 95 % intervals of the gate and its baselines, over all pairs and per dataset."""
    won_PS = _won(ranked)

    def row(name: str, here_P: Bools) -> AccuracyRow:
        found = _intervals(ranked, won_PS[here_P], prompts_P[here_P], config)
        return AccuracyRow(name, int(here_P.sum()), found)

    names = sorted(set(datasets_P))
    whole = [row("all", np.ones(len(datasets_P), dtype=bool))] if names else []
    return (*whole, *(row(name, datasets_P == name) for name in names))


def against(ranked: Ranked, *, prompts_P: Names, config: EvaluationConfig) -> dict[str, PairedTest]:
    """Return every other scorer, then the gate, on the same held-out pairs; nothing without pairs."""
    if not len(prompts_P):
        return {}
    options = {"n_resamples": config.n_resamples, "seed": config.seed}
    won = {name: wins(by_P) for name, by_P in ranked.items()}
    return {name: paired_test(of, won["gate"], prompts_P, **options) for name, of in won.items() if name != "gate"}


def length_accuracy(
    ranked: Ranked, length_differences_P: Floats, *, prompts_P: Names, config: EvaluationConfig
) -> LengthAccuracy:
    """Accuracy against the difference of the answers' lengths: what follows length is right where the longer is.

    Bins are symmetric: they go by the absolute difference, so each has a mirror image. Pairs of equal length are a bin
    of their own. `bias` is the accuracy where the chosen answer is longer less that where it is shorter, over all such
    pairs; it need not be 0 for a scorer that does not look at length, where judges themselves do.

    Args:
        ranked: of each scorer, on held-out pairs; `longer` is left out, which is right or wrong by definition.
        length_differences_P: `[P]` characters of chosen minus rejected.
    """
    measured = {name: by_P for name, by_P in ranked.items() if name != "longer"}
    won_PS = _won(measured)
    bin_P = length_bins(length_differences_P)

    def row(number: int) -> LengthRow:
        here_P = bin_P == number
        lengths_P = length_differences_P[here_P]
        accuracy = _intervals(measured, won_PS[here_P], prompts_P[here_P], config)
        return LengthRow(int(lengths_P.min()), int(lengths_P.max()), int(here_P.sum()), accuracy)

    longer_P, shorter_P = length_differences_P > 0, length_differences_P < 0
    gaps: list[Interval] = []
    if longer_P.any() and shorter_P.any():
        gaps = bootstrap_gaps(won_PS, longer_P, shorter_P, prompts_P, n_resamples=config.n_resamples, seed=config.seed)
    return LengthAccuracy(
        rows=tuple(row(int(number)) for number in np.unique(bin_P)),
        bias=dict(zip(measured, gaps, strict=True)) if gaps else {},
        n_longer=int(longer_P.sum()),
        n_shorter=int(shorter_P.sum()),
    )


def length_bins(differences_P: Floats, n_bins: int = LENGTH_BINS) -> npt.NDArray[np.int64]:
    """Return `[P]` -n .. n: how much longer the chosen answer is, by ranks of the absolute differences; 0: not at all.

    Equal differences share the lowest of their ranks, so the question `accuracy_by_length` has the same bins.
    """
    sizes_P = np.abs(differences_P)
    unequal = np.sort(sizes_P[sizes_P > 0])
    bin_P = 1 + np.searchsorted(unequal, sizes_P) * n_bins // max(len(unequal), 1)
    return np.asarray(np.sign(differences_P) * bin_P, dtype=np.int64)


def calibration(
    score_differences_P: Floats, *, beta: float, datasets_P: Names, beta_by_dataset: Mapping[str, float] | None = None
) -> Calibration:
    """Return how well the Bradley-Terry probability `sigmoid(beta (R_chosen - R_rejected))` is what comes true.

    Args:
        score_differences_P: `[P]` the gate's, chosen minus rejected, of held-out pairs.
        beta_by_dataset: that of datasets which have one of their own.
    """
    of_datasets = beta_by_dataset or {}
    logits_P = score_differences_P * np.array([of_datasets.get(name, beta) for name in datasets_P.astype(str)] or [1.0])

    def row(name: str, here_P: Bools) -> CalibrationRow:
        bins = reliability(logits_P[here_P], 1.0)
        n_pairs = int(here_P.sum())
        confidence = sum(one.n * one.confidence for one in bins) / n_pairs
        accuracy = sum(one.n * one.accuracy for one in bins) / n_pairs
        return CalibrationRow(name, n_pairs, confidence, accuracy, calibration_error(bins))

    names = sorted(set(datasets_P))
    whole = [row("all", np.ones(len(datasets_P), dtype=bool))] if names else []
    rows = (*whole, *(row(name, datasets_P == name) for name in names))
    return Calibration(beta, rows, tuple(reliability(logits_P, 1.0)), dict(of_datasets))


def benchmark_scores(
    ranked: Ranked,
    subsets_P: Names,
    *,
    prompts_P: Names,
    published: Mapping[str, tuple[str, int, float]],
    section_weights: Mapping[str, float],
    prior_section: str,
    config: EvaluationConfig,
) -> Benchmark:
    """Accuracy per subset, and the benchmark's own weighted means, with 95 % intervals; the means of baselines, too.

    A resample draws prompts of the whole benchmark, since subsets share some, and goes through the same means.

    Args:
        published: subset to its section, published number of rows, and weight in the section.
        prior_section: the section without which the overall score is given too.
    """
    counts = {name: int((subsets_P == name).sum()) for name in published}
    measured = [name for name, count in counts.items() if count]
    weights: dict[str, dict[str, float]] = {}
    for name, (section, _, weight) in published.items():
        weights.setdefault(section, {})[name] = weight

    def means(accuracy: Mapping[str, Score]) -> tuple[dict[str, Score], Score | None, Score | None]:
        sections = section_scores(accuracy, weights)
        remaining = {name: score for name, score in sections.items() if name != prior_section}
        whole, rest = (overall_score(of, section_weights) if of else None for of in (sections, remaining))
        return sections, whole, rest

    def accuracies(by_P: Floats) -> dict[str, float]:
        return {name: pair_accuracy(by_P[subsets_P == name]) for name in measured}

    accuracy = accuracies(ranked["gate"])
    found = Means(*means(accuracy))
    missing = Missing(
        tuple(name for name in section_weights if name not in found.sections),
        tuple(name for name, (section, *_) in published.items() if section in found.sections and not counts[name]),
    )
    subset_rows: list[SubsetRow] = []
    intervals: dict[str, Interval] = {}
    if measured:
        resampled = _resampled_subsets(wins(ranked["gate"]), accuracy, subsets_P, prompts_P, config)
        bounds = {name: interval(value, resampled[name]) for name, value in accuracy.items()}
        subset_rows = [
            SubsetRow(published[name][0], name, counts[name], of.estimate, of.low, of.high)
            for name, of in bounds.items()
        ]
        resampled_scores = _named(*means(resampled))
        intervals = {name: interval(score, resampled_scores[name]) for name, score in found.figures.items()}
    return Benchmark(
        found.sections,
        found.overall,
        found.overall_without_prior_sets,
        subsets=tuple(subset_rows),
        intervals=intervals,
        baselines={n: Means(*means(accuracies(by_P))) for n, by_P in ranked.items() if n != "gate" and measured},
        missing=missing,
        n_published=len(measured),
        n_incomplete=sum(counts[name] != published[name][1] for name in measured),
    )


def _named(sections: Mapping[str, Score], overall: Score | None, without_prior_sets: Score | None) -> dict[str, Score]:
    whole = {"overall": overall, "overall without prior sets": without_prior_sets}
    return {**sections, **{name: score for name, score in whole.items() if score is not None}}


def _won(ranked: Ranked) -> Bools:
    """Return `[P, S]`."""
    return np.stack([wins(by_P) for by_P in ranked.values()], axis=1)


def _intervals(names: Ranked, won_PS: Bools, prompts_P: Names, config: EvaluationConfig) -> dict[str, Interval]:
    found = bootstrap_accuracies(won_PS, prompts_P, n_resamples=config.n_resamples, seed=config.seed)
    return dict(zip(names, found, strict=True))


def _resampled_subsets(
    won_P: Bools, accuracy: Mapping[str, float], subsets_P: Names, prompts_P: Names, config: EvaluationConfig
) -> dict[str, npt.NDArray[np.float64]]:
    """Return `[R]` accuracies of each subset; a subset of which no prompt was drawn keeps its own accuracy."""
    inside_PS = np.stack([subsets_P == name for name in accuracy], axis=1)
    values_PF = np.concatenate([inside_PS & won_P[:, None], inside_PS], axis=1)
    sums_RF = bootstrap_sums(values_PF, prompts_P, n_resamples=config.n_resamples, seed=config.seed)
    won_RS, drawn_RS = np.split(sums_RF, 2, axis=1)
    resampled_RS = np.where(drawn_RS > 0, won_RS / np.maximum(drawn_RS, 1), list(accuracy.values()))
    return dict(zip(accuracy, resampled_RS.T, strict=True))

"""Results as plain tables: one structure for the terminal, Markdown and JSON.

Built from the records that the stages have stored; no figure is computed here.
"""

import math
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from armorm.features.store.summaries import IngestSummary
from armorm.maths.benchmarks import OwnScores
from armorm.maths.correlations import CorrelationSummary
from armorm.maths.diagnostics import Part
from armorm.maths.evaluation import SCORERS, Benchmark, Calibration, LengthAccuracy
from armorm.maths.metrics import CurvePoint, Interval
from armorm.maths.paired import PairedTest
from armorm.maths.ridge import ObjectiveFit, Untrained
from armorm.records.decorrelation import Penalties
from armorm.records.evaluation import Evaluation, GateByKind, PairAccuracy
from armorm.records.gate import GateTraining
from armorm.records.training import Training
from armorm.report.published import PUBLISHED, REWARDBENCH

ALPHA_ENDS = ("smallest", "largest")

Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Section:
    """One table."""

    id: str
    """A stable slug, by which it is found; the title is for people."""
    title: str
    columns: list[str]
    rows: Sequence[tuple[Cell, ...]]
    """What is not defined is None in them, not NaN, which JSON has not."""
    note: str = ""

    def __post_init__(self) -> None:
        rows = [tuple(None if cell != cell else cell for cell in row) for row in self.rows]
        object.__setattr__(self, "rows", rows)


@dataclass(frozen=True, slots=True)
class Report:
    """The results of one model."""

    title: str
    facts: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)


def build_report(
    *, title: str, facts: list[str], datasets: Sequence[IngestSummary], model: Training, evaluation: Evaluation
) -> Report:
    """Return the result tables of a run."""
    sections = [
        dataset_section(datasets),
        left_out_section(datasets),
        objective_section(model.regression),
        untrained_section(model.untrained),
        *([decorrelation_section(model.decorrelation)] if model.decorrelation else []),
        correlation_section(model.correlations),
        *([mixture_section(model.gate), curve_section(model.gate.curve)] if model.gate else []),
        *evaluation_sections(evaluation),
    ]
    return Report(title, facts, [section for section in sections if section.rows])


def evaluation_sections(evaluation: Evaluation) -> list[Section]:
    """Return what a model makes of held-out pairs and the benchmark; older evaluations lack some of it."""
    return [
        against_section(evaluation.pairs),
        pair_section(evaluation.pairs),
        length_section(evaluation.length, evaluation.pairs),
        *(calibration_sections(evaluation.calibration) if evaluation.calibration else []),
        *rewardbench_sections(evaluation.rewardbench, evaluation.pairs),
        own_scores_section(evaluation.benchmarks),
        missing_section(evaluation),
    ]


def missing_section(evaluation: Evaluation) -> Section:
    """The figures that there are no data for, and which data they need; without rows where nothing is missing."""
    benchmark = evaluation.rewardbench
    rows: list[tuple[Cell, ...]] = []
    if not evaluation.pairs.rows:
        rows.append(("held-out pairs", "there is no usable pair in the test split"))
    elif evaluation.length.rows and not evaluation.length.bias:
        rows.append(
            ("bias towards longer answers", "chosen answers are never longer, or never shorter, than rejected ones")
        )
    if evaluation.pairs.probe is None:
        rows.append(("Bradley-Terry probe", "it needs training and validation pairs, and [preference] pairs above 0"))
    if not benchmark.subsets:
        rows.append(("RewardBench", "it is not among the ingested datasets"))
    else:
        for kind, names in (("section", benchmark.missing.sections), ("subset", benchmark.missing.subsets)):
            rows += [(f"RewardBench, {kind} {name}", "the ingested datasets have no pair of it") for name in names]
    for dataset, own in evaluation.benchmarks.items():
        rows += [(f"{own_title(own)} ({dataset}), {name}", why) for name, why in own.missing.items()]
    return Section("not-measured", "Not measured", ["what", "why"], rows)


TITLES: Final[Mapping[str, str]] = {
    "gate": "gate",
    "mixture": "fixed mixture",
    "mean": "mean of objectives",
    "single": "best single objective",
    "probe": "Bradley-Terry probe",
    "longer": "longer answer",
}
"""Titles of scorers."""


def scorer_titles(scorers: Collection[str], pairs: PairAccuracy) -> dict[str, str]:
    """Return the titles of some scorers, in order; the probe's says where the search for it ended early."""
    titles = {name: TITLES[name] for name in SCORERS if name in scorers}
    if "probe" in titles and pairs.probe and not pairs.probe.converged:
        titles["probe"] += " (not converged)"
    return titles


def benchmark_name(benchmark: Benchmark) -> str:
    """Return the benchmark's name, with how much of it there are data for where that is not the whole."""
    missing, n_sections, n_subsets = benchmark.missing, len(benchmark.sections), len(benchmark.missing.subsets)
    parts = [f"{n_sections} of {n_sections + len(missing.sections)} sections"] if missing.sections else []
    parts += [f"without {n_subsets} of their subsets"] if n_subsets else []
    return f"RewardBench ({', '.join(parts)})" if parts else "RewardBench"


def benchmark_note(benchmark: Benchmark) -> str:
    """Return how its scores come about, and what there is no data for."""
    notes = ["sections weigh their subsets by the published counts"]
    of_kind = {"sections": benchmark.missing.sections, "subsets": benchmark.missing.subsets}
    notes += [f"without the {kind} {', '.join(names)}" for kind, names in of_kind.items() if names]
    if benchmark.n_incomplete:
        notes.append(
            f"{benchmark.n_incomplete} of {benchmark.n_published} subsets differ from their published number of rows"
        )
    return "; ".join(notes)


def evaluation_line(evaluation: Evaluation) -> str:
    """Return who wins, and the benchmark's score, in a few words; and what a reader has to know of them."""
    pairs, benchmark = evaluation.pairs, evaluation.rewardbench
    parts = [f"gate right on {of.accuracy['gate'].estimate:.1%} of {of.n} held-out pairs" for of in pairs.rows[:1]]
    if (strongest := pairs.strongest) and (test := pairs.against.get(strongest)):
        parts.append(verdict(TITLES[strongest], test))
    if benchmark.overall is not None:
        parts.append(f"{benchmark_name(benchmark)} {benchmark.overall:.1%}")
    notes = [", ".join(parts) or "no held-out pairs and no benchmark"]
    if pairs.probe and not pairs.probe.converged:
        notes.append(f"the Bradley-Terry probe has not converged after {pairs.probe.n_passes} passes")
    if evaluation.rejected_pairs:
        notes.append(f"{evaluation.rejected_pairs} pairs left out, which the backbone gives no usable vectors")
    return "; ".join(notes)


def verdict(baseline: str, test: PairedTest) -> str:
    """Return whether the gate beats a baseline, by how much, with the interval and p-value of the paired test."""
    low, high = test.difference.low * 100, test.difference.high * 100
    if test.difference.estimate == 0:
        outcome = f"as often as the {baseline}"
    elif low > 0 or high < 0:
        outcome = f"{'beats' if low > 0 else 'loses to'} the {baseline}"
    else:
        outcome = f"no different from the {baseline}, as far as these pairs tell"
    return f"{outcome} ({test.difference.estimate * 100:+.1f} points [{low:+.1f}, {high:+.1f}], p = {test.p_value:.2g})"


def against_section(pairs: PairAccuracy) -> Section:
    """Return the gate beside each other way to rank the pairs, on the same pairs."""
    rows: list[tuple[Cell, ...]] = [
        (TITLES[name], test.n, test.only_second, test.only_first, interval(test.difference), test.p_value)
        for name, test in sorted(pairs.against.items(), key=lambda item: SCORERS.index(item[0]))
    ]
    columns = ["gate against", "n", "gate alone right", "other alone right", "difference", "p"]
    note = "accuracy of the gate less that of the other; 95 % bootstrap interval over prompts; exact sign-flip test"
    return Section("against", "Who wins", columns, rows, note)


REASONS: Final[Mapping[str, str]] = {
    "few_ratings": "too few training ratings (least_ratings in [gate])",
    "no_better_than_mean": "held-out R2 is not significantly above 0",
    "nuisance": "it is removed from all others",
    "no_gain": "the best fixed mixture is no better with it on validation pairs",
}
"""Why an objective has no weight in the gate."""


def mixture_section(gate: GateTraining) -> Section:
    """Return the fixed mixture that the gate starts from, and the objectives without weight."""
    rows: list[tuple[Cell, ...]] = [
        (name, weight, REASONS.get(gate.left_out.get(name, ""), "")) for name, weight in gate.mixture.items()
    ]
    chosen = (
        "no gate was better on validation pairs: this mixture is the model"
        if gate.is_fixed
        else (f"the gate is that of step {gate.step}")
    )
    note = f"maximum-likelihood weights of the decorrelated rewards on training pairs; {chosen}"
    return Section("mixture", "Fixed mixture", ["objective", "weight", "left out because"], rows, note)


def dataset_section(datasets: Sequence[IngestSummary]) -> Section:
    """Native rows in = kept + rejected + dropped."""

    columns = ["dataset", "rows", "kept", "rejected", "dropped", "parts refused", "ratings", "pairs"]
    rows = [(of.dataset, *of.counts, of.parts_refused, of.ratings, of.preferences) for of in datasets]
    return Section("datasets", "Datasets", columns, rows, "rows = kept + rejected + dropped")


def left_out_section(datasets: Sequence[IngestSummary]) -> Section:
    """Rows that were refused or left out by a stated rule, and pairs that ratings did not make, by reason."""
    rows: list[tuple[Cell, ...]] = []
    for summary in datasets:
        for outcome in ("rejected", "dropped"):
            reasons = summary.outcomes.get(outcome, {}).items()
            rows += [(summary.dataset, f"row {outcome}", reason, count) for reason, count in reasons]
        pairs = summary.pairs_dropped.items()
        rows += [(summary.dataset, "pair not made", reason, count) for reason, count in pairs if count]
    return Section(
        "left-out", "Left out", ["dataset", "what", "reason", "count"], rows, "the rows: SELECT * FROM rejects"
    )


def objective_section(regression: Sequence[ObjectiveFit]) -> Section:
    """Return what ridge regression made of each objective, on held-out prompts; older models lack some of it."""
    columns = {
        "objective": "objective",
        "n_train": "train",
        "n_validation": "validation",
        "n_test": "test",
        "alpha": "alpha",
        "test_r2": "held-out R2",
        "test_r2_error": "its error",
        "test_spearman": "held-out Spearman",
        "test_mse": "held-out MSE",
        "test_mse_error": "its error",
        "test_mse_native": "MSE, native units",
        "test_coverage": "in 90 % interval",
        "test_coverage_error": "its error",
    }
    rows = [attrgetter(*columns)(fit) for fit in regression]
    note = (
        "errors are standard errors over prompts; native units are those that each dataset rates in, squared; in 90 % "
        "interval: the share of test ratings"
    )
    if ends := alpha_ends(regression):
        note += f"; {ends}"
    return Section("objectives", "Objectives", list(columns.values()), rows, note)


def alpha_ends(regression: Sequence[ObjectiveFit]) -> str:
    """Return which objectives have an alpha at an end of those that were tried: a better one may lie beyond."""
    ends = {end: [fit.objective for fit in regression if fit.alpha_end == end] for end in ALPHA_ENDS}
    return "; ".join(
        f"alpha is the {end} that was tried for {', '.join(names)}" for end, names in ends.items() if names
    )


def untrained_section(untrained: Mapping[str, Untrained | str]) -> Section:
    """Objectives that were not trained; those without any rating are counted alone."""
    listed = {name: why for name, why in untrained.items() if isinstance(why, str) or why.n_rated}
    rows = [(name, why if isinstance(why, str) else why.line) for name, why in listed.items()]
    n_unrated = len(untrained) - len(rows)
    note = f"{n_unrated} more have no rating" if n_unrated else ""
    return Section("untrained", "Objectives without a model", ["objective", "why"], rows, note)


def taken_out(nuisances: Sequence[str]) -> str:
    """Return the nuisances that were removed from the objectives; without any, that length bias is left."""
    return ", ".join(nuisances) or "nothing: length bias is not removed"


def decorrelation_section(decorrelation: Penalties) -> Section:
    """Correlation of each predicted reward with the nuisances, before and after; or that nothing was taken out."""
    nuisances = decorrelation.nuisances
    if not nuisances:
        return Section(
            "decorrelation", "Decorrelation", ["what", "was taken out"], [("all objectives", taken_out(nuisances))]
        )
    several = {"nuisance": "nuisance"} if len(nuisances) > 1 else {}
    columns = {"objective": "objective", **several, "penalty": "lambda", "before": "before", "after": "after"}
    note = (
        f"{decorrelation.correlation.capitalize()} correlation of predicted rewards over the "
        f"{decorrelation.n_responses} responses of {decorrelation.reference}"
    )
    rows = [attrgetter(*columns)(penalty) for penalty in decorrelation.objectives]
    return Section("decorrelation", f"Decorrelation from {', '.join(nuisances)}", list(columns.values()), rows, note)


def correlation_section(correlations: Sequence[CorrelationSummary]) -> Section:
    """Return what decorrelation did to the answers of each dataset's held-out prompts."""

    def row(of: CorrelationSummary) -> tuple[Cell, ...]:
        worst = (interval(of.largest), of.largest.objective) if of.largest else (None, None)
        dataset = of.dataset if of.part == "held_out" else f"{of.dataset} (reference)"
        return (dataset, of.nuisance, of.n_responses, of.mean_before, of.mean_after, *worst)

    columns = ["answers of", "with", "n", "mean before", "mean after", "largest after", "of objective"]
    note = (
        "means of the objectives' absolute correlations; n_tokens: an answer's length; held-out prompts, but for the "
        "reference; 95 % bootstrap interval over prompts; each objective: SELECT * FROM correlations"
    )
    return Section(
        "correlation", "Correlation with nuisances and length", columns, [row(of) for of in correlations], note
    )


def sources_section(datasets: Sequence[IngestSummary]) -> Section:
    """Where the data come from, and under which licences."""
    rows = [(of.dataset, of.upstream, of.origin.revision or "local files", of.licence) for of in datasets]
    return Section("data-used", "Data used", ["dataset", "upstream", "revision", "licence"], rows)


def coverage_section(model: Training, evaluation: Evaluation) -> Section:
    """Return what the model was trained on, and what was left out of it after ingest."""
    contaminated, rejected = "prompt stands in an evaluation dataset", "the backbone gives no usable vector"
    counts = [
        ("ratings left out", contaminated, model.contaminated_ratings),
        ("pairs left out", contaminated, model.contaminated_pairs),
        ("ratings left out", rejected, model.rejected_ratings),
        ("pairs left out", rejected, model.rejected_pairs),
        ("pairs left out of the evaluation", rejected, evaluation.rejected_pairs),
    ]
    rows = [(f"{what}: {why}", count) for what, why, count in counts if count is not None]
    note = "ratings of each objective: see Objectives"
    return Section("left-out-of-training", "Data left out of training", ["what", "count"], rows, note)


def published_section(benchmark: Benchmark) -> Section:
    """Return the benchmark's scores beside those that others have published; without rows if it was not run."""
    own = {**benchmark.sections, "overall": benchmark.overall}
    columns = [column for column in next(iter(REWARDBENCH.values())) if column in own]
    part = benchmark_name(benchmark).removeprefix("RewardBench")
    scores = {f"this model{part}": own, **REWARDBENCH} if benchmark.subsets else {}
    rows: list[tuple[Cell, ...]] = [(name, *(of.get(column) for column in columns)) for name, of in scores.items()]
    note = (
        f"others: as arXiv 2406.12845 reports them, on the whole benchmark; this model: {benchmark_note(benchmark)}. "
        "Figures of sample data or of part of the benchmark do not compare with them."
    )
    return Section("rewardbench-published", "RewardBench beside published models", ["model", *columns], rows, note)


def curve_section(curve: Sequence[CurvePoint]) -> Section:
    """Return the gate's training, at a dozen points."""
    keys = ["step", "loss", "accuracy", "validation_loss", "validation_accuracy"]
    points = list(curve)[:: -max(1, len(curve) // 10)][::-1]  # the last one is always there
    rows = [attrgetter(*keys)(point) for point in points]
    note = "loss and accuracy of the training batches since the last point; each point: model.json"
    return Section("gate-training", "Training of the gate", [key.replace("_", " ") for key in keys], rows, note)


def calibration_sections(calibration: Calibration) -> list[Section]:
    """Return whether pairs come out as often as the gate is sure of them."""
    keys = ["dataset", "n", "confidence", "accuracy", "error"]
    own = "".join(f", of {name} {beta:.1f}" for name, beta in calibration.beta_by_dataset.items())
    note = (
        f"confidence: sigmoid(beta |R - R'|) with beta {calibration.beta:.1f}{own}; error: expected calibration error "
        "over ten bins of equal numbers"
    )
    rows = [attrgetter(*keys)(row) for row in calibration.rows]
    bins = [(one.n, one.confidence, one.accuracy) for one in calibration.bins]
    return [
        Section("calibration", "Calibration on held-out pairs", ["pairs of", *keys[1:]], rows, note),
        Section(
            "reliability",
            "Reliability on held-out pairs",
            ["n", "confidence", "accuracy"],
            bins,
            "all datasets, by confidence",
        ),
    ]


def pair_section(pairs: PairAccuracy) -> Section:
    """Accuracy on held-out pairs, the gate beside its baselines, with 95 % intervals."""
    titles = scorer_titles(pairs.rows[0].accuracy, pairs) if pairs.rows else {}
    rows: list[tuple[Cell, ...]] = [
        (row.dataset, row.n, *(interval(row.accuracy[name]) for name in titles)) for row in pairs.rows
    ]
    note = (
        "pairs of held-out prompts; mean and single rank by the rewards that the gate mixes; 95 % bootstrap intervals "
        "over prompts"
    )
    if pairs.best_objective:
        note += f"; single objective chosen on training pairs: {pairs.best_objective}"
    if probe := pairs.probe:
        note += (
            f"; probe: linear, by Bradley-Terry on the same features of {probe.n_train} training pairs, alpha "
            f"{probe.alpha:.2g}"
        )
        if not probe.converged:
            note += (
                f"; the search for it ended after {probe.n_passes} passes and has not converged (gradient "
                f"{probe.gradient:.1e}), so a better one may exist"
            )
    return Section("held-out-pairs", "Held-out pairs", ["pairs of", "n", *titles.values()], rows, note)


def length_section(length: LengthAccuracy, pairs: PairAccuracy) -> Section:
    """Accuracy by how much longer the chosen answer is: verbosity bias is what rises from top to bottom."""
    titles = scorer_titles(length.rows[0].accuracy, pairs) if length.rows else {}
    rows: list[tuple[Cell, ...]] = [
        (_range(row.shortest, row.longest), row.n, *(interval(row.accuracy[name]) for name in titles))
        for row in length.rows
    ]
    if bias := length.bias:
        numbers = f"{length.n_longer}, {length.n_shorter}"
        rows.append(("chosen longer less chosen shorter", numbers, *(interval(bias[name]) for name in titles)))
    note = "characters of the chosen answer less those of the rejected one; held-out pairs of all datasets"
    return Section(
        "accuracy-by-length",
        "Accuracy by length difference",
        ["chosen is longer by", "n", *titles.values()],
        rows,
        note,
    )


def rewardbench_sections(benchmark: Benchmark, pairs: PairAccuracy) -> list[Section]:
    """Per subset, then sections and overall scores beside the baselines'; nothing if the benchmark was not run.

    Older evaluations have neither intervals nor baselines.
    """
    if not benchmark.subsets:
        return []
    subsets = [
        (of.section, of.subset, of.n, interval(Interval(of.accuracy, of.low, of.high)))
        if of.low == of.low
        else (of.section, of.subset, of.n, of.accuracy)
        for of in benchmark.subsets
    ]
    titles = scorer_titles(benchmark.baselines, pairs)
    others = [benchmark.baselines[name].figures for name in titles]
    intervals = benchmark.intervals
    scores = [
        (name, interval(intervals[name]) if name in intervals else score, *(other[name] for other in others))
        for name, score in benchmark.figures.items()
    ]
    columns = ["section", "score", *titles.values()]
    return [
        Section("rewardbench-subsets", "RewardBench subsets", ["section", "subset", "n", "accuracy"], subsets),
        Section("rewardbench", benchmark_name(benchmark), columns, scores, benchmark_note(benchmark)),
    ]


def own_title(own: OwnScores) -> str:
    """Return the name of a benchmark that has a rule of its own."""
    return PUBLISHED[own.kind].title


def own_scores_section(benchmarks: Mapping[str, OwnScores]) -> Section:
    """Return the scores of benchmarks by their own rules; without rows where no such benchmark was run."""
    rows: list[tuple[Cell, ...]] = [
        (dataset, own_title(own), name, interval(score))
        for dataset, own in benchmarks.items()
        for name, score in own.scores.items()
    ]
    note = "each benchmark's own rules, not the accuracy of its pairs; 95 % bootstrap intervals over prompts"
    return Section("own-scores", "Benchmarks by their own rules", ["dataset", "benchmark", "of", "score"], rows, note)


def own_published_sections(benchmarks: Mapping[str, OwnScores]) -> list[Section]:
    """Return the overall and part scores of each such benchmark beside those that others have published."""
    sections = []
    for kind in sorted({own.kind for own in benchmarks.values()}):
        table = PUBLISHED[kind]
        own = {f"this model on {dataset}": of for dataset, of in benchmarks.items() if of.kind == kind}
        scores = {name: {part: score.estimate for part, score in of.scores.items()} for name, of in own.items()}
        rows: list[tuple[Cell, ...]] = [
            (name, *(of.get(column) for column in table.columns)) for name, of in {**scores, **table.scores}.items()
        ]
        note = f"others: as {table.source} reports them; figures of sample data do not compare with them"
        columns = ["model", *table.columns]
        sections.append(Section(f"{kind}-published", f"{table.title} beside published models", columns, rows, note))
    return sections


def to_markdown(report: Report) -> str:
    """Return the report as Markdown; text is escaped."""
    head = "\n".join([f"# {_escaped(report.title)}", *(f"- {_escaped(fact)}" for fact in report.facts)])
    return "\n\n".join([head, *map(_section_to_markdown, report.sections)]) + "\n"


def sections_to_markdown(sections: Sequence[Section]) -> str:
    """Tables under their titles, as Markdown; text is escaped."""
    return "\n\n".join(map(_section_to_markdown, sections)) + "\n"


def _section_to_markdown(section: Section) -> str:
    header = " | ".join(map(_escaped, section.columns))
    lines = [" | ".join(_escaped(shown(cell)) for cell in row) for row in section.rows]
    table = [f"| {header} |", f"|{' --- |' * len(section.columns)}", *(f"| {line} |" for line in lines)]
    note = ["", _escaped(section.note)] if section.note else []
    return "\n".join([f"## {_escaped(section.title)}", "", *table, *note])


def shown(cell: Cell) -> str:
    """Return a cell as text: few digits, no control characters, nothing for nothing."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, float):
        return f"{cell:.4g}" if abs(cell) >= 0.01 or cell == 0 else f"{cell:.1e}"
    return visible(str(cell))


def visible(text: str, *, keep: str = "") -> str:
    """Return the text with a space for each character that controls, hides or turns text, but those to keep."""
    return "".join(c if c in keep or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else " " for c in text)


def gate_section(gate_by_kind: GateByKind, n_shown: int = 3) -> Section:
    """Return the largest gate coefficients on the prompts of each dataset and of each section of the benchmark."""

    def largest(coefficients_K: Sequence[float]) -> str:
        parts = sorted(zip(gate_by_kind.objectives, coefficients_K, strict=True), key=lambda part: -abs(part[1]))
        return ", ".join(f"{name} {part:+.3f}" for name, part in parts[:n_shown])

    rows = [
        (of.kind, of.name, of.n_prompts, largest(of.coefficients)) for of in gate_by_kind.rows if of.kind != "subset"
    ]
    note = "mean coefficients of the raw rewards over held-out prompts"
    return Section(
        "gate-by-kind", "Gate by kind of prompt", ["kind", "name", "prompts", "largest coefficients"], rows, note
    )


def why_section(parts: Sequence[Part], title: str = "Why", n_shown: int | None = None) -> Section:
    """What sets the scores of a pair's two answers apart, the largest first, and what decided in one sentence."""
    rows = [attrgetter("objective", "weight", "chosen", "rejected", "difference")(of) for of in parts[:n_shown]]
    columns = ["objective", "gate's weight", "adds to chosen", "adds to rejected", "difference"]
    return Section(
        "why", title, columns, rows, f"{decided(parts)} {len(rows)} of {len(parts)} terms; all sum to the scores."
    )


def decided(parts: Sequence[Part]) -> str:
    """Return in one sentence which answer scores higher, and which term decided that."""
    difference = math.fsum(of.difference for of in parts)
    if not difference:
        return "Both answers score the same."
    winner = "chosen" if difference > 0 else "rejected"
    most = max(parts, key=lambda of: of.difference * difference)
    decides = (difference - most.difference) * difference < 0
    return (
        f"The {winner} answer scores {abs(difference):.3g} higher, above all by {most.objective} "
        f"({most.difference:+.3g}), {'which decides it' if decides else 'but also without it'}."
    )


def _range(low: int, high: int) -> str:
    return f"{low:+,} to {high:+,}" if low < high else f"{low:+,}" if low else "0"


def interval(value: Interval) -> str:
    """Return an estimate with its interval, as text."""
    return f"{value.estimate:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _escaped(text: str) -> str:
    for character in "\\|<>*_`[]":
        text = text.replace(character, f"\\{character}")
    return text

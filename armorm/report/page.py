"""A model's report as one HTML file that needs nothing else: no script, no font, no address.

Built from the records that the stages have stored; no figure is computed here. Text is escaped by the template,
and what would turn or hide it is taken out; a policy in the file's head forbids the browser to fetch anything.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from armorm.maths.diagnostics import CorrelationMatrices
from armorm.maths.evaluation import Calibration
from armorm.maths.metrics import CurvePoint
from armorm.maths.ridge import ObjectiveFit
from armorm.records.evaluation import Evaluation, GateByKind, Mistake, PairAccuracy
from armorm.records.training import Training
from armorm.report.plots import Numbers, curves, diagonal, dots, heatmap
from armorm.report.published import PUBLISHED
from armorm.report.sections import (
    Cell,
    Report,
    Section,
    benchmark_name,
    interval,
    scorer_titles,
    shown,
    taken_out,
    visible,
    why_section,
)

TEMPLATE: Final = Path(__file__).parent / "report.html.j2"

TEXT_CHARACTERS: Final = 1200
"""The longest text of a prompt or an answer; what comes after is left out, and the report says so."""

CELL_CHARACTERS: Final = 480

NAME_CHARACTERS: Final = 40
"""The longest name in a plot."""

LONG_TABLE: Final = 30
"""Rows; a longer one is folded."""

SHOWN_OBJECTIVES: Final = 6
"""Objectives in the explanation of a mistake."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot and what it shows."""

    svg: str
    caption: str
    wide: bool = False
    """Whether it keeps its size and scrolls where a screen is small."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a pair that the model gets wrong."""

    prompt: str
    chosen: str
    rejected: str
    n_turns: int
    """The turns of the prompt, of which the last one is given."""


@dataclass(frozen=True, slots=True)
class ExplainedMistake:
    """A pair that the model gets wrong, and why."""

    record: Mistake
    texts: Texts | None
    """None where the snapshot has them no more."""
    table: Section


@dataclass(frozen=True, slots=True)
class Chapter:
    """What belongs together: plots, then tables."""

    id: str
    """For links."""
    title: str
    figures: Sequence[Figure] = ()
    sections: Sequence[Section] = ()
    mistakes: Sequence[ExplainedMistake] = ()


CHAPTERS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "data": ("Data", ("data-used", "datasets", "left-out", "left-out-of-training")),
    "objectives": ("Objectives", ("objectives", "untrained")),
    "decorrelation-and-verbosity": (
        "Decorrelation and verbosity",
        ("decorrelation", "correlation", "accuracy-by-length"),
    ),
    "gate": ("Gate", ("gate-training",)),
    "accuracy": (
        "Accuracy",
        (
            "held-out-pairs",
            "rewardbench-subsets",
            "rewardbench",
            "rewardbench-published",
            "own-scores",
            *(f"{kind}-published" for kind in PUBLISHED),
            "not-measured",
        ),
    ),
    "calibration": ("Calibration", ("calibration", "reliability")),
    "more-figures": ("More figures", ()),
    "worst-mistakes": ("Worst mistakes", ()),
    "lineage": ("Lineage", ("lineage", "training-rows")),
}
"""Chapter to its title and the ids of its sections; a section that stands in none is one of `more-figures`."""


def build_chapters(
    report: Report, *, model: Training, evaluation: Evaluation, texts: Mapping[str, Texts]
) -> list[Chapter]:
    """Return the report's sections in chapters, with plots of the same records; what has no record is left out.

    Args:
        report: its sections, and others (`Data used`, `Lineage`).
        texts: of the worst mistakes, by pair id.
    """
    figures = {
        "objectives": objective_figures(model.regression),
        "decorrelation-and-verbosity": decorrelation_figures(
            evaluation.reward_correlations, nuisances=nuisances_of(model)
        ),
        "gate": gate_figures(model.gate.curve if model.gate else (), evaluation.gate_by_kind),
        "accuracy": accuracy_figures(evaluation.pairs),
        "calibration": calibration_figures(evaluation.calibration),
    }
    mistakes = [
        ExplainedMistake(of, texts.get(of.pair_id), why_section(of.objectives, n_shown=SHOWN_OBJECTIVES))
        for of in evaluation.mistakes
    ]
    chapter_of = {section: chapter for chapter, (_, sections) in CHAPTERS.items() for section in sections}
    placed: dict[str, list[Section]] = {}
    for section in report.sections:
        placed.setdefault(chapter_of.get(section.id, "more-figures"), []).append(section)
    chapters = [
        Chapter("summary", "Summary", sections=[summary_section(report, model, evaluation)]),
        *(
            Chapter(id, title, figures.get(id, ()), placed.get(id, ()), mistakes if id == "worst-mistakes" else ())
            for id, (title, _) in CHAPTERS.items()
        ),
    ]
    return [chapter for chapter in chapters if chapter.figures or chapter.sections or chapter.mistakes]


def summary_section(report: Report, model: Training, evaluation: Evaluation) -> Section:
    """Return the few figures that are asked for first."""
    rows: list[tuple[Cell, ...]] = [
        ("objectives", len(model.regression)),
        ("taken out of the objectives", taken_out(nuisances_of(model))),
    ]
    for row in evaluation.pairs.rows[:1]:
        rows += [
            (f"accuracy on {row.n} held-out pairs: {title}", interval(row.accuracy[name]))
            for name, title in scorer_titles(row.accuracy, evaluation.pairs).items()
        ]
    if evaluation.calibration:
        rows += [("expected calibration error", row.error) for row in evaluation.calibration.rows[:1]]
    if evaluation.rewardbench.overall is not None:
        rows.append((f"{benchmark_name(evaluation.rewardbench)}, overall", evaluation.rewardbench.overall))
    return Section("in-short", "In short", ["what", "figure"], rows)


def nuisances_of(model: Training) -> tuple[str, ...]:
    """Return what was taken out of its objectives."""
    return model.decorrelation.nuisances if model.decorrelation else ()


def objective_figures(regression: Sequence[ObjectiveFit]) -> list[Figure]:
    """Return how well each objective is predicted."""
    bounds = [
        None if math.isnan(value + error) else (value - error, value + error)
        for value, error in ((of.test_r2, of.test_r2_error) for of in regression)
    ]
    series = {
        "R2": [_defined(of.test_r2) for of in regression],
        "Spearman": [_defined(of.test_spearman) for of in regression],
    }
    svg = dots(
        "Quality of the objectives",
        [_short(of.objective) for of in regression],
        series,
        bounds={"R2": bounds},
        reference=0,
    )
    return [Figure(svg, "Predicted against given ratings of held-out prompts; bars: a standard error over prompts.")]


def decorrelation_figures(matrices: CorrelationMatrices | None, *, nuisances: Sequence[str]) -> list[Figure]:
    """Correlations among the rewards before and after; once where nothing was taken out."""
    if not matrices or not matrices.before:
        return []
    names = [_short(name) for name in matrices.names]
    about = (
        f"{matrices.correlation.capitalize()} correlations of the predicted rewards, and of n_tokens, the answer's "
        f"length, over {matrices.n_responses} answers of held-out pairs and benchmarks"
    )
    if not nuisances:
        svg = heatmap("Reward correlations without decorrelation", matrices.before, names, names, limit=1)
        return [Figure(svg, f"Without decorrelation: {taken_out(nuisances)}. {about}.", wide=True)]
    return [
        Figure(heatmap(f"Reward correlations {when} decorrelation", values, names, names, limit=1), caption, wide=True)
        for when, values, caption in (
            ("before", matrices.before, f"Before decorrelation. {about}."),
            (
                "after",
                matrices.after,
                "After decorrelation, on the same answers. Blank: what is taken off itself is constant.",
            ),
        )
    ]


def gate_figures(curve: Sequence[CurvePoint], by_kind: GateByKind) -> list[Figure]:
    """Return plots of the gate's training and of its coefficients."""
    figures = []
    if curve:
        steps = [point.step for point in curve]
        seen: dict[str, tuple[Numbers, Numbers]] = {
            "loss": ([point.loss for point in curve], [point.validation_loss for point in curve]),
            "accuracy": ([point.accuracy for point in curve], [point.validation_accuracy for point in curve]),
        }
        for what, (training, validation) in seen.items():
            series = {"training": training, "validation": validation}
            svg = curves(f"{what.capitalize()} of the gate", steps, series, x_label="step")
            figures.append(Figure(svg, f"{what.capitalize()} of the gate while it was trained."))
    objectives = [_short(name) for name in by_kind.objectives]
    for kinds, what in (
        (("dataset", "section"), "dataset and section of RewardBench"),
        (("subset",), "subset of RewardBench"),
    ):
        rows = [row for row in by_kind.rows if row.kind in kinds]
        if rows:
            names = [f"{_short(row.name)} ({row.n_prompts})" for row in rows]
            svg = heatmap(f"Gate coefficients by {what}", [row.coefficients for row in rows], names, objectives)
            caption = (
                f"Mean coefficient of each raw reward in the score, by {what}; in brackets: held-out prompts. They are "
                "the gate's weights, but for an objective that the others are decorrelated from: there, the penalties."
            )
            figures.append(Figure(svg, caption, wide=True))
    return figures


def accuracy_figures(pairs: PairAccuracy) -> list[Figure]:
    """Return the gate beside its baselines."""
    if not pairs.rows:
        return []
    titles = scorer_titles(pairs.rows[0].accuracy, pairs)
    found = {title: [row.accuracy[name] for row in pairs.rows] for name, title in titles.items()}
    svg = dots(
        "Accuracy on held-out pairs",
        [f"{_short(row.dataset)} ({row.n})" for row in pairs.rows],
        {title: [of.estimate for of in row] for title, row in found.items()},
        bounds={title: [(of.low, of.high) for of in row] for title, row in found.items()},
        reference=0.5,
    )
    return [Figure(svg, "Share of held-out pairs in which the chosen answer scores higher; bars: 95 % intervals.")]


def calibration_figures(calibration: Calibration | None) -> list[Figure]:
    """Return the reliability curve."""
    if not calibration or not calibration.bins:
        return []
    svg = diagonal(
        "Reliability",
        [one.confidence for one in calibration.bins],
        [one.accuracy for one in calibration.bins],
        x_label="confidence",
        y_label="accuracy",
    )
    return [
        Figure(
            svg, "Held-out pairs in ten bins of equal numbers. On the dotted line the gate is as sure as it is right."
        )
    ]


def to_html(report: Report, chapters: Sequence[Chapter]) -> str:
    """Return the page; the same records give the same bytes."""
    return _template().render(report=report, chapters=chapters, text_characters=TEXT_CHARACTERS, long=LONG_TABLE)


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    filters: dict[str, Any] = {
        "shown": lambda cell: cut(shown(cell), CELL_CHARACTERS),
        "text": lambda text: cut(visible(text, keep="\n\t"), TEXT_CHARACTERS),
        "prose": lambda cell: len(shown(cell)) > 24 and " " in shown(cell),
        "number": lambda cell: isinstance(cell, int | float),
        "svg": Markup,  # from `armorm.report.plots`, which escapes names
    }
    environment.filters.update(filters)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def cut(text: str, n_characters: int) -> str:
    """Return the beginning of a text, with a sign where it goes on."""
    return text if len(text) <= n_characters else f"{text[:n_characters]} …"


def _short(name: str) -> str:
    return cut(visible(name), NAME_CHARACTERS)


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value

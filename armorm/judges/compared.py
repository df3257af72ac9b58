"""The figures of judges on the same pairs, and their tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from armorm.features.documents import encode
from armorm.maths.benchmarks import OwnScores
from armorm.maths.evaluation import Benchmark
from armorm.maths.metrics import Interval
from armorm.maths.paired import PairedTest
from armorm.report.published import PUBLISHED, REWARDBENCH
from armorm.report.sections import Cell, Section, benchmark_note

COLUMNS: Final = [
    "pairs of",
    "judge",
    "n",
    "correct",
    "low",
    "high",
    "ties",
    "no verdict",
    "difference",
    "from",
    "to",
    "p",
]
ORDER_COLUMNS: Final = ["judge", "pairs", "same verdict in both orders", "prefers the answer that stands first"]

NOTE: Final = (
    "95 % bootstrap intervals over prompts; a tie and a pair without a verdict count as not correct; difference: "
    "accuracy less that of the first judge on the same pairs, with a sign-flip test"
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A judge on some pairs."""

    judge: str
    pairs: str
    """`held-out` for all but benchmarks, or a dataset."""
    n: int
    accuracy: Interval
    n_ties: int
    n_without: int
    """Pairs without a verdict."""
    against: PairedTest | None
    """The first judge, then this one, on the same pairs; None for the first."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the order in which answers stand does to a judge that reads both."""

    judge: str
    n: int
    same: float
    """The share of pairs on which both orders prefer the same answer."""
    first: float
    """The share of verdicts, ties left out, that prefer the answer that stands first; 0.5 without a bias."""


@dataclass(frozen=True, slots=True)
class Compared:
    """All judges, in the order given, after which the baselines stand."""

    rows: tuple[Judged, ...]
    orders: tuple[Order, ...]
    rewardbench: Mapping[str, Benchmark]
    """RewardBench's own scores by judge; empty where the pairs have none of it."""
    own: Mapping[str, Mapping[str, OwnScores]]
    """The own scores of other benchmarks, by judge and dataset."""
    why_not: Mapping[str, Mapping[str, int]]
    """Judge to the reasons why pairs have no verdict, with their numbers."""
    published: bool
    """Whether to show what others have published beside."""

    @property
    def sections(self) -> list[Section]:
        """Return the tables."""
        rows: list[tuple[Cell, ...]] = [
            (of.pairs, of.judge, of.n, *_bounds(of.accuracy), of.n_ties, of.n_without, *_test(of.against))
            for of in self.rows
        ]
        orders: list[tuple[Cell, ...]] = [(of.judge, of.n, of.same, of.first) for of in self.orders]
        reasons: list[tuple[Cell, ...]] = [
            (judge, reason, n) for judge, counted in self.why_not.items() for reason, n in counted.items()
        ]
        sections = [
            Section("judges", "Judges on the same pairs", COLUMNS, rows, NOTE),
            Section("order", "Order of the answers", ORDER_COLUMNS, orders, "0.5 without a bias; ties are left out"),
            Section("no-verdict", "Pairs without a verdict", ["judge", "reason", "pairs"], reasons),
            rewardbench_section(self.rewardbench, published=self.published),
            *own_sections(self.own, published=self.published),
        ]
        return [section for section in sections if section.rows]

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        found: dict[str, Any] = encode(self)
        return found


def rewardbench_section(measured: Mapping[str, Benchmark], *, published: bool) -> Section:
    """RewardBench's own scores of judges, and beside them, if asked for, what others have published.

    What was not measured stays empty; the note names it.
    """
    columns = list(next(iter(REWARDBENCH.values())))
    rows: list[tuple[Cell, ...]] = [
        (name, "measured", *(of.figures.get(column) for column in columns)) for name, of in measured.items()
    ]
    if published:
        rows += [(name, "published", *(of.get(column) for column in columns)) for name, of in REWARDBENCH.items()]
    note = next((benchmark_note(of) for of in measured.values()), "nothing was measured: the pairs have none of it")
    return Section("rewardbench", "RewardBench", ["judge", "", *columns], rows, note)


def own_sections(measured: Mapping[str, Mapping[str, OwnScores]], *, published: bool) -> list[Section]:
    """Return a table for each other benchmark with a rule of its own; what was not measured stays empty, by name."""
    sections = []
    for kind, table in PUBLISHED.items():
        found = [
            (judge, *of) for judge, by_dataset in measured.items() for of in by_dataset.items() if of[1].kind == kind
        ]
        rows: list[tuple[Cell, ...]] = [
            (judge, dataset, *(of.scores[part].estimate if part in of.scores else None for part in table.columns))
            for judge, dataset, of in found
        ]
        if published:
            rows += [
                (name, "published", *(of.get(part) for part in table.columns)) for name, of in table.scores.items()
            ]
        missing = dict.fromkeys(f"{name}: {why}" for *_, of in found for name, why in of.missing.items())
        note = "; ".join(["the benchmark's own rule", *missing, *([f"published: {table.source}"] if published else [])])
        sections.append(Section(kind, table.title, ["judge", "dataset", *table.columns], rows, note))
    return sections


def _bounds(of: Interval) -> tuple[Cell, ...]:
    return of.estimate, of.low, of.high


def _test(of: PairedTest | None) -> tuple[Cell, ...]:
    return (*_bounds(of.difference), of.p_value) if of else (None,) * 4

"""Scores as tables."""

from collections.abc import Sequence
from typing import Final

from armorm.report.sections import Cell, Section
from armorm.scoring.files import Scored

SHOWN_OBJECTIVES: Final = 3


def summary_table(scored: Sequence[Scored]) -> Section:
    """Return a row a conversation: its score and the objectives that made most of it."""
    rows: list[tuple[Cell, ...]] = []
    for one in scored:
        largest = list(one.contributions.items())[:SHOWN_OBJECTIVES]
        rows.append((one.line, one.side, one.score, ", ".join(f"{name} {part:+.3f}" for name, part in largest)))
    return Section("scores", "Scores", ["line", "side", "score", "largest contributions"], rows)


def explain_tables(scored: Sequence[Scored]) -> list[Section]:
    """Return a table a conversation: reward, coefficient and contribution of every objective."""
    columns = ["objective", "reward", "in native units", "gate", "coefficient", "contribution"]
    return [
        Section(
            "explained",
            f"Line {one.line}, {one.side}: {one.score:.4f}",
            columns,
            [
                (n, one.rewards[n], one.native[n], one.gating[n], one.coefficients[n], part)
                for n, part in one.contributions.items()
            ],
        )
        for one in scored
    ]

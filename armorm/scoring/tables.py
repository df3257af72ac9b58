"""Scores as tables."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from armorm.features.sources.own import SIDES
from armorm.maths.diagnostics import explain_pair
from armorm.report.sections import Cell, Section, shown, why_section
from armorm.scoring.files import Scored

SHOWN_OBJECTIVES: Final = 3


def summary_table(scored: Sequence[Scored]) -> Section:
    """Return a row a conversation: its score, the bound if one was asked for, and what made most of it."""
    bounds = [name for name in ("deviation", "lower") if scored and getattr(scored[0], name) is not None]
    rows: list[tuple[Cell, ...]] = []
    for one in scored:
        largest = list(one.contributions.items())[:SHOWN_OBJECTIVES]
        told = ", ".join(f"{name} {part:+.3f}" for name, part in largest)
        rows.append((one.line, one.side, one.score, *(getattr(one, name) for name in bounds), told))
    return Section("scores", "Scores", ["line", "side", "score", *bounds, "largest contributions"], rows)


def explain_tables(scored: Sequence[Scored]) -> list[Section]:
    """Return a table a conversation, what each objective adds to its score; after a pair, what sets it apart."""
    tables = []
    for before, one in pairwise([None, *scored]):
        assert one is not None
        tables.append(_explained(one))
        if before and (before.side, one.side) == SIDES:
            parts = explain_pair(before.contributions, one.contributions, one.gating)
            tables.append(why_section(parts, f"Line {one.line}, chosen less rejected"))
    return tables


def _explained(one: Scored) -> Section:
    """Return reward, gate and contribution of every objective; they sum to the score."""

    def row(name: str, part: float) -> tuple[Cell, ...]:
        native: Cell = one.native.get(name)
        if name in one.off_scale:
            native = f"{shown(native)}, off {one.off_scale[name]}"
        deviation = () if one.deviations is None else (one.deviations.get(name),)
        return (name, one.rewards.get(name), *deviation, native, one.gating.get(name), part)

    columns = ["objective", "reward", *([] if one.deviations is None else ["deviation"]), "in native units", "gate"]
    return Section(
        "explained",
        f"Line {one.line}, {one.side}: {one.score:.4f}",
        [*columns, "contribution"],
        [row(name, part) for name, part in one.contributions.items()],
        "; ".join(["contributions: gate times reward; they sum to the score", *_against(one.coefficients, one)]),
    )


def _against(coefficients: Mapping[str, float], one: Scored) -> list[str]:
    """Return why more of an objective lowers the score, for each where it does."""
    why = []
    for name, coefficient in coefficients.items():
        if coefficient >= 0:
            continue
        if one.gating[name] < 0:
            reason = "the given mixture says so"
        elif name not in one.contributions:
            reason = "decorrelation takes it out of the other objectives"
        else:
            reason = "as a part of the predicted length, which decorrelation takes out"
        why.append(f"more of {name} lowers the score ({coefficient:+.3f} a unit): {reason}")
    return why

"""What is seen of a run, as log lines and as artifacts of Prefect's UI: no text of a conversation, no secret.

Before it the plan, after it what was done, what that has changed, and where the report is. The keys of artifacts
stay the same, so that Prefect shows each as a history.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Final, TypeVar

from prefect import get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from armorm.features.checks.quality import CheckResult
from armorm.features.store import Snapshot, Store
from armorm.features.store.estimate import Planned, total
from armorm.features.units import in_words
from armorm.flows.runlog.outcomes import Step
from armorm.flows.runlog.plan_table import COLUMNS, shown_amounts
from armorm.maths.paired import PairedTest
from armorm.report.sections import Cell, Report, sections_to_markdown, shown, to_markdown

if TYPE_CHECKING:
    from armorm.release.compare import Comparison
    from armorm.stages.promote import Promotion

T = TypeVar("T")

WRAPPED: Final = {"why it would run": 28, "rests on": 28, "why it ran": 30, "what it did": 48, "finds": 56}
"""Columns to the letters of a line: Prefect breaks none, and what follows a long cell would not be seen."""

LONG_ID: Final = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20}\b")
"""An id within a text, of which these digits are enough for people."""


def show_plan(store: Store, steps: Sequence[Planned]) -> Snapshot:
    """Show what is going to run, why, and for how long; return the snapshot that it is planned on."""
    logger, before = get_run_logger(), store.head()
    for step in steps:
        if step.runs:
            logger.info(f"plan: {step.name}: {step.reason}{_expected(step)}")
    whole = total(steps)
    if whole.runs:
        line = f"on snapshot {before.number}: {whole.reason} to run{_expected(whole) or '; time not known'}"
    else:
        line = f"nothing to do on snapshot {before.number}: {len(steps)} stages are up to date"
    logger.info(f"plan: {line}")
    records = [dict(zip(COLUMNS, shown_amounts(step), strict=True)) for step in _first(steps, lambda step: step.runs)]
    columns = ("stage", "time", "rows", "tokens", "why it would run", "rests on")
    _table("armorm-plan", columns, [tuple(record[name] for name in columns) for record in records], line)
    return before


def show_done(store: Store, before: Snapshot, steps: Sequence[Step]) -> None:
    """Show what the stages did and why, and what differs from the snapshot before."""
    ordered = _first(steps, lambda step: step.reason is not None)
    rows = [(step.name, step.reason or "up to date", step.what) for step in ordered]
    ran = sum(step.reason is not None for step in steps)
    after = store.head()
    between = f"snapshot {before.number} to {after.number}" if ran else f"snapshot {after.number} stands"
    _table("armorm-steps", ("stage", "why it ran", "what it did"), rows, f"{ran} of {len(steps)} stages ran; {between}")
    if found := difference(store, before, after):
        get_run_logger().info(f"changed: {found.line}")
        create_markdown_artifact(sections_to_markdown(found.sections), key="armorm-diff", description=found.line)


def difference(store: Store, before: Snapshot, after: Snapshot) -> "Comparison | None":
    """Return what a run has changed of rows, ratings and the model; None if nothing was there or changed."""
    from armorm.release.compare import compare

    if not before.number or before.snapshot_id == after.snapshot_id:
        return None
    found = compare(store, str(before.number), str(after.number), n_rows=0)
    return found if found.sections else None


def show_quality(results: Sequence[CheckResult]) -> None:
    """Show every check, those that found rows first."""
    for result in results:
        if result.n_rows:
            get_run_logger().warning(f"quality: {result.name} ({result.severity}): {result.n_rows} rows; {result.what}")
    ordered = _first(_first(results, lambda result: result.n_rows > 0), lambda result: result.stops)
    rows = [(result.name, result.severity, result.n_rows, result.what) for result in ordered]
    found = sum(result.n_rows > 0 for result in results)
    line = f"{found} of {len(results)} quality checks found rows; `armorm quality --show CHECK` lists them"
    _table("armorm-quality", ("check", "severity", "rows", "finds"), rows, line)


def show_promotion(promotion: "Promotion") -> None:
    """The decision about the newest model, with the figures of the test."""
    verdict = promotion.verdict
    rows: list[tuple[str, Cell]] = [
        ("model", verdict.model),
        ("decision", "promoted" if verdict.promoted else "kept unpromoted"),
        ("compared with", verdict.present),
    ]
    if isinstance(test := verdict.found, PairedTest):
        rows += [
            ("held-out pairs", test.n),
            ("gain in accuracy", test.difference.estimate),
            ("95 % interval", f"{test.difference.low:+.4f} to {test.difference.high:+.4f}"),
            ("only the new one right", test.only_second),
            ("only the promoted one right", test.only_first),
            ("p", test.p_value),
        ]
    _table("armorm-promotion", ("what", "value"), rows, promotion.line)


def show_report(path: Path) -> None:
    """Show a link to the report with plots and mistakes, which stays where it is."""
    get_run_logger().info(f"report: {path}")
    line = f"Report of model {path.parent.name[:12]}, on the machine that the run was on"
    create_link_artifact(path.resolve().as_uri(), str(path), key="armorm-report", description=line)


def show_results(report: Report, line: str) -> None:
    """Show the report's tables, none of which quotes a text."""
    create_markdown_artifact(to_markdown(report), key="armorm-results", description=line)
    for section in report.sections:
        if key := {"held-out-pairs": "armorm-held-out-pairs", "rewardbench": "armorm-rewardbench"}.get(section.id):
            _table(key, section.columns, section.rows, f"{section.title}: {section.note}")


def _table(key: str, columns: Sequence[str], rows: Sequence[tuple[Cell, ...]], description: str) -> None:
    """Show a table with cells as everywhere: few digits, empty for None; counts stay numbers."""
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    cells = [{name: _cell(cell, WRAPPED.get(name)) for name, cell in record.items()} for record in records]
    create_table_artifact(cells, key=key, description=description)


def _cell(cell: Cell, width: int | None) -> str | int:
    if type(cell) is int:
        return cell
    text = LONG_ID.sub(r"\1", shown(cell)) if width else shown(cell)
    return "\n".join(wrap(text, width)) if width else text


def _first(items: Sequence[T], matters: Callable[[T], bool]) -> list[T]:
    """Return those that matter before the others; else in their order."""
    return sorted(items, key=lambda item: not matters(item))


def _expected(step: Planned) -> str:
    """Return the time that it should take and what that rests on, where it is known."""
    if step.seconds is None:
        return ""
    return f"; {in_words(step.seconds)}" + (f" {step.basis}" if step.basis else "")

"""What is seen of a run, as log lines and as artifacts of Prefect's UI: no text of a conversation, no secret.

Before it the plan, after it what was done, what that has changed, and where the report is. The keys of artifacts stay the
same, so that Prefect shows each as a history.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefect import get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from armorm.report import Cell, Report, Section, shown, to_markdown
from features.durations import in_words
from features.estimate import Planned, total
from features.quality import CheckResult
from features.store import Snapshot, Store
from flows.plan import COLUMNS, shown_amounts
from flows.steps import Step

if TYPE_CHECKING:
    from armorm.stages.compare import Comparison
    from armorm.stages.promote import Promotion

LISTED: Final = 0
"""Changed rows that are listed one by one: `armorm diff` has them."""


def show_plan(store: Store, steps: Sequence[Planned]) -> Snapshot:
    """What is going to run, and why, in what time; gives the snapshot that it is planned on."""
    logger, before = get_run_logger(), store.head()
    for step in steps:
        if step.runs:
            logger.info(f"plan: {step.name}: {step.reason}{_expected(step)}")
    whole = total(steps)
    if whole.runs:
        line = f"on snapshot {before.number}: {whole.reason} to run{_expected(whole)}"
    else:
        line = f"nothing to do on snapshot {before.number}: {len(steps)} stages are up to date"
    logger.info(f"plan: {line}")
    _table("armorm-plan", COLUMNS, [shown_amounts(step) for step in steps], f"Plan, {line}")
    return before


def show_done(store: Store, before: Snapshot, steps: Sequence[Step]) -> None:
    """What the stages did and why, and what differs from the snapshot before."""
    ran = sum(step.reason is not None for step in steps)
    rows = [(step.name, step.reason or "up to date", step.what) for step in steps]
    line = f"{ran} of {len(steps)} stages ran; snapshot {before.number} to {store.head().number}"
    _table("armorm-steps", ("stage", "why it ran", "what"), rows, line)
    found = difference(store, before, store.head())
    if found and found.rows and found.sections:
        get_run_logger().info(f"changed: {found.rows.line}")
        report = Report("What this run has changed", [found.rows.line], found.sections)
        create_markdown_artifact(to_markdown(report), key="armorm-diff", description=found.rows.line)


def difference(store: Store, before: Snapshot, after: Snapshot) -> "Comparison | None":
    """What a run has changed; None where nothing was before it, or nothing is different."""
    from armorm.stages.compare import compare

    if not before.number or before.snapshot_id == after.snapshot_id:
        return None
    return compare(store, str(before.number), str(after.number), n_rows=LISTED)


def show_quality(results: Sequence[CheckResult]) -> None:
    """Every check, those that found rows first."""
    for result in results:
        if result.n_rows:
            get_run_logger().warning(f"quality: {result.name} ({result.severity}): {result.n_rows} rows; {result.what}")
    ordered = sorted(results, key=lambda result: (not result.stops, not result.n_rows))
    rows = [(result.name, result.severity, result.n_rows, result.what) for result in ordered]
    found = sum(result.n_rows > 0 for result in results)
    line = f"{found} of {len(results)} quality checks found rows; `armorm quality --show CHECK` lists them"
    _table("armorm-quality", ("check", "severity", "rows", "finds"), rows, line)


def show_promotion(promotion: "Promotion") -> None:
    """The decision about the newest model, with the figures of the test."""
    test = promotion.record["test"] or {}
    rows: list[tuple[str, Cell]] = [
        ("model", promotion.model),
        ("decision", "promoted" if promotion.promoted else "kept unpromoted"),
        ("compared with", promotion.record["present"]),
    ]
    if test:
        difference = test["difference"]
        rows += [
            ("held-out pairs", test["n"]),
            ("accuracy more than that one's", difference["estimate"]),
            ("95 % interval", f"{difference['low']:+.4f} to {difference['high']:+.4f}"),
            ("only this one right", test["only_second"]),
            ("only that one right", test["only_first"]),
            ("p", test["p_value"]),
        ]
    _table("armorm-promotion", ("what", "value"), rows, promotion.line)


def show_report(report: Report, path: Path) -> None:
    """A link to the report with plots and mistakes, which stays where it is; its tables alone are copied here."""
    get_run_logger().info(f"report: {path}")
    create_link_artifact(path.resolve().as_uri(), str(path), key="armorm-report", description=report.title)
    create_markdown_artifact(to_markdown(report), key="armorm-results", description=report.title)
    for title, key in (("Held-out pairs", "armorm-held-out-pairs"), ("RewardBench", "armorm-rewardbench")):
        for section in report.sections:
            if section.title == title:
                _section(key, section)


def _section(key: str, section: Section) -> None:
    _table(key, section.columns, section.rows, section.note or section.title)


def _table(key: str, columns: Sequence[str], rows: Sequence[tuple[Cell, ...]], description: str) -> None:
    """Cells as they are shown everywhere: few digits, nothing for nothing; counts stay numbers."""
    cells = [
        dict(zip(columns, (cell if type(cell) is int else shown(cell) for cell in row), strict=True)) for row in rows
    ]
    create_table_artifact(cells, key=key, description=description)


def _expected(step: Planned) -> str:
    """The time that it should take, where it is known, and what that rests on."""
    if step.seconds is None:
        return f"; time not known: {step.basis}" if step.basis else "; time not known"
    return f"; {in_words(step.seconds)}" + (f" {step.basis}" if step.basis else "")

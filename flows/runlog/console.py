"""What a person sees in the terminal: progress bars on standard error, results on standard output."""

import csv
import json
import logging
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from errno import ENOSPC
from typing import Any, Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from armorm.errors import ArmormError
from armorm.features.documents import jsonable
from armorm.features.embedding.embed import Progress as Embedding
from armorm.features.errors import FeatureStoreError, HubUnreachable, MalformedRows, StoreBusy
from armorm.features.secrets import redacted
from armorm.flows.configuration.settings import ConfigError
from armorm.flows.runlog.outcomes import Step
from armorm.report.sections import Cell, Report, Section, shown, visible

EXPECTED_ERRORS = (ArmormError, FeatureStoreError, OSError)
"""What the user can do something about, a full disk for one: one line, no traceback."""

TRY_LATER = (StoreBusy, HubUnreachable)
"""Errors that pass: another writer at work, a network that is down."""

WIDTH_OF_A_PIPE = 160
MAX_LINE = 2000

MOST_ROWS, MOST_OF_A_CELL, MOST_CHARACTERS = 1000, 10_000, 2_000_000
"""Rows, characters of a cell and of all cells that a table shows: more are slow to lay out, and nobody reads them."""

out = Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE)
err = Console(stderr=True)


class OnProgress(Protocol):
    """A function that is told what is done, the total if it is known, and what else there is to say."""

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None: ...


@contextmanager
def progress(label: str, *, of_bytes: bool = False) -> Iterator[OnProgress]:
    """Show a bar while the block runs, counting pieces or bytes."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn() if of_bytes else MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(escape(label), total=None, note="")

        def on_progress(done: int, total: int | None = None, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield on_progress


def of_tokens(on_progress: OnProgress) -> Callable[[Embedding], None]:
    """Return an embedding on a bar of tokens, which tell the time that is left; beside it texts and speed."""
    began: list[tuple[float, int]] = []

    def show(done: Embedding) -> None:
        now = time.monotonic()
        if not began:  # what an earlier run has done is no speed
            began.append((now, done.tokens))
        elapsed_s, n_tokens = now - began[0][0], done.tokens - began[0][1]
        speed = f", {n_tokens / elapsed_s:,.0f} tokens/s" if n_tokens and elapsed_s else ""
        texts = f"tokens, {done.texts:,} of {done.total_texts:,} texts"
        on_progress(done.tokens, done.total_tokens, f"{texts}{speed}")

    return show


def print_report(report: Report) -> None:
    """Print a report as tables."""
    out.print(f"\n[bold]{escape(report.title)}[/bold]")
    for fact in report.facts:
        out.print(escape(fact))
    print_sections(report.sections)


def print_sections(sections: Sequence[Section]) -> None:
    """Print tables with their notes."""
    for section in sections:
        print_table(section.columns, section.rows, title=section.title)
        if section.note:
            out.print(f"[dim]{escape(section.note)}[/dim]")


@contextmanager
def working_at_most(seconds: float, error: Exception) -> Iterator[None]:
    """Raise an error once the block has worked so long; to wait for whoever reads the output is no work."""

    def stop(*_: object) -> None:
        raise error

    usual = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, usual)


def head(rows: Sequence[tuple[Cell, ...]]) -> list[tuple[Cell, ...]]:
    """Return the first rows, as many as a table can show, with the beginning of each long cell."""
    found: list[tuple[Cell, ...]] = []
    n_characters = 0
    for row in rows[:MOST_ROWS]:
        texts = ["" if isinstance(cell, int | float) else str(cell) for cell in row]
        found.append(
            tuple(
                f"{text[:MOST_OF_A_CELL]}…" if len(text) > MOST_OF_A_CELL else cell
                for text, cell in zip(texts, row, strict=True)
            )
        )
        n_characters += sum(min(len(text), MOST_OF_A_CELL) for text in texts)
        if n_characters > MOST_CHARACTERS:
            break
    return found


def print_table(columns: list[str], rows: Sequence[tuple[Cell, ...]], *, title: str | None = None) -> None:
    """Print rows under their columns; numbers to the right, text from datasets without its control characters."""
    table = Table(title=title and escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for index, column in enumerate(columns):
        numeric = any(isinstance(row[index], int | float) for row in rows)
        table.add_column(escape(shown(column)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(shown(cell)) for cell in row))
    out.print(table)


def print_steps(steps: Sequence[Step], why: str) -> None:
    """Print what stages did or would do, and why."""
    print_table(["stage", why, "what"], [(s.name, s.reason or "up to date", s.what) for s in steps])


def print_json(value: Any) -> None:
    """Print one JSON document on standard output; what would steer a terminal is written as JSON's escapes."""
    print(_json(value))


def print_json_with(document: Mapping[str, Any], name: str, items: Iterable[Any]) -> None:
    """Print a JSON document, which has members, with a last one of many items, each of which is printed as it comes."""
    print(f"{_json(document)[:-1]}, {_json(name)}: [", end="")
    for number, item in enumerate(items):
        print(", " if number else "", _json(item), sep="", end="")
    print("]}")


def _json(value: Any) -> str:
    in_ascii = sys.stdout.encoding.lower() != "utf-8"
    text = json.dumps(jsonable(value), ensure_ascii=in_ascii, default=str, allow_nan=False)
    return re.sub(
        "[^ -~]", lambda found: found[0] if visible(found[0]) == found[0] else json.dumps(found[0])[1:-1], text
    )


def print_error(error: Exception) -> None:
    """Print a line on standard error for each thing that is wrong; input is shown without control characters."""
    if isinstance(error, OSError) and error.errno == ENOSPC:
        where = f"{error.filename}: " if error.filename else ""
        said = f"{where}disk full; free space (see `armorm gc`); what was committed is kept"
    else:
        said = str(error)
    lines = said.splitlines() if isinstance(error, ConfigError | MalformedRows) else [said]
    for line in lines:
        print_note(line)


def print_note(note: str) -> None:
    """Print one line on standard error, without control characters and secrets."""
    print(f"armorm: {shown(redacted(note))[:MAX_LINE]}", file=sys.stderr)


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a cell that spreadsheets take for a formula begins with."""


def print_csv(columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Print rows as CSV on standard output; no text of them runs as a formula in a spreadsheet or steers a terminal."""
    writer = csv.writer(sys.stdout)
    writer.writerow([_csv_cell(column) for column in columns])
    writer.writerows([_csv_cell(cell) for cell in row] for row in rows)


def _csv_cell(cell: Any) -> Any:
    """Return a cell; a text that begins like a formula gets an apostrophe, which spreadsheets do not show."""
    if cell is None or isinstance(cell, int | float):
        return cell
    text = f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else str(cell)
    return visible(text, keep="\n") if sys.stdout.isatty() else text


def quieten_prefect() -> None:
    """Leave what flows and tasks say, without tracebacks of errors that are one line for the user."""
    prefect = logging.getLogger("prefect")
    for name in ("flow_runs", "task_runs"):
        runs = prefect.getChild(name)
        runs.setLevel(prefect.getEffectiveLevel())
        runs.addFilter(OneLineErrors())
    prefect.setLevel(logging.WARNING)  # its own lines tell of the temporary server, which is no news
    logging.getLogger("EventsWorker").setLevel(logging.ERROR)  # counts what it still has to send when a flow fails


class OneLineErrors(logging.Filter):
    """A filter that takes the traceback off log records of errors that the user can correct."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, without its traceback."""
        if record.exc_info and isinstance(record.exc_info[1], EXPECTED_ERRORS):
            record.exc_info = record.exc_text = None
        return True

"""Commands that look into the data: what is configured, what the store holds, and what has changed."""

import time as clock
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from armorm.features.units import parse_duration
from armorm.flows.cli.options import (
    DEFAULT_CONFIG,
    As,
    AsQuery,
    At,
    Config,
    Format,
    QueryFormat,
    StageOrRun,
    existing_store,
)
from armorm.flows.configuration.settings import ConfigError, load_settings
from armorm.flows.runlog import console

if TYPE_CHECKING:
    from armorm.features.catalog.bounded import Limits
    from armorm.features.catalog.query import QueryResult

app = typer.Typer()

TimeLimit = Annotated[float, typer.Option("--time-limit", min=0, max=1e6, help="The most seconds a query may take.")]
MemoryLimit = Annotated[
    float,
    typer.Option("--memory-limit", min=0, max=1e6, help="The most GB a query may take; 0: half of the machine's."),
]
MaxRows = Annotated[int, typer.Option("--max-rows", min=1, help="The most rows of an answer.")]

TO_PRINT_S = 2.0
"""The time to print an answer where the query has left less of its own."""

SHOWN_ROWS = 50
"""Rows of a difference between snapshots that are shown; JSON has all of them."""


@app.command()
def quality(
    show: Annotated[str, typer.Option("--show", help="Print all rows that this check finds.")] = "",
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Check the ingested data; exit code 1 if a check that stops a run has found rows.

    Example: `armorm quality --show duplicate_pairs`
    """
    from armorm.features.checks.quality import offending_rows, run_checks

    store = existing_store(config)
    if show:
        _print_result(offending_rows(store, show), QueryFormat(format))
        return
    results = run_checks(store, load_settings(config).checks)
    if format is Format.json:
        console.print_json([asdict(result) for result in results])
    else:
        rows = [(result.name, result.severity, result.n_rows, result.what) for result in results]
        console.print_table(["check", "severity", "rows", "finds"], rows)
    if any(result.stops for result in results):
        raise typer.Exit(1)


@app.command()
def datasets(
    sharing: Annotated[
        bool, typer.Option("--sharing", help="Show what ingested datasets share, and what embedding it once saves.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """List the datasets that can be read: what they feed, licence, source, rows.

    Example: `armorm datasets --sharing`
    """
    if sharing:
        from armorm.features.catalog.savings import sharing as shared

        found = shared(existing_store(config))
        if format is Format.json:
            console.print_json({name: of.records for name, of in found.items()})
            return
        for name, of in found.items():
            console.print_table(of.columns, of.rows, title=name)
        return
    from armorm.features.catalog.dataset_table import list_datasets
    from armorm.features.sources import SOURCES

    if config.exists():
        settings = load_settings(config)
        sources = {**SOURCES, **settings.sources()}
        snapshot = settings.open_store().head()
        configured = {n: (of.uri or str(of.path), of.options(n)) for n, of in settings.datasets.items()}
    else:
        sources, snapshot, configured = dict(SOURCES), None, {}
    listed = list_datasets(list(sources.values()), configured, snapshot)
    if format is Format.json:
        console.print_json([asdict(dataset) for dataset in listed])
        return
    columns = ["dataset", "feeds", "licence", "source", "files", "rows", "kept", "ratings", "pairs", "settings"]
    rows = [
        (d.dataset, d.feeds, d.licence, d.upstream, d.place, d.rows, d.kept, d.ratings, d.pairs, _listed(d.settings))
        for d in listed
    ]
    console.print_table(columns, rows)


def _listed(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in settings.items())


@app.command()
def check(
    dataset: Annotated[str, typer.Argument(help="A configured dataset.")],
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="How many rows of each file to read.")] = 5,
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Show what would be made of a dataset's first rows, one by one; nothing is stored.

    Example: `armorm check helpsteer --rows 20`
    """
    from armorm.features.ingest.hub import download_dataset
    from armorm.features.ingest.preview import preview

    settings = load_settings(config)
    if dataset not in settings.datasets:
        names = ", ".join(settings.datasets)
        raise ConfigError(f"{config}: got dataset {dataset}; expected one of {names}; correct the name or configure it")
    uri = settings.datasets[dataset].uri
    fetched = download_dataset(uri, settings.hub_patterns(dataset)) if uri else None
    seen = preview(settings.dataset(dataset, fetched), settings.split, n_rows=rows)
    if format is Format.json:
        console.print_json(asdict(seen))
        return
    console.print_table(["column", "holds"], list(seen.columns.items()))
    columns = ["file", "line", "outcome", "reason", "what comes of it"]
    console.print_table(columns, [(r.file, r.line, r.outcome, r.reason, seen.told(r)) for r in seen.rows])
    print("\n".join([*seen.notes, seen.line]))


@app.command()
def diff(
    before: Annotated[
        str,
        typer.Argument(help="A snapshot (tag, number, id, date, `previous`, `head`), or a model or backbone by id."),
    ] = "previous",
    after: Annotated[str, typer.Argument(help="Another of that kind.")] = "head",
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Say what differs: rows, labels and mean ratings; weights, penalties, gate and figures; vectors of two backbones.

    Without arguments: what the last run has changed.

    Example: `armorm diff 12 head`
    """
    from armorm.release.compare import compare

    found = compare(existing_store(config), before, after)
    if format is Format.json:
        console.print_json(found.as_json())
        return
    if found.rows and found.rows.rows:
        rows = [(r.dataset, r.change, r.file, r.line, r.before, r.after) for r in found.rows.rows[:SHOWN_ROWS]]
        console.print_table(["dataset", "change", "file", "line", "row before", "row after"], rows)
    console.print_sections(found.sections)
    if found.line:
        print(found.line)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the views; `SHOW TABLES` is `FROM duckdb_views()`.")],
    at: At = "head",
    before: Annotated[
        str, typer.Option("--before", help="An earlier snapshot, whose views are `before.ratings` and so on.")
    ] = "",
    time_limit: TimeLimit = 300.0,
    memory_limit: MemoryLimit = 0.0,
    max_rows: MaxRows = 1_000_000,
    config: Config = DEFAULT_CONFIG,
    format: AsQuery = QueryFormat.table,
) -> None:
    """Query the store, read-only.

    Example: `armorm sql "SELECT dataset, objective, avg(raw) FROM ratings GROUP BY ALL"`
    """
    from armorm.features.catalog.query import query as answer

    store = existing_store(config)
    earlier = store.snapshot(before) if before else None
    limits, began = _limits(time_limit, memory_limit, max_rows), clock.monotonic()
    found = answer(store, query, snapshot=store.snapshot(at), before=earlier, limits=limits)
    _print_in_time(found, format, time_limit, began)


@app.command()
def ask(
    name: Annotated[str, typer.Argument(help="A question; without one they are listed.")] = "",
    parameters: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="A parameter, as name=value; can be repeated.")
    ] = None,
    at: At = "head",
    before: Annotated[
        str, typer.Option("--before", help="The earlier snapshot, for questions of what has changed.")
    ] = "previous",
    time_limit: TimeLimit = 300.0,
    memory_limit: MemoryLimit = 0.0,
    max_rows: MaxRows = 1_000_000,
    config: Config = DEFAULT_CONFIG,
    format: AsQuery = QueryFormat.table,
) -> None:
    """Ask the store one of the questions of `sql/questions/`.

    Example: `armorm ask hardest_pairs --set n=5 --set dataset=helpsteer`
    """
    from armorm.features.catalog.query import QueryResult
    from armorm.features.catalog.questions import ask as answer
    from armorm.features.catalog.questions import list_questions

    if name:
        limits, given = _limits(time_limit, memory_limit, max_rows), _settings(parameters or [])
        if options := sorted(given.keys() & {"at", "before", "limits"}):
            raise ConfigError(f"got --set {options[0]}; expected a parameter of the question; see `armorm ask`")
        began = clock.monotonic()
        found = answer(existing_store(config), name, at=at, before=before, limits=limits, **given)
        _print_in_time(found, format, time_limit, began)
        return
    listed = [(of.name, of.what, ", ".join(map(str, of.parameters))) for of in list_questions()]
    _print_result(QueryResult(["question", "answers", "parameters"], listed), format)


def _limits(time_limit: float, memory_limit: float, max_rows: int) -> "Limits":
    from armorm.features.catalog.bounded import Limits

    return Limits(time_s=time_limit, memory_bytes=int(memory_limit * 1e9), rows=max_rows)


def _settings(given: list[str]) -> dict[str, str]:
    """Return each `name=value` as a mapping."""
    for text in given:
        if "=" not in text:
            raise ConfigError(f"got --set {text}; expected name=value, such as --set n=20; correct it")
    return dict(text.split("=", 1) for text in given)


def _print_in_time(result: "QueryResult", format: QueryFormat, time_limit: float, began: float) -> None:
    """Print an answer in what the query has left of its time, which no reader shortens."""
    from armorm.features.catalog.bounded import too_long

    left_s = time_limit - (clock.monotonic() - began)
    with console.working_at_most(max(left_s, TO_PRINT_S), too_long(time_limit)):
        _print_result(result, format)


def _print_result(result: "QueryResult", format: QueryFormat) -> None:
    if format is QueryFormat.json and len({*result.columns}) < len(result.columns):
        raise ConfigError(f"got columns {', '.join(result.columns)}; expected different names for JSON; rename with AS")
    if format is QueryFormat.json:
        console.print_json(result.records)
    elif format is QueryFormat.csv:
        console.print_csv(result.columns, result.rows)
    else:
        rows = console.head(result.rows)
        console.print_table(result.columns, rows)
        if rows != result.rows:
            console.print_note(
                f"the first {len(rows):,} of {len(result.rows):,} rows, and of long cells what they begin with; "
                "--format json prints all"
            )


@app.command()
def status(
    at: At = "head",
    max_age: Annotated[
        str, typer.Option("--max-age", help="Exit code 1 if the last success of `--of` is longer ago: 36h, 7d.")
    ] = "",
    of: Annotated[
        StageOrRun,
        typer.Option("--of", help="The stage; `run`: every stage, alone or in a run of the pipeline."),
    ] = StageOrRun.run,
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Say what the store holds and how fresh it is; a run counts as fresh when it had nothing to do, too.

    Example: `armorm status --max-age 36h --of ingest`
    """
    from armorm.features.catalog.status import store_status
    from armorm.features.checks.change import change_since_training, due
    from armorm.features.store.freshness import last_runs, require_fresh, told
    from armorm.stages.pipeline import STAGES

    store = existing_store(config)
    if max_age:
        require_fresh(store, parse_duration(max_age), of.value)
    state, last = store_status(store, store.snapshot(at), STAGES), last_runs(store)
    change = change_since_training(store)
    why = change and due(change, load_settings(config).retrain)
    if format is Format.json:
        moved = change and {**asdict(change), "rows": change.rows, "drift": change.drift, "due": why}
        runs = {stage: asdict(run) for stage, run in last.items()}
        console.print_json(state.as_json() | {"last_runs": runs, "since_training": moved})
        return
    print(state.line)
    print(told(last))
    if change:
        print(f"since training: {change.line}; {f'a new model is due: {why}' if why else 'no new model is due'}")
    console.print_table(["slot", "artifact", "made", "what"], state.rows)

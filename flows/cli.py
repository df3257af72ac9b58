"""The command line: one program, `armorm`."""

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.store import Store
from flows import console
from flows.profiles import Profile, configuration
from flows.settings import CONFIG_NAME, ConfigError, load_settings

if TYPE_CHECKING:
    from features.catalog import QueryResult
    from flows.steps import Step

app = typer.Typer(
    help="A feature store and workflow for ArmoRM reward models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


class Format(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"


class QueryFormat(StrEnum):
    """How the rows of a query are printed."""

    table = "table"
    csv = "csv"
    json = "json"


SHOWN_ROWS = 50
"""Of a difference between snapshots; JSON has all of them."""

Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
As = Annotated[Format, typer.Option("--format", "-f", help="How to print.")]
DEFAULT_CONFIG = Path(CONFIG_NAME)


def main() -> None:
    """Entry point: what the user can mend is one line and exit code 1."""
    # Prefect's telemetry cannot reach anybody offline, and logs errors when it tries.
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Where another process wants a core, torch's threads that wait by spinning are 10 to 100 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone: flush into nothing
        sys.exit(0)
    except console.EXPECTED_ERRORS as error:
        console.print_error(error)
        forget(error)
        sys.exit(1)
    except KeyboardInterrupt:
        print("armorm: stopped; what was committed is kept, and the next run goes on from there", file=sys.stderr)
        sys.exit(130)


def forget(error: BaseException | None) -> None:
    """Lets go of what an error's frames hold: a DuckDB connection that outlives the interpreter complains at length."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@app.command()
def init(
    profile: Annotated[
        Profile | None,
        typer.Option("--profile", "-p", help="Real data from the Hub for a laptop or for the paper's run."),
    ] = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Write a commented configuration file: every setting and its default, or what a profile sets.

    Example: `armorm init --profile laptop`
    """
    if config.exists():
        raise ConfigError(f"{config}: got a file that exists; expected a new name; edit it, or say --config FILE")
    if not config.parent.is_dir():
        raise ConfigError(f"{config}: got a folder that does not exist; expected an existing one; make it first")
    config.write_text(configuration(profile))
    first = "see with `armorm plan` what it fetches" if profile else "set the backbone and the datasets' paths in it"
    print(f"wrote {config}: {first}, then `armorm run`")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to put everything.")] = Path("demo"),
    format: As = Format.table,
) -> None:
    """Make synthetic sample data and a tiny backbone, run everything on them, print the results.

    Example: `armorm demo demo`
    """
    from features.sample import write_sample
    from features.sample.backbone import sample_texts, write_backbone

    config = folder / CONFIG_NAME
    if not config.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder}: got a folder with other content; expected a new one; name another")
        with console.progress("writing sample data"):
            write_sample(folder / "data")
            write_backbone(folder / "backbone", sample_texts())
        config.write_text(configuration(Profile.demo))
    run(config, format)


@app.command()
def run(config: Config = DEFAULT_CONFIG, format: As = Format.table) -> None:
    """Run the whole pipeline; only what is stale runs.

    Example: `armorm run`
    """
    from flows.pipeline import pipeline

    _run(pipeline, config, format, with_report=True)


@app.command()
def plan(config: Config = DEFAULT_CONFIG, format: As = Format.table) -> None:
    """Say what `armorm run` would fetch and which stages it would run; fetch no data and write nothing.

    Example: `armorm plan`
    """
    from flows.plan import plan_run

    planned = plan_run(load_settings(config))
    if format is Format.json:
        console.print_json(asdict(planned))
        return
    console.print_table(
        ["files of", "from", "commit", "files", "size", "to fetch"],
        [
            (
                f.name,
                f.source,
                (f.revision or "")[:12],
                f.n_files,
                console.size(f.size_bytes),
                f.problem or console.size(f.missing_bytes),
            )
            for f in planned.files
        ],
    )
    _print_steps(planned.steps, "why it would run")


@app.command()
def ingest(config: Config = DEFAULT_CONFIG, format: As = Format.table) -> None:
    """Read the native files that have changed into canonical tables.

    Example: `armorm ingest`
    """
    from flows.ingest import ingest

    _run(ingest, config, format)


@app.command()
def quality(
    show: Annotated[str, typer.Option("--show", help="A check whose offending rows to print, all of them.")] = "",
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Check the ingested data; exit code 1 if a check that stops a run has found rows.

    Example: `armorm quality --show duplicate_pairs`
    """
    from features.quality import offending_rows, run_checks

    store = _store(config)
    if show:
        found = offending_rows(store, show)
        if format is Format.json:
            console.print_json(found.records)
        else:
            console.print_table(found.columns, found.rows)
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
def embed(config: Config = DEFAULT_CONFIG, format: As = Format.table) -> None:
    """Embed the conversations and prompts that have no vector yet.

    Example: `armorm embed`
    """
    from flows.embed import embed

    _run(embed, config, format)


@app.command()
def train(config: Config = DEFAULT_CONFIG, format: As = Format.table) -> None:
    """Train regression, decorrelation and gate, where their inputs have changed.

    Example: `armorm train`
    """
    from flows.train import train

    _run(train, config, format)


@app.command()
def evaluate(config: Config = DEFAULT_CONFIG, format: As = Format.table) -> None:
    """Evaluate the newest model on held-out pairs and RewardBench, and write the report.

    Example: `armorm evaluate`
    """
    from flows.evaluate import evaluate

    _run(evaluate, config, format, with_report=True)


@app.command()
def datasets(
    sharing: Annotated[
        bool, typer.Option("--sharing", help="What ingested datasets share, and what embedding it once saves.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """List the datasets that can be read: what they feed, licence, source, rows.

    Example: `armorm datasets --sharing`
    """
    if sharing:
        from features.sharing import sharing as shared

        found = shared(_store(config))
        if format is Format.json:
            console.print_json({name: of.records for name, of in found.items()})
            return
        for name, of in found.items():
            console.print_table(of.columns, of.rows, title=name)
        return
    from features.listing import list_datasets
    from features.sources import SOURCES

    if config.exists():
        settings = load_settings(config)
        sources = {**SOURCES, **settings.sources()}
        snapshot = Store(settings.store_path).head()
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
    from features.ingest.hub import download_dataset
    from features.ingest.preview import preview

    settings = load_settings(config)
    if dataset not in settings.datasets:
        names = ", ".join(settings.datasets)
        raise ConfigError(f"{config}: got dataset {dataset}; expected one of {names}; correct the name or configure it")
    uri = settings.datasets[dataset].uri
    fetched = download_dataset(uri, settings.hub_patterns(dataset)) if uri else None
    seen = preview(settings.dataset(dataset, fetched), settings.split, n_rows=rows)
    if format is Format.json:
        console.print_json({"rows": [asdict(row) for row in seen.rows], "conversations": seen.conversations})
        return
    columns = ["file", "line", "outcome", "reason", "what comes of it"]
    console.print_table(columns, [(r.file, r.line, r.outcome, r.reason, seen.told(r)) for r in seen.rows])
    print(seen.line)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="A snapshot: number, beginning of its id, `previous` or `head`.")] = (
        "previous"
    ),
    after: Annotated[str, typer.Argument(help="Another one.")] = "head",
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Say which native rows differ between two snapshots; without arguments, what the last run has changed.

    Example: `armorm diff 12 head`
    """
    from features.diff import diff as compare
    from features.diff import find_snapshot

    store = _store(config)
    found = compare(store, find_snapshot(store, before), find_snapshot(store, after))
    if format is Format.json:
        console.print_json(found.as_json())
        return
    rows = [(r.dataset, r.change, r.file, r.line, r.before, r.after) for r in found.rows[:SHOWN_ROWS]]
    console.print_table(["dataset", "change", "file", "line", "row before", "row after"], rows)
    print(found.line)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the views; `SHOW TABLES` is `FROM duckdb_views()`.")],
    config: Config = DEFAULT_CONFIG,
    format: Annotated[QueryFormat, typer.Option("--format", "-f", help="How to print.")] = QueryFormat.table,
) -> None:
    """Query the store, read-only.

    Example: `armorm sql "SELECT dataset, objective, avg(raw) FROM ratings GROUP BY ALL"`
    """
    from features.catalog import query as answer

    _print_result(answer(_store(config), query), format)


@app.command()
def ask(
    name: Annotated[str, typer.Argument(help="A question; without one they are listed.")] = "",
    parameters: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="A parameter, as name=value; can be repeated.")
    ] = None,
    config: Config = DEFAULT_CONFIG,
    format: Annotated[QueryFormat, typer.Option("--format", "-f", help="How to print.")] = QueryFormat.table,
) -> None:
    """Ask the store one of the questions of `sql/questions/`.

    Example: `armorm ask hardest_pairs --set n=5 --set dataset=helpsteer`
    """
    from features.catalog import QueryResult
    from features.questions import ask as answer
    from features.questions import list_questions

    if name:
        _print_result(answer(_store(config), name, **_settings(parameters or [])), format)
        return
    listed = [(of.name, of.what, ", ".join(map(str, of.parameters))) for of in list_questions()]
    _print_result(QueryResult(["question", "answers", "parameters"], listed), format)


def _settings(given: list[str]) -> dict[str, str]:
    """`name=value` of each."""
    for text in given:
        if "=" not in text:
            raise ConfigError(f"got --set {text}; expected name=value; say --set n=20, for one")
    return dict(text.split("=", 1) for text in given)


def _print_result(result: "QueryResult", format: QueryFormat) -> None:
    if format is QueryFormat.json and len({*result.columns}) < len(result.columns):
        raise ConfigError(f"got columns {', '.join(result.columns)}; expected different names for JSON; rename with AS")
    if format is QueryFormat.json:
        console.print_json(result.records)
    elif format is QueryFormat.csv:
        console.print_csv(result.columns, result.rows)
    else:
        console.print_table(result.columns, result.rows)


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="JSONL of conversations (`messages`) or pairs (`chosen`, `rejected`).")],
    model: Annotated[str, typer.Option("--model", "-m", help="A model folder or id; the newest by default.")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Show the objectives that made each score.")] = False,
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Score conversations or pairs with a trained model.

    Example: `armorm score conversations.jsonl --explain`
    """
    from armorm.scoring import explain_tables, open_model, score_file, summary_table

    settings = load_settings(config)
    reward_model = open_model(model, Store(settings.store_path), settings.models_path)
    with console.progress("scoring") as on_progress:
        scored = score_file(
            file, reward_model, settings.local_backbone(), settings.embed.token_budget, on_progress=on_progress
        )
    if format is Format.json:
        for one in scored:
            console.print_json(one.as_json(explain=explain))
        return
    for section in [summary_table(scored), *(explain_tables(scored) if explain else [])]:
        console.print_table(section.columns, section.rows, title=section.title)


@app.command()
def status(config: Config = DEFAULT_CONFIG, format: As = Format.table) -> None:
    """Say what the store holds and how fresh it is.

    Example: `armorm status`
    """
    from features.status import store_status

    state = store_status(_store(config))
    if format is Format.json:
        console.print_json(state.as_json())
        return
    print(state.line)
    console.print_table(["slot", "artifact", "made", "what"], state.rows)


def _run(flow: Callable[[Path], Any], config: Path, format: Format, *, with_report: bool = False) -> None:
    """Runs a flow on a valid configuration and prints what its stages did."""
    settings = load_settings(config)  # a wrong setting is said before a server is started
    console.quieten_prefect()
    result: Step | list[Step] = flow(config)
    steps = result if isinstance(result, list) else [result]
    report, where = None, None
    if with_report:
        from armorm.stages.report import load_report, report_path

        store = Store(settings.store_path)
        report, where = load_report(store), report_path(store, settings.models_path)
    if format is Format.json:
        reported = {"report": asdict(report), "report_path": str(where)} if report else {}
        console.print_json({"steps": [asdict(step) for step in steps]} | reported)
        return
    _print_steps(steps, "why it ran")
    if report:
        console.print_report(report)
        print(f"report: {where}")


def _print_steps(steps: list["Step"], why: str) -> None:
    console.print_table(["stage", why, "what"], [(s.name, s.reason or "up to date", s.what) for s in steps])


def _store(config: Path) -> Store:
    """The store of a configuration.

    Raises:
        ConfigError: nothing was ever written to it.
    """
    store = Store(load_settings(config).store_path)
    if not store.head().number:
        raise ConfigError(f"{store.root}: got no store there; expected one; run `armorm run` or `armorm ingest` first")
    return store

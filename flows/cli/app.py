"""The command line: one program, `armorm`."""

import os
import sys
import time as clock
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from armorm.features.units import parse_duration, size
from armorm.flows import stopping
from armorm.flows.cli import lineage_commands, model_commands, store_commands
from armorm.flows.cli import serve_command as serve_commands
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
    require_answer,
)
from armorm.flows.cli.tethered import tether
from armorm.flows.configuration.profiles import Profile, configuration
from armorm.flows.configuration.settings import (
    CONFIG_NAME,
    ConfigError,
    load_settings,
    require_files,
    require_runnable,
)
from armorm.flows.runlog import console

if TYPE_CHECKING:
    from armorm.features.catalog.bounded import Limits
    from armorm.features.catalog.query import QueryResult
    from armorm.flows.plan import Plan
    from armorm.flows.runlog.outcomes import Step

app = typer.Typer(
    help="A feature store and workflow for ArmoRM reward models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(lineage_commands.app)
app.add_typer(model_commands.app)
app.add_typer(serve_commands.app)
app.add_typer(store_commands.app)


Promote = Annotated[
    bool,
    typer.Option("--promote", help="Make the new model `prod` if it beats the present one on held-out pairs."),
]

TimeLimit = Annotated[float, typer.Option("--time-limit", min=0, max=1e6, help="The most seconds a query may take.")]
MemoryLimit = Annotated[
    float,
    typer.Option("--memory-limit", min=0, max=1e6, help="The most GB a query may take; 0: half of the machine's."),
]
MaxRows = Annotated[int, typer.Option("--max-rows", min=1, help="The most rows of an answer.")]

TO_PRINT_S = 2.0
"""The time to print an answer where the query has left less of its own."""

UNFINISHED = ".unfinished-"
"""What a folder of sample data that are being written begins with."""

SHOWN_ROWS = 50
"""Rows of a difference between snapshots that are shown; JSON has all of them."""


def main() -> None:
    """Run a command: what the user can correct is one line and exit code 1, or 75 where the same may do later."""
    # Prefect's telemetry cannot reach anybody offline, and logs errors when it tries.
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Prefect gives its temporary server 20 seconds to start, which a busy machine does not.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    # Where another process wants a core, torch's threads that wait by spinning are 10 to 100 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        if "" in sys.argv[1:]:  # it would count as an option that is not given, for example `--max-age "$LIMIT"`
            raise ConfigError("got an empty argument; expected a value, or no such option; is a variable not set?")
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone: flush into nothing
        sys.exit(0)
    except console.EXPECTED_ERRORS as error:
        if not stopping.asked():  # the user knows that the run stops
            console.print_error(error)
        release(error)
        sys.exit(os.EX_TEMPFAIL if isinstance(error, console.TRY_LATER) else 1)


def release(error: BaseException | None) -> None:
    """Release what an error's frames hold: a DuckDB connection that outlives the interpreter complains at length."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@app.command()
def init(
    profile: Annotated[
        Profile | None,
        typer.Option("--profile", "-p", help="Real data from the Hub for a laptop or for the paper's run."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Your own file or folder; or a folder with native files in a folder for each dataset."
        ),
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(help="More files or folders of your own, after --data.")] = None,
    backbone: Annotated[
        Path | None, typer.Option("--backbone", help="A Hugging Face folder or a GGUF file, for --data.")
    ] = None,
    first: Annotated[
        str,
        typer.Option("--first", help="The verdict that prefers the first answer, if --data does not say: 1, negative."),
    ] = "",
    share: Annotated[float, typer.Option("--share", min=0.0001, max=1, help="Of the prompts of native files.")] = 1.0,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Write a configuration file: every setting and its default, or for a profile, or for data that are there.

    Example: `armorm init --profile laptop`, `armorm init --data ratings.csv pairs.jsonl`
    """
    if (backbone and data is None) or (data and profile) or (more and data is None):
        raise ConfigError(
            "got some of --profile, --data, --backbone and files; expected --profile, or --data; add or remove one"
        )
    if backbone and not backbone.exists():
        raise ConfigError(f"{backbone}: got no such file or folder; expected a backbone; correct the path")
    if config.exists():
        raise ConfigError(f"{config}: got a file that exists; expected a new name; edit it, or use --config FILE")
    if not config.parent.is_dir():
        raise ConfigError(f"{config}: got a folder that does not exist; expected an existing one; make it first")
    next_step = "see with `armorm plan` what it fetches" if profile else "set the backbone and the datasets' paths"
    text = configuration(profile)
    if data:
        from armorm.flows.configuration.found import configuration_for, holds_datasets

        next_step = "see with `armorm plan` what it does"
        if holds_datasets(data):
            if not backbone:
                raise ConfigError("got native files without --backbone; expected a backbone; add one")
            text = configuration_for(data, backbone, share=share)
        else:
            from armorm.flows.cli.own_data import configured

            text = configured([data, *(more or ())], backbone, first, config.parent)
    config.write_text(text, encoding="utf-8")
    print(f"wrote {config}: {next_step}, then `armorm run`")


def of_a_demo(path: Path) -> bool:
    """Return whether a demo that was stopped has left it behind."""
    return path.name.startswith(UNFINISHED)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to put everything.")] = Path("demo"),
    format: As = Format.table,
) -> None:
    """Make synthetic sample data and a tiny backbone, run everything on them, print the results.

    Example: `armorm demo demo`
    """
    from armorm.features.sample import write_sample
    from armorm.features.sample.backbone import sample_texts, write_backbone

    config = folder / CONFIG_NAME
    if not config.exists():
        if folder.exists() and (not folder.is_dir() or any(not of_a_demo(path) for path in folder.iterdir())):
            raise ConfigError(f"{folder}: got a folder with other content; expected a new one; name another")
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=UNFINISHED, dir=folder) as scratch:
            data, backbone = Path(scratch) / "data", Path(scratch) / "backbone"
            with console.progress("writing sample data"):
                write_sample(data)
                write_backbone(backbone, sample_texts())
            for whole in (data, backbone):
                whole.rename(folder / whole.name)
        config.write_text(configuration(Profile.demo))
    run(config, format)


@app.command()
def run(
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", help="A file of `armorm plan --out`; refused if it is out of date."),
    ] = None,
    max_rows: Annotated[
        int | None, typer.Option("--max-rows", min=0, help="Refuse to start if the plan's total has more rows.")
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option("--max-time", help="Refuse to start if the estimate is longer or unknown: 30m, 2h."),
    ] = None,
    promote: Promote = False,
) -> None:
    """Run the whole pipeline; only what is stale runs.

    Example: `armorm run --max-time 2h`
    """
    settings = load_settings(config)
    require_runnable(settings)  # before a server is started
    require_files(settings)
    planned_on = None
    if plan or max_rows is not None or max_time:
        from armorm.flows.plan import plan_run, require_unmoved, require_within

        max_seconds = parse_duration(max_time) if max_time else None
        now = plan_run(settings)
        if plan:
            require_unmoved(plan, now)
        require_within(now, max_rows=max_rows, max_seconds=max_seconds)
        planned_on = now.premises.snapshot_id
    from armorm.flows.pipeline import pipeline

    _run(partial(pipeline, planned_on=planned_on, promote=promote), config, format, with_report=True)


@app.command()
def plan(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the plan, for `armorm run --plan`.")] = None,
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Say what `armorm run` would fetch, which stages it would run, why, and how long; fetch no data, change no store.

    Exit code 1 where files are missing.

    Example: `armorm plan --out plan.json`
    """
    from armorm.flows.plan import plan_run, write_plan

    if out and (out.is_dir() or not out.parent.is_dir()):
        raise ConfigError(f"got --out {out}, where no file can be written; expected a name in a folder that is there")
    planned = plan_run(load_settings(config))
    if out:
        write_plan(planned, out)
    if format is Format.json:
        console.print_json(planned.as_json())
    else:
        _print_plan(planned, out)
    if problems := [of.problem for of in planned.files if of.problem]:
        raise ConfigError("\n".join(problems))


def _print_plan(planned: "Plan", out: Path | None) -> None:
    from armorm.flows.runlog.plan_table import COLUMNS, shown_amounts

    console.print_table(
        ["files of", "from", "commit", "files", "size", "to fetch"],
        [
            (
                f.name,
                f.source,
                (f.revision or "")[:12],
                f.n_files,
                size(f.size_bytes),
                "not there" if f.problem else size(f.missing_bytes),
            )
            for f in planned.files
        ],
    )
    console.print_table(list(COLUMNS), [shown_amounts(step) for step in [*planned.steps, planned.total]])
    print(f"{planned.line}{f'; written to {out}' if out else ''}")


@app.command()
def ingest(config: Config = DEFAULT_CONFIG, format: As = Format.table) -> None:
    """Read the native files that have changed into canonical tables.

    Example: `armorm ingest`
    """
    require_files(load_settings(config))  # before a server is started
    from armorm.flows.ingest import ingest

    _run(ingest, config, format)


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
def embed(config: Config = DEFAULT_CONFIG, format: As = Format.table) -> None:
    """Embed the conversations and prompts that have no vector yet.

    Example: `armorm embed`
    """
    from armorm.flows.embed import embed

    _run(embed, config, format)


@app.command()
def train(config: Config = DEFAULT_CONFIG, format: As = Format.table) -> None:
    """Train regression, decorrelation and gate, where their inputs have changed.

    Example: `armorm train`
    """
    require_runnable(load_settings(config))  # before a server is started
    from armorm.flows.train import train

    _run(train, config, format)


@app.command()
def evaluate(
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="Another model, by id or folder, for example a downloaded ArmoRM; not stored."
        ),
    ] = "",
    against: Annotated[
        str, typer.Option("--against", help="With --model: a model of the store, for a paired test.")
    ] = "",
    promote: Promote = False,
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Evaluate the newest model on held-out pairs and RewardBench, and write the report; or print that of another.

    Example: `armorm evaluate --model reward-model --against 720ee6b9`
    """
    if against and not model:
        raise ConfigError("got --against and no --model; expected both; for two models of the store, use `armorm diff`")
    if promote and model:
        raise ConfigError("got --promote and --model; expected one of them; `armorm promote model` takes any")
    if model:
        model_commands.evaluate_given(model, against, config, format)
        return
    from armorm.flows.evaluate import evaluate

    _run(partial(evaluate, promote=promote), config, format, with_report=True)


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


def _run(flow: Callable[[Path], Any], config: Path, format: Format, *, with_report: bool = False) -> None:
    """Run a flow on a valid configuration and print what its stages did."""
    settings = load_settings(config)  # a wrong setting is said before a server is started
    console.quieten_prefect()
    require_answer()
    tether()
    store = settings.open_store()
    before = store.head()
    result: Step | list[Step] = flow(config)
    steps = result if isinstance(result, list) else [result]
    from armorm.flows.runlog.prefect_artifacts import difference

    changed = difference(store, before, store.head())
    report, where = None, None
    if with_report:
        from armorm.release.report import load_report, report_path

        report, where = load_report(store), report_path(store, settings.models_path)
    if format is Format.json:
        reported = {"report": asdict(report), "report_path": str(where)} if report else {}
        compared = {"changed": changed.as_json()} if changed else {}
        console.print_json({"steps": [asdict(step) for step in steps]} | compared | reported)
        return
    console.print_steps(steps, "why it ran")
    if changed:
        console.print_sections(changed.sections)
        print(changed.line)
    if report:
        console.print_report(report)
        print(f"report: {where}")

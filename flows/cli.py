"""The command line: one program, `armorm`."""

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.store import Store
from flows import console
from flows.settings import CONFIG_NAME, ConfigError, load_settings

if TYPE_CHECKING:
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
def init(config: Config = DEFAULT_CONFIG) -> None:
    """Write a commented configuration file.

    Example: `armorm init`
    """
    if config.exists():
        raise ConfigError(f"{config}: got a file that exists; expected a new name; edit it, or say --config FILE")
    if not config.parent.is_dir():
        raise ConfigError(f"{config}: got a folder that does not exist; expected an existing one; make it first")
    config.write_text(template())
    print(f"wrote {config}: set the backbone and the datasets' paths in it, then `armorm run`")


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
        config.write_text(_demo_settings(template()))
    run(config, format)


@app.command()
def run(config: Config = DEFAULT_CONFIG, format: As = Format.table) -> None:
    """Run the whole pipeline; only what is stale runs.

    Example: `armorm run`
    """
    from flows.pipeline import pipeline

    _run(pipeline, config, format, with_report=True)


@app.command()
def ingest(config: Config = DEFAULT_CONFIG, format: As = Format.table) -> None:
    """Read the native files that have changed into canonical tables.

    Example: `armorm ingest`
    """
    from flows.ingest import ingest

    _run(ingest, config, format)


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
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the views; `SHOW TABLES` is `FROM duckdb_views()`.")],
    config: Config = DEFAULT_CONFIG,
    format: Annotated[QueryFormat, typer.Option("--format", "-f", help="How to print.")] = QueryFormat.table,
) -> None:
    """Query the store, read-only.

    Example: `armorm sql "SELECT dataset, objective, avg(raw) FROM ratings GROUP BY ALL"`
    """
    from features.catalog import query as answer

    result = answer(_store(config), query)
    if format is QueryFormat.json and len(set(result.columns)) < len(result.columns):
        raise ConfigError(f"got columns {', '.join(result.columns)}; expected different names for JSON; rename with AS")
    if format is QueryFormat.json:
        console.print_json([dict(zip(result.columns, row, strict=True)) for row in result.rows])
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
    console.print_table(["stage", "why it ran", "what"], [(s.name, s.reason or "up to date", s.what) for s in steps])
    if report:
        console.print_report(report)
        print(f"report: {where}")


def _store(config: Path) -> Store:
    """The store of a configuration.

    Raises:
        ConfigError: nothing was ever written to it.
    """
    store = Store(load_settings(config).store_path)
    if not store.head().number:
        raise ConfigError(f"{store.root}: got no store there; expected one; run `armorm run` or `armorm ingest` first")
    return store


def template() -> str:
    return (files("flows") / CONFIG_NAME).read_text()


def _demo_settings(template: str) -> str:
    """The template with the sizes of the sample: the gate and the shards are smaller, the rest is the default."""
    for default, sample in DEMO_SETTINGS.items():
        assert default in template, default
        template = template.replace(default, sample)
    return template


DEMO_SETTINGS = {
    "shard_conversations = 4096": "shard_conversations = 1024",
    "hidden_dim = 1024": "hidden_dim = 128",
    "steps = 10_000": "steps = 800",
}
"""What differs in the demo from the template."""

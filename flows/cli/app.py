"""The command line: one program, `armorm`."""

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from armorm.features.units import parse_duration, size
from armorm.flows import stopping
from armorm.flows.cli import data_commands, lineage_commands, model_commands, store_commands
from armorm.flows.cli import serve_command as serve_commands
from armorm.flows.cli.options import DEFAULT_CONFIG, As, Config, Format, require_answer
from armorm.flows.cli.tethered import tether
from armorm.flows.configuration.profiles import Profile, configuration
from armorm.flows.configuration.settings import CONFIG_NAME, ConfigError, load_settings, require_files, require_runnable
from armorm.flows.runlog import console

if TYPE_CHECKING:
    from armorm.flows.plan import Plan
    from armorm.flows.runlog.outcomes import Step

app = typer.Typer(
    help="A feature store and workflow for ArmoRM reward models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(data_commands.app)
app.add_typer(lineage_commands.app)
app.add_typer(model_commands.app)
app.add_typer(serve_commands.app)
app.add_typer(store_commands.app)


Promote = Annotated[
    bool,
    typer.Option("--promote", help="Make the new model `prod` if it beats the present one on held-out pairs."),
]

UNFINISHED = ".unfinished-"
"""What a folder of sample data that are being written begins with."""


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

"""Commands that lead from a weight to its rows, and from a row to all that was made with it."""

from typing import Annotated

import typer

from armorm.flows.cli.options import DEFAULT_CONFIG, As, AsQuery, Config, Format, QueryFormat, existing_store
from armorm.flows.cli.tethered import tether
from armorm.flows.configuration.settings import load_settings
from armorm.flows.runlog import console

app = typer.Typer()

TRACED_ROWS = 10
"""Rows of a trace that are shown as a table."""


@app.command()
def trace(
    artifact: Annotated[str, typer.Argument(metavar="ID", help="The beginning of a model's or other artifact's id.")],
    objective: Annotated[
        str, typer.Option("--objective", "-o", help="List only the ratings behind the weights of this objective.")
    ] = "",
    rows: Annotated[
        int | None, typer.Option("--rows", "-n", min=0, help="How many rows to list: 10 in a table, else all.")
    ] = None,
    texts: Annotated[bool, typer.Option("--texts", help="List the messages of each row with it.")] = False,
    config: Config = DEFAULT_CONFIG,
    format: AsQuery = QueryFormat.table,
) -> None:
    """Say what an artifact was made from, down to files and lines; exit code 1 if its training rows are others.

    Example: `armorm trace 4f21c07a --objective helpsteer-verbosity --format csv`
    """
    from armorm.features.lineage.trace import trace as find
    from armorm.flows.runlog.lineage_text import print_trace
    from armorm.stages.pipeline import PIPELINE

    shown = TRACED_ROWS if rows is None and format is QueryFormat.table else rows
    store = existing_store(config)
    with find(store, artifact, stages=PIPELINE, objective=objective or None, n_rows=shown, texts=texts) as found:
        if format is QueryFormat.json:
            console.print_json_with(found.as_json(), "rows", found.rows.records)
        elif format is QueryFormat.csv:
            console.print_csv(found.rows.columns, found.rows.rows)
        else:
            print_trace(found)
    if not found.agrees:
        raise typer.Exit(1)


@app.command()
def impact(
    key: Annotated[str, typer.Argument(help="An id of a native row, conversation, prompt or pair: 8 digits or more.")],
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Say where a row stands, every artifact that was made with it, and which models to retrain if it must be deleted.

    Example: `armorm impact 5ac72064`
    """
    from armorm.features.lineage.impact import impact as find
    from armorm.flows.runlog.lineage_text import print_impact
    from armorm.stages.pipeline import PIPELINE

    found = find(existing_store(config), key, stages=PIPELINE)
    if format is Format.json:
        console.print_json(found.as_json())
    else:
        print_impact(found)


@app.command("forget")
def forget_key(
    key: Annotated[str, typer.Argument(help="An id of a native row or a prompt: 8 digits or more.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="The reason, for the record.")],
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Leave a row or prompt out of all later snapshots; exit code 1 if a dataset that may hold it cannot be read again.

    Example: `armorm forget 5ac72064 --reason "its author has asked for it"`
    """
    from armorm.flows.upkeep import forget as flow

    load_settings(config)
    console.quieten_prefect()
    tether()
    forgot = flow(config, key, reason)
    if format is Format.json:
        console.print_json(forgot.as_json())
    else:
        if forgot.steps:
            console.print_steps(list(forgot.steps), "why it ran")
        for line in forgot.lines:
            print(line)
    if forgot.waiting:
        raise typer.Exit(1)

"""The command that serves the scheduled deployments."""

from pathlib import Path
from typing import Annotated

import typer

from armorm.flows.cli.options import DEFAULT_CONFIG, SERVE_PREFECT, Config, require_answer
from armorm.flows.configuration.settings import ConfigError, load_settings
from armorm.flows.runlog import console

app = typer.Typer()


@app.command()
def serve(
    write: Annotated[
        Path | None, typer.Option("--write", help="Write them as a prefect.yaml for `prefect deploy`, and end.")
    ] = None,
    pool: Annotated[str, typer.Option("--pool", help="The work pool that --write names.")] = "armorm",
    automation: Annotated[
        bool,
        typer.Option("--automation", help="Register the automation that marks dead runs alone, for workers, and end."),
    ] = False,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Register the deployments of [schedule] with a Prefect server, and run them here when they are due, until stopped.

    Example: `armorm serve`
    """
    from armorm.flows import deployments

    settings = load_settings(config)
    if write:
        from armorm.features.store.storage import replace_file

        replace_file(write, deployments.to_yaml(settings, config, pool).encode())
        print(f"wrote {write}: create the work pool {pool}, then run `prefect deploy --all`")
        return
    _require_server()
    deployments.watch_for_the_dead()
    if automation:
        return
    console.print_table(
        ["deployment", "schedule", "does"],
        [(deployments.name_of(settings, of.stage), of.when, of.description) for of in deployments.scheduled(settings)],
    )
    deployments.serve(settings, config)


def _require_server() -> None:
    """Refuse to serve without a Prefect server that answers."""
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        raise ConfigError(f"got no PREFECT_API_URL; expected the address of a Prefect server; {SERVE_PREFECT}")
    require_answer()

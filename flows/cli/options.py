"""What the commands share: options, formats, and how they find the store."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from armorm.features.store import Store
from armorm.flows.configuration.settings import CONFIG_NAME, ConfigError, load_settings


class Format(StrEnum):
    """The format in which results are printed."""

    table = "table"
    json = "json"


class QueryFormat(StrEnum):
    """The format in which the rows of a query are printed."""

    table = "table"
    csv = "csv"
    json = "json"


class StageOrRun(StrEnum):
    """The pipeline, or a stage of it."""

    run = "run"
    ingest = "ingest"
    embed = "embed"
    train = "train"
    evaluate = "evaluate"


Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
As = Annotated[Format, typer.Option("--format", "-f", help="How to print.")]
AsQuery = Annotated[QueryFormat, typer.Option("--format", "-f", help="How to print.")]
At = Annotated[
    str,
    typer.Option("--at", help="A snapshot: `head`, `previous`, a tag, a number, the beginning of its id, or a date."),
]
DEFAULT_CONFIG = Path(CONFIG_NAME)

SERVE_PREFECT = "run `prefect server start`, and `export PREFECT_API_URL=http://127.0.0.1:4200/api`"
"""What to do where no Prefect server answers."""


def existing_store(config: Path) -> Store:
    """Return the store of a configuration.

    Raises:
        ConfigError: nothing was ever written to it.
    """
    store = load_settings(config).open_store()
    if not store.manifests.numbers():
        raise ConfigError(f"{store.place}: got no store there; expected one; run `armorm run` or `armorm ingest` first")
    return store


def require_answer() -> None:
    """Ask the Prefect server that PREFECT_API_URL names, if it names one, whether it is there.

    Raises:
        ConfigError: it does not answer.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if not url:
        return
    with get_client(sync_client=True) as client:
        if error := client.api_healthcheck():
            said = str(error) or type(error).__name__
            raise ConfigError(f"PREFECT_API_URL: got {url}, which does not answer ({said}); {SERVE_PREFECT}")

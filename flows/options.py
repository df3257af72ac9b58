"""What the commands share: options, formats, and how they find the store."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from features.store import Store
from flows.settings import CONFIG_NAME, ConfigError, load_settings


class Format(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"


class QueryFormat(StrEnum):
    """How the rows of a query are printed."""

    table = "table"
    csv = "csv"
    json = "json"


class Part(StrEnum):
    """The whole line, or a stage of it."""

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


def existing_store(config: Path) -> Store:
    """The store of a configuration.

    Raises:
        ConfigError: nothing was ever written to it.
    """
    store = load_settings(config).open_store()
    if not store.manifests.numbers():
        raise ConfigError(f"{store.place}: got no store there; expected one; run `armorm run` or `armorm ingest` first")
    return store

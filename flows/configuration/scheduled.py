"""What a run on a schedule is given beside its configuration, and how it is called."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prefect.runtime import flow_run


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The limits of a scheduled run: how long it waits, and how long it works. A run by hand has none."""

    wait: str = ""
    """How long to wait for other writers of the store: `6h`. By default a busy store ends the run at once."""
    work: str = ""
    """How long to work from then on: `24h`. What was committed by then is kept, and the next run goes on from there."""


BY_HAND: Final = RunLimits()


def run_name() -> str:
    """Return the stage and the folder of the configuration, by which a person tells one store's runs from another's."""
    return f"{flow_run.flow_name} {Path(flow_run.parameters['config']).resolve().parent.name}"

"""`[schedule]`: when `armorm serve` runs what. Imports no Prefect, as settings are read by every command."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from armorm.features.errors import InputError
from armorm.features.units import parse_duration

SCHEDULES: Final = ("ingest", "train", "verify", "gc", "run", "freshness")
"""The settings that say when; `""` is never."""


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """The settings of `[schedule]`: cron expressions, or intervals such as `6h`; an empty text turns one off."""

    name: str = "armorm"
    """What the deployments' names begin with: stores that share a Prefect server need different ones."""
    timezone: str = "UTC"
    """The timezone of the cron expressions."""
    ingest: str = "0 2 * * *"
    train: str = "0 5 * * 6"
    """Train and evaluate."""
    verify: str = "0 4 * * 0"
    gc: str = "0 3 1 * *"
    """A dry run."""
    run: str = ""
    """The pipeline in one run, in place of ingest and what follows from it."""
    max_age: str = "36h"
    """The alarm is given when no ingest has succeeded for so long; `""` for none."""
    freshness: str = "0 8 * * *"
    """When it is looked at besides: what waits for silence begins to count when it is registered."""
    wait: str = "6h"
    """How long a run waits while others write to the store."""
    time_limit: str = "24h"
    """How long a run may work then; `""` for no end."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(f"name: got {self.name!r}; expected letters, digits and -_.; rename it")
        try:
            ZoneInfo(self.timezone)
        except (OSError, ValueError, LookupError) as error:
            raise ValueError(
                f"timezone: got {self.timezone!r}; expected a name of the IANA database, such as Europe/Berlin"
            ) from error
        for name in SCHEDULES:
            _require_schedule(name, getattr(self, name))
        for name in ("max_age", "wait", "time_limit"):
            try:
                parse_duration(getattr(self, name) or "0s")
            except InputError as error:
                raise ValueError(f"{name}: {error}") from error


def interval_s(schedule: str) -> float | None:
    """Return the seconds between two runs, where a schedule is an interval; None where it is a cron expression."""
    try:
        return parse_duration(schedule)
    except InputError:
        return None


def _require_schedule(name: str, schedule: str) -> None:
    if not schedule or interval_s(schedule):
        return
    try:
        if len(schedule.split()) != 5:
            raise CronSimError("not five fields")
        CronSim(schedule, datetime.now(UTC))
    except CronSimError as error:
        raise ValueError(
            f"{name}: got {schedule!r} ({error}); expected five fields of cron (minute, hour, day of the month, month, "
            f'day of the week), as "0 2 * * *" for every night at two, an interval such as "6h", or "" to turn it off'
        ) from error

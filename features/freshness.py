"""When the whole line last came to its end, for those who watch a store that nothing has to be done in."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

from features.durations import in_words
from features.errors import NotInStore, TooOld
from features.store import Store, Writer
from features.store.store import utc_now

LAST_RUN: Final = "runs/last.json"
"""Replaced whenever the whole line has succeeded: a run that finds nothing to do makes no snapshot to tell of it."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest run of the whole line that came to its end."""

    command: str
    run_id: str
    finished_at: str
    """UTC, ISO 8601."""
    snapshot: int
    """The newest one at its end."""

    @property
    def line(self) -> str:
        """For a person."""
        return f"last full run: {in_words(self.age_s)} ago, at {self.finished_at}"

    @property
    def age_s(self) -> float:
        """Seconds since then."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.finished_at)).total_seconds()


def record_success(writer: Writer) -> None:
    """Notes that the writer's run of the whole line has succeeded."""
    run = LastRun(writer.run.command, writer.run.run_id, utc_now(), writer.store.head().number)
    writer.store.storage.replace(LAST_RUN, json.dumps(asdict(run)).encode())


def last_run(store: Store) -> LastRun | None:
    """The newest run of the whole line that has succeeded; None where none is known of."""
    try:
        return LastRun(**json.loads(store.storage.read(LAST_RUN)))
    except (NotInStore, ValueError, TypeError):  # a later version may write something else
        return None


def require_fresh(store: Store, max_age_s: float) -> None:
    """For those who watch: whether a run of the whole line has succeeded lately.

    Raises:
        TooOld: none has.
    """
    last = last_run(store)
    if last is None or last.age_s > max_age_s:
        got = f"a last full run {in_words(last.age_s)} ago" if last else "no full run that has succeeded"
        raise TooOld(f"{store.place}: got {got}; expected one within {in_words(max_age_s)}; see why `armorm run` fails")

"""When each stage last came to its end, for those who watch a store that nothing has to be done in."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

from armorm.features.documents import parse_object
from armorm.features.errors import NotInStore, TooOld
from armorm.features.store import Store, Writer
from armorm.features.store.store import utc_now
from armorm.features.units import in_words

STAGES: Final = ("ingest", "embed", "train", "evaluate")
"""The stages of the pipeline; a success of `run` counts for each of them."""

RUN: Final = "run"

_FILES: Final = {RUN: "runs/last.json", **{stage: f"runs/last-{stage}.json" for stage in STAGES}}
"""Replaced by every success: a run that finds nothing to do makes no snapshot to tell of it."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest run of a stage that came to its end."""

    command: str
    run_id: str
    finished_at: str
    """UTC, ISO 8601."""
    snapshot: int
    """The newest one at its end."""

    @property
    def age_s(self) -> float:
        """Seconds since then."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.finished_at)).total_seconds()


def record_success(writer: Writer, stage: str) -> None:
    """Note that the writer's run of a stage, or of the pipeline (`run`), has succeeded."""
    run = LastRun(writer.run.command, writer.run.run_id, utc_now(), writer.store.head().number)
    writer.store.storage.replace(_FILES[stage], json.dumps(asdict(run)).encode())


def last_runs(store: Store) -> dict[str, LastRun]:
    """Return the newest success of each stage, and of the pipeline, where one is known of.

    A stage has succeeded alone or in a run of the pipeline. The pipeline is as old as the oldest of its stages, so
    that one which never runs by `armorm run`, but stage by stage on schedules of their own, has an age as well.
    """
    found = {name: run for name in _FILES if (run := _read(store, _FILES[name]))}
    whole = found.pop(RUN, None)
    if whole:
        found = {stage: max(whole, found.get(stage, whole), key=_time) for stage in STAGES}
    if found.keys() == {*STAGES}:
        found[RUN] = min(found.values(), key=_time)
    return found


def told(runs: Mapping[str, LastRun]) -> str:
    """Return the last successes in one line, for people."""
    ages = ", ".join(f"{stage} {in_words(runs[stage].age_s)} ago" for stage in STAGES if stage in runs)
    return f"last successes: {ages or 'none'}"


def require_fresh(store: Store, max_age_s: float, of: str = RUN) -> None:
    """Refuse a store in which a stage, or one of the pipeline's, has not succeeded lately.

    Raises:
        TooOld: it has not.
    """
    last = last_runs(store).get(of)
    if last is None or last.age_s > max_age_s:
        what = "full run" if of == RUN else f"run of {of}"
        got = f"a last {what} {in_words(last.age_s)} ago" if last else f"no {what} that has succeeded"
        raise TooOld(
            f"{store.place}: got {got}; expected one within {in_words(max_age_s)}; see why `armorm {of}` fails"
        )


def _read(store: Store, name: str) -> LastRun | None:
    try:
        run = LastRun(**parse_object(store.storage.read(name)))
        return run if math.isfinite(run.age_s) else None
    except (NotInStore, ValueError, TypeError):  # a later version may write something else
        return None


def _time(run: LastRun) -> datetime:
    return datetime.fromisoformat(run.finished_at)

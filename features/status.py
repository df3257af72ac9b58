"""What a store holds, for people and programs."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

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
    def age_s(self) -> float:
        """Seconds since then."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.finished_at)).total_seconds()


@dataclass(frozen=True, slots=True)
class Status:
    """The newest snapshot, a row an artifact; a backbone's shards are one row together."""

    number: int
    snapshot_id: str
    created_at: str
    rows: list[tuple[Any, ...]]
    """(slot, artifact or number of shards, made at, what it is)."""
    last_run: LastRun | None

    @property
    def line(self) -> str:
        """For a person."""
        ago = f"{in_words(self.last_run.age_s)} ago" if self.last_run else "none that is known of"
        return f"snapshot {self.number} ({self.snapshot_id}), committed {self.created_at}; last full run: {ago}"

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        names = ("slot", "artifact", "created_at", "what")
        head: dict[str, Any] = {"number": self.number, "snapshot_id": self.snapshot_id, "created_at": self.created_at}
        head["last_run"] = asdict(self.last_run) if self.last_run else None
        return head | {"artifacts": [dict(zip(names, row, strict=True)) for row in self.rows]}


def store_status(store: Store) -> Status:
    """Reads manifests only."""
    snapshot = store.head()
    rows = [
        (slot, artifact.artifact_id, artifact.created_at, _what(dict(artifact.summary)))
        for slot, artifact in sorted(snapshot.artifacts.items())
        if artifact.recipe.stage != "embed"
    ]
    for backbone_id in snapshot.within("backbone"):
        shards = snapshot.within(f"features/{backbone_id}").values()
        newest = max((shard.created_at for shard in shards), default="")
        vectors = sum(shard.summary["rows"] for shard in shards)
        rows.append((f"features/{backbone_id}", f"{len(shards)} shards", newest, f"{vectors} vectors"))
    return Status(snapshot.number, snapshot.snapshot_id, snapshot.created_at, rows, last_run(store))


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


def _what(summary: dict[str, Any]) -> str:
    if "line" in summary:
        return str(summary["line"])
    if "outcomes" in summary:
        return f"{summary['ratings']} ratings, {summary['preferences']} pairs, {summary['conversations']} conversations"
    return f"{summary['name']} ({summary['architecture']}, hidden size {summary['hidden_size']})"

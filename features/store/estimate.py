"""What a stage would work through and how long it should take, at the speeds that this store has measured.

Of manifests alone: every artifact keeps in its summary, as `measured`, the seconds that it took and what there was to
work through. Where nothing comparable was measured, nothing is said: no number here is made up.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from armorm.features.store import Artifact, Snapshot
from armorm.features.units import in_words, size

UNITS: Final = ("steps", "tokens", "bytes", "rows")
"""What a stage's time goes with: the first of these that it counts."""

UNKNOWN: Final = "no speed measured yet"


@dataclass(frozen=True, slots=True)
class Planned:
    """One stage of a plan. Of its four amounts, 0 says none, and None that it is not known."""

    name: str
    reason: str | None
    """Why it would run: which input, setting or version has changed; None if it stands as it is."""
    what: str = ""
    rows: int | None = 0
    tokens: int | None = 0
    bytes: int | None = 0
    """Bytes of native files to read, or of vectors to keep."""
    seconds: float | None = 0.0
    basis: str = ""
    """What the amounts and the time rest on."""

    @property
    def runs(self) -> bool:
        """Whether there is anything to do."""
        return self.reason is not None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {"name": self.name, "runs": self.runs} | asdict(self)


@dataclass(frozen=True, slots=True)
class Speed:
    """The speed of one run of this store."""

    per_s: float
    basis: str


def measured(artifact: Artifact | None) -> Mapping[str, float]:
    """Return the seconds and amounts that an artifact was made in; nothing for one of an earlier version."""
    found: Mapping[str, float] = artifact.summary.get("measured", {}) if artifact else {}
    return found


def speed_of(artifacts: Iterable[Artifact], unit: str, *, called: str = "artifacts") -> Speed | None:
    """Return the speed of the newest run that made any of the artifacts, over all that it made of them."""
    run_id, of_run = _newest(artifacts, unit)
    if not of_run:
        return None
    per_s = sum(one[unit] for one in of_run) / sum(one["seconds"] for one in of_run)
    on = f" on {len(of_run)} {called}" if len(of_run) > 1 or called != "artifacts" else ""
    return Speed(per_s, f"at {_shown(per_s, unit)}, measured in run {run_id[:8]}{on}")


def last_time(artifacts: Iterable[Artifact]) -> str:
    """Return what the newest run with a prediction for the artifacts should have taken, and what it took."""
    _, of_run = _newest(artifacts, "predicted_seconds")
    if not of_run:
        return ""
    names = ("predicted_seconds", "predicted_tokens", "seconds", "tokens")
    should_s, should_tokens, took_s, tokens = (sum(one[name] for one in of_run) for name in names)
    return (
        f"last time: predicted {in_words(should_s)} for {should_tokens:,.0f} tokens, took {in_words(took_s)} for "
        f"{tokens:,.0f}"
    )


def _newest(artifacts: Iterable[Artifact], name: str) -> tuple[str, list[Mapping[str, float]]]:
    """Return the id of the newest run that measured something, and what was measured of each of its artifacts."""
    known = [a for a in artifacts if measured(a).get(name, 0) > 0 and measured(a)["seconds"] > 0]
    run_id = max(known, key=lambda artifact: artifact.created_at).run_id if known else ""
    return run_id, [measured(artifact) for artifact in known if artifact.run_id == run_id]


def estimate(
    snapshot: Snapshot, name: str, reason: str | None, work: Mapping[str, int], *, slot: str = "", what: str = ""
) -> Planned:
    """Return a stage as it would run on what a snapshot holds.

    Args:
        snapshot: whose artifacts tell the speeds: the one in the stage's slot, else others of the stage.
        work: what it would work through, as far as manifests and files tell.
        slot: where its artifact stands; its name by default.
        what: more about it.
    """
    if reason is None:
        return Planned(name, None, what)
    slot = slot or name
    existing = snapshot.artifacts.get(slot)
    unit = next((unit for unit in UNITS if unit in work), None)
    if unit is None:  # hardly any work, or none that is counted
        seconds = measured(existing).get("seconds")
        basis = UNKNOWN if existing is None or seconds is None else f"as in run {existing.run_id[:8]}"
        return Planned(name, reason, what, seconds=seconds, basis=basis)
    rows: int | None = work.get("rows")
    notes = []
    if rows is None and measured(existing).get(unit) and "rows" in measured(existing):
        rows = round(work[unit] * measured(existing)["rows"] / measured(existing)[unit])
        notes = [f"as many rows in {unit} as the last time"]
    speed = speed_of([existing] if existing and measured(existing).get(unit) else _peers(snapshot, slot), unit)
    basis = "; ".join([speed.basis if speed else UNKNOWN, *notes])
    seconds = work[unit] / speed.per_s if speed else None
    return Planned(name, reason, what, rows, work.get("tokens", 0), work.get("bytes", 0), seconds, basis)


def unknown(name: str, reason: str, basis: str, *, n_bytes: int | None = 0) -> Planned:
    """Return a stage that would run, of which no more can be told."""
    return Planned(name, reason, rows=None, tokens=0, bytes=n_bytes, seconds=None, basis=basis)


def total(steps: Sequence[Planned]) -> Planned:
    """Return all stages together; None where one of them is not known."""

    def summed(values: Iterable[float | None]) -> float | None:
        listed = list(values)
        return None if None in listed else sum(value for value in listed if value is not None)

    def counted(name: str) -> int | None:
        amount = summed(getattr(step, name) for step in steps)
        return None if amount is None else int(amount)

    n_runs = sum(step.runs for step in steps)
    reason = f"{n_runs} of {len(steps)} stages" if n_runs else None
    seconds = summed(step.seconds for step in steps)
    return Planned("total", reason, "", counted("rows"), counted("tokens"), counted("bytes"), seconds)


def _peers(snapshot: Snapshot, slot: str) -> list[Artifact]:
    """Return the artifacts below the same folder of slots, for example other datasets of an ingest."""
    folder, _, _ = slot.rpartition("/")
    return list(snapshot.within(folder).values()) if folder else []


def _shown(per_s: float, unit: str) -> str:
    if unit == "bytes":
        return f"{size(per_s)}/s"
    return f"{per_s:,.0f} {unit}/s" if per_s >= 100 else f"{per_s:.3g} {unit}/s"

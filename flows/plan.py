"""What `armorm run` would do: the files that it reads or fetches, the stages that it runs, and what they would cost."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from armorm.features.documents import parse_object
from armorm.features.embedding.fingerprint import Fingerprint, read_fingerprint
from armorm.features.embedding.forecast import (
    Files,
    backbone_files,
    hub_files,
    local_files,
    plan_embedding,
    plan_embedding_at_most,
)
from armorm.features.errors import InputError, OverLimit, PlanOutdated
from armorm.features.ingest.dataset import INGEST, dataset_files, ingest_recipe
from armorm.features.ingest.hub import download_dataset, parse_uri
from armorm.features.store import Store, content_id
from armorm.features.store.artifacts import why_stale
from armorm.features.store.estimate import Planned, estimate, total, unknown
from armorm.features.store.stage import Computed, Part
from armorm.features.store.storage import replace_file
from armorm.features.units import in_words, size
from armorm.flows.configuration.settings import Settings, check_trainable
from armorm.stages.pipeline import PIPELINE
from armorm.stages.preconditions import require_data


@dataclass(frozen=True, slots=True)
class Premises:
    """The world that a plan was made in: in another one it does not hold."""

    snapshot: int
    """Its number, for people: a tag makes another number of the same content."""
    snapshot_id: str
    code_version: str
    settings: Mapping[str, str]
    """A hash of the settings of each table of the configuration, those of the environment included: 32 hex digits."""
    inputs: Mapping[str, str]
    """A hash of the files of each dataset and of the backbone (32 hex digits), or its commit on the Hub."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The files of the datasets and of the backbone, and the stages with why each would run."""

    premises: Premises
    files: list[Files]
    steps: list[Planned]

    @property
    def total(self) -> Planned:
        """All stages together."""
        return total(self.steps)

    @property
    def line(self) -> str:
        """One line for people."""
        whole = self.total
        if not whole.runs:
            return f"nothing to do on snapshot {self.premises.snapshot}"
        time = "a time that is not known" if whole.seconds is None else in_words(whole.seconds)
        return f"on snapshot {self.premises.snapshot}: {whole.reason} would run, in {time}"

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it, also for `armorm run --plan`."""
        return {
            "premises": asdict(self.premises),
            "files": [asdict(files) for files in self.files],
            "steps": [step.as_json() for step in self.steps],
            "total": self.total.as_json(),
        }


def plan_run(settings: Settings) -> Plan:
    """Ask the file system, the Hub and the store; what depends on a stage that would run is estimated, or not known.

    Raises:
        ConfigError: a run would refuse the settings.
        ArmormError: what is ingested is not enough for a stage.
    """
    check_trainable(settings)
    store = settings.open_store()
    snapshot = store.head()
    files, ingests = _ingests(store, settings)
    steps = [*(step for step, _ in ingests.values()), *_removals(store, settings)]
    if not any(step.runs for step in steps):  # else the run finds out after its ingest
        require_data(store, snapshot, settings.decorrelation, settings.gate)
    backbone, fingerprint = _backbone(settings)
    inputs = {name: files[name].revision or digest for name, (_, digest) in ingests.items()}
    premises = Premises(
        snapshot.number,
        snapshot.snapshot_id,
        version("armorm"),
        {table: content_id(of) for table, of in settings.model_dump(mode="json").items()},
        inputs | {"backbone": backbone.revision or (fingerprint.backbone_id if fingerprint else "")},
    )
    to_ingest = {name: files[name].size_bytes for name, (step, _) in ingests.items() if step.runs}
    later = _later(store, settings, fingerprint, to_ingest, ingesting=any(step.runs for step in steps))
    return Plan(premises, [*files.values(), backbone], steps + later)


def plan_ingest(settings: Settings) -> list[Planned]:
    """Return the stages of `armorm ingest`; no backbone is looked at."""
    store = settings.open_store()
    _, ingests = _ingests(store, settings)
    steps = [*(step for step, _ in ingests.values()), *_removals(store, settings)]
    ingesting = any(step.runs for step in steps)
    return steps + _later(store, settings, None, {}, ingesting=ingesting, only=stage_names("check"))


def plan_stages(settings: Settings, *only: str) -> list[Planned]:
    """Plan some stages after ingest, on the data that the store holds; no native file is read."""
    _, fingerprint = _backbone(settings)
    return _later(settings.open_store(), settings, fingerprint, {}, ingesting=False, only=only)


def stage_names(*parts: Part) -> tuple[str, ...]:
    """Return the stages of some parts of the pipeline."""
    return tuple(stage.name for stage in PIPELINE if stage.part in parts)


def write_plan(plan: Plan, path: Path) -> None:
    """Keep a plan, so that exactly it can be run."""
    replace_file(path, (json.dumps(plan.as_json(), indent=2, ensure_ascii=False) + "\n").encode())


def require_unmoved(path: Path, now: Plan) -> None:
    """Refuse a written plan that a plan made now no longer agrees with.

    Raises:
        InputError: the file is no plan.
        PlanOutdated: the store, the settings, a file, the backbone or armorm itself has moved since.
    """
    try:
        document = parse_object(path.read_bytes())
        planned = Premises(**document["premises"])
        before = _told(planned, {step["name"]: step["reason"] for step in document["steps"]})
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise InputError(f"{path}: got no plan; expected one of `armorm plan --out FILE`; make a new plan") from error
    after = _told(now.premises, {step.name: step.reason for step in now.steps})
    for what in sorted({*before, *after}, key=lambda what: (what.startswith("stage"), what)):
        if before.get(what) != after.get(what):
            raise PlanOutdated(str(path), what, after.get(what, "nothing"), before.get(what, "nothing"))


def _told(premises: Premises, reasons: Mapping[str, str | None]) -> dict[str, str]:
    """Return all that has to be the same, by what it is called."""
    return {
        "snapshot": premises.snapshot_id,
        **{f"settings of {table}": digest for table, digest in premises.settings.items()},
        "version of armorm": premises.code_version,
        **{f"files of {name}": digest for name, digest in premises.inputs.items()},
        **{f"stage {name}": reason or "up to date" for name, reason in reasons.items()},
    }


def require_within(plan: Plan, *, max_rows: int | None, max_seconds: float | None) -> None:
    """Let no run begin that would do more than was meant.

    Raises:
        OverLimit: the plan's total is more than a limit, or is not known.
    """
    whole = plan.total
    for name, got, limit, shown in (
        ("--max-rows", whole.rows, max_rows, lambda n: f"{n:,} rows"),
        ("--max-time", whole.seconds, max_seconds, in_words),
    ):
        if limit is None or (got is not None and got <= limit):
            continue
        if got is None:
            steps = [step for step in plan.steps if (step.rows if name == "--max-rows" else step.seconds) is None]
            more = f", and {len(steps) - 1} stages more" if len(steps) > 1 else ""
            first = f"{steps[0].name}: {steps[0].basis}"
            raise OverLimit(name, f"unknown {name.removeprefix('--max-')} ({first}{more})", shown(limit))
        raise OverLimit(name, shown(got), shown(limit))


def _ingests(store: Store, settings: Settings) -> tuple[dict[str, Files], dict[str, tuple[Planned, str]]]:
    """Return the files of each configured dataset, and what `_ingest` says."""
    files = {name: _files(settings, name) for name in settings.datasets}
    return files, {name: _ingest(store, settings, of) for name, of in files.items()}


def _removals(store: Store, settings: Settings) -> list[Planned]:
    gone = sorted(store.head().within("ingest").keys() - settings.datasets.keys())
    return [Planned(f"ingest {name}", "no longer in the configuration: it leaves the snapshot") for name in gone]


def _backbone(settings: Settings) -> tuple[Files, Fingerprint | None]:
    """Return the backbone's files, and its fingerprint if they are all there."""
    files = backbone_files(settings.local_backbone())
    return files, None if files.problem or files.missing_bytes else read_fingerprint(settings.local_backbone())


def _files(settings: Settings, name: str) -> Files:
    section = settings.datasets[name]
    if section.uri:
        return hub_files(name, parse_uri(section.uri), settings.hub_patterns(name))
    dataset = settings.dataset(name)
    return local_files(name, dataset.path, lambda: list(dataset_files(dataset).read))


def _ingest(store: Store, settings: Settings, files: Files) -> tuple[Planned, str]:
    """Return the stage, and 32 hex digits over the files' hashes where they are on this machine."""
    name = f"ingest {files.name}"
    if files.problem:
        step = unknown(name, "cannot be told", "its files cannot be seen", n_bytes=None)
        return replace(step, what=files.problem), ""
    what = f"{files.n_files} files, {size(files.size_bytes)}"
    if files.missing_bytes:
        what = f"{what}, of which {size(files.missing_bytes)} are to be fetched"
        basis = "the speed of the network is not known"
        return replace(unknown(name, "not fetched yet", basis, n_bytes=files.size_bytes), what=what), ""
    uri = settings.datasets[files.name].uri
    dataset = settings.dataset(files.name, download_dataset(uri, settings.hub_patterns(files.name)) if uri else None)
    recipe, head = ingest_recipe(store, dataset, settings.split), store.head()
    reason = why_stale(recipe, head.artifacts.get(recipe.slot))
    step = estimate(head, name, reason, {"bytes": files.size_bytes}, slot=recipe.slot, what=what)
    return step, content_id(dict(recipe.inputs))


def _later(
    store: Store,
    settings: Settings,
    fingerprint: Fingerprint | None,
    to_ingest: Mapping[str, int],
    *,
    ingesting: bool,
    only: Collection[str] | None = None,
) -> list[Planned]:
    """Plan every stage after ingest, or only some: why it would run, or what it waits for."""
    snapshot = store.head()
    waiting = {"ingest"} if ingesting else set()
    blind = ingesting and not settings.datasets.keys() <= snapshot.within("ingest").keys()
    """Whether a dataset comes that the store knows nothing of."""
    steps = []
    for stage in PIPELINE:
        if stage is INGEST or (only is not None and stage.name not in only):
            continue
        waits_for = next((one for one in stage.after if one in waiting), None)
        if isinstance(stage, Computed):
            of = stage.settings_in(settings)
            work = stage.work_of(snapshot, of)
            backbone_id = fingerprint.backbone_id if fingerprint else ""
            reason = f"after {waits_for}" if waits_for else stage.reason(snapshot, of, backbone_id)
            if reason and blind and work:
                step = unknown(stage.name, reason, "not known before ingest")
            else:
                step = estimate(snapshot, stage.name, reason, work)
                if step.runs and ingesting and work:
                    step = replace(step, basis=f"{step.basis}; rows as before ingest")
        else:
            step = _embed(store, settings, fingerprint, waiting, to_ingest)
        steps.append(step)
        waiting |= {stage.name} if step.runs else set()
    return steps


def _embed(
    store: Store, settings: Settings, fingerprint: Fingerprint | None, waiting: set[str], to_ingest: Mapping[str, int]
) -> Planned:
    vector_type = settings.embed.vector_type_of(settings.backbone.dtype)
    if fingerprint is None:
        after = "ingest" if "ingest" in waiting else "fetching the backbone"
        return unknown("embed", f"after {after}", "not known before the backbone is there", n_bytes=None)
    if to_ingest:
        return plan_embedding_at_most(store, fingerprint, vector_type, "after ingest", to_ingest)
    return plan_embedding(store, fingerprint, vector_type)

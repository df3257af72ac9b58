"""Flows that look after a store: checksums, what can be collected or must be forgotten, and whether it is fresh."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from armorm.features.errors import CorruptObject, InputError
from armorm.features.lineage.forget import Forgetting, LeftVector, left_vectors, replace_shards
from armorm.features.lineage.forget import forget as put_on_list
from armorm.features.store import Writer
from armorm.features.store.freshness import last_runs, require_fresh, told
from armorm.features.units import parse_duration
from armorm.features.upkeep.gc import collect, plan_collection
from armorm.features.upkeep.verify import verify as compare
from armorm.flows.configuration.scheduled import BY_HAND, RunLimits, run_name
from armorm.flows.configuration.settings import Settings, load_settings
from armorm.flows.ingest import fetch_dataset, ingest_one
from armorm.flows.runlog.lineage_text import to_retrain
from armorm.flows.runlog.observers import writing
from armorm.flows.runlog.outcomes import Step
from armorm.stages.model import check_model_folders
from armorm.stages.pipeline import PIPELINE


@flow(flow_run_name=run_name, persist_result=False)
def verify(config: Path, sample: float = 1.0) -> str:
    """Compare the checksums of every manifest, model folder and object, or of a share of the objects.

    Raises:
        CorruptObject: any is damaged.
    """
    settings = load_settings(config)
    store = settings.open_store()
    found = compare(store, share=sample, seed=random.SystemRandom().getrandbits(64))
    for damage in found.damages:
        get_run_logger().error(f"{damage.name}: {damage.problem}")
    folders = check_model_folders(store, settings.models_path)
    for folder in folders:
        get_run_logger().error(folder.problem)
    if found.damages or folders:
        line = found.line + (f"; {len(folders)} model folders damaged" if folders else "")
        raise CorruptObject(store.place, line, "all as they were written; run `armorm verify --repair`")
    get_run_logger().info(found.line)
    return found.line


@flow(flow_run_name=run_name, persist_result=False)
def gc(config: Path, delete: bool = False, limits: RunLimits = BY_HAND) -> str:
    """Say what no kept snapshot refers to; with `delete`, collect it."""
    settings = load_settings(config)
    if delete:
        with writing(settings, "armorm gc", limits, kind="gc") as writer:
            line = collect(writer, settings.retention).line
    else:
        line = f"{plan_collection(settings.open_store(), settings.retention).line}; nothing was deleted"
    get_run_logger().info(line)
    return line


@flow(flow_run_name=run_name, persist_result=False)
def freshness(config: Path, max_age: str, of: str = "ingest") -> str:
    """Return the alarm: fails if a stage has not succeeded lately, as `armorm status --max-age` does.

    Raises:
        TooOld: it has not.
    """
    store = load_settings(config).open_store()
    require_fresh(store, parse_duration(max_age), of)
    line = told(last_runs(store))
    get_run_logger().info(line)
    return line


@dataclass(frozen=True, slots=True)
class Forgot:
    """What was done, and what is left to do."""

    forgotten: Forgetting
    steps: Sequence[Step]
    """Datasets that were read again."""
    waiting: Mapping[str, str]
    """Datasets that still hold it, or may, and why they could not be read again."""
    vectors: Sequence[LeftVector]
    """Vectors of its texts, which were taken out of their shards, and its texts that were rejected."""

    @property
    def lines(self) -> list[str]:
        """Lines for people."""
        entry = self.forgotten.entry
        lines = [f"{entry.kind} {entry.id}: left out of every ingest from now on ({entry.reason})"]
        lines += [f"{name} may still hold it ({why}); run `armorm ingest`" for name, why in self.waiting.items()]
        vectors = [left for left in self.vectors if not left.rejected]
        if vectors:
            shards = len({vector.slot for vector in vectors})
            lines.append(f"{len(vectors)} vectors of its texts were taken out of {shards} shards")
        if rejected := len(self.vectors) - len(vectors):
            lines.append(f"{rejected} of its texts were taken out of those that a backbone gives no usable vector for")
        lines.append(to_retrain(self.forgotten.before.retrain))
        return [*lines, "older snapshots keep it until `armorm gc` has collected them"]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        entry = self.forgotten.entry
        return {
            "kind": entry.kind,
            "id": entry.id,
            "reason": entry.reason,
            "ingested": [step.name.removeprefix("ingest ") for step in self.steps],
            "waiting": dict(self.waiting),
            "vectors": [{"slot": of.slot, "kind": of.kind, "id": of.id} for of in self.vectors],
            "retrain": [node.artifact_id for node in self.forgotten.before.retrain],
        }


@flow
def forget(config: Path, key: str, reason: str) -> Forgot:
    """Forget one native row or prompt."""
    settings = load_settings(config)
    with writing(settings, "armorm forget") as writer:
        found = put_on_list(writer, key, reason, settings.rules(), stages=PIPELINE)
        steps, waiting = list[Step](), dict[str, str]()
        for name in found.affected:
            try:
                steps.append(_ingest_again(writer, settings, name))
            except InputError as error:
                waiting[name] = str(error)
                get_run_logger().warning(f"ingest {name}: not read again: {error}")
        left = left_vectors(writer.store, found.before.key)
        replace_shards(writer, left)
        return Forgot(found, steps, waiting, left)


def _ingest_again(writer: Writer, settings: Settings, name: str) -> Step:
    if name not in settings.datasets:
        raise InputError("it is no longer configured, and leaves with the next ingest")
    uri = settings.datasets[name].uri
    fetched = fetch_dataset(name, uri, settings.hub_patterns(name)) if uri else None
    return ingest_one(writer, settings.dataset(name, fetched), settings.split)

"""Flows that look after a store: its checksums, what can be collected, and whether it is fresh."""

import random
from pathlib import Path

from prefect import flow, get_run_logger

from armorm.features.durations import parse_duration
from armorm.features.errors import CorruptObject
from armorm.features.store.freshness import last_runs, require_fresh, told
from armorm.features.upkeep.gc import collect, plan_collection
from armorm.features.upkeep.verify import verify as compare
from armorm.flows.configuration.scheduled import BY_HAND, Limits, run_name
from armorm.flows.configuration.settings import load_settings
from armorm.flows.runlog.observers import writing
from armorm.stages.model import check_model_folders


@flow(flow_run_name=run_name, persist_result=False)
def verify(config: Path, sample: float = 1.0) -> str:
    """Compares the checksums of every manifest, model folder and object, or of a share of the objects.

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
def gc(config: Path, delete: bool = False, limits: Limits = BY_HAND) -> str:
    """Says what no kept snapshot refers to; with `delete`, collects it."""
    settings = load_settings(config)
    if delete:
        with writing(settings, "armorm gc", limits, kind="gc") as writer:
            line = collect(writer, settings.retention).line
    else:
        line = f"{plan_collection(settings.open_store(), settings.retention).line}; nothing was done"
    get_run_logger().info(line)
    return line


@flow(flow_run_name=run_name, persist_result=False)
def freshness(config: Path, max_age: str, of: str = "ingest") -> str:
    """The alarm: fails if a stage has not succeeded lately, as `armorm status --max-age` does.

    Raises:
        TooOld: it has not.
    """
    store = load_settings(config).open_store()
    require_fresh(store, parse_duration(max_age), of)
    line = told(last_runs(store))
    get_run_logger().info(line)
    return line

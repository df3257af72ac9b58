"""The ingest flow: native files, fetched from the Hub where they lie there, become canonical tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from armorm.features.catalog.diff import count_changes
from armorm.features.conversation import SplitFractions
from armorm.features.embedding.embed import why_incomplete
from armorm.features.embedding.fingerprint import read_fingerprint
from armorm.features.errors import HubUnreachable
from armorm.features.hub import HubFiles
from armorm.features.ingest.dataset import INGEST, DatasetFiles, forget_unconfigured, ingest_dataset
from armorm.features.ingest.hub import download_dataset
from armorm.features.store import Snapshot, Writer
from armorm.features.store.freshness import record_success
from armorm.features.units import size
from armorm.flows.configuration.scheduled import BY_HAND, RunLimits, run_name
from armorm.flows.configuration.settings import Settings, load_settings, require_files
from armorm.flows.plan import plan_ingest
from armorm.flows.runlog import events
from armorm.flows.runlog.observers import writing
from armorm.flows.runlog.outcomes import Step
from armorm.flows.runlog.prefect_artifacts import show_done, show_plan
from armorm.flows.runlog.progress import progress
from armorm.flows.stages import run_checks


def _may_pass(task: Any, run: Any, state: Any) -> bool:
    """Return whether what stopped a task is worth a retry."""
    return isinstance(state.result(raise_on_failure=False), HubUnreachable)


@task(
    task_run_name="fetch {name}",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[5, 30],
    retry_condition_fn=_may_pass,
)
def fetch_dataset(name: str, uri: str, patterns: Sequence[str]) -> HubFiles:
    """Fetch a dataset's files from the Hub, as far as the cache lacks them; the only task with network and retries."""
    fetched = download_dataset(uri, patterns)
    what = f"{len(fetched.files)} files, {size(fetched.size_bytes)}"
    get_run_logger().info(f"fetch {name}: {what} of {uri}, commit {fetched.revision}")
    return fetched


@task(task_run_name="ingest {dataset.source.name}", cache_policy=NO_CACHE)
def ingest_one(writer: Writer, dataset: DatasetFiles, splits: SplitFractions) -> Step:
    """Return one dataset, if its files or settings have changed."""
    with progress(f"reading {dataset.source.name}", of_bytes=True) as on_bytes:
        done = ingest_dataset(
            writer,
            dataset,
            splits=splits,
            on_progress=lambda rows, n_bytes, total: on_bytes(n_bytes, total, f"{rows:,} rows"),
        )
    step = Step(f"ingest {dataset.source.name}", done.reason, INGEST.line(writer.store, done.artifact))
    get_run_logger().info(step.line)
    return step


def run_ingest(writer: Writer, settings: Settings) -> list[Step]:
    """Ingest every configured dataset, take those no longer configured out of the snapshot, and run the checks."""
    fetched = {
        name: fetch_dataset(name, section.uri, settings.hub_patterns(name))
        for name, section in settings.datasets.items()
        if section.uri
    }
    for name in forget_unconfigured(writer, settings.datasets):
        get_run_logger().info(f"ingest {name}: no longer in the configuration, taken out of the snapshot")
    datasets = [settings.dataset(name, fetched.get(name)) for name in settings.datasets]
    ingested = [ingest_one(writer, dataset, settings.split) for dataset in datasets]
    return [*ingested, *run_checks(writer, settings)]


@flow(flow_run_name=run_name, persist_result=False)
def ingest(config: Path, limits: RunLimits = BY_HAND) -> list[Step]:
    """Read what has changed among the datasets of a configuration file, and emit an event for those who embed."""
    settings = load_settings(config)
    require_files(settings)
    with writing(settings, "armorm ingest", limits) as writer:
        before = show_plan(writer.store, plan_ingest(settings))
        steps = run_ingest(writer, settings)
        show_done(writer.store, before, steps)
        record_success(writer, "ingest")
    tell_of_change(settings, before)
    return steps


def tell_of_change(settings: Settings, before: Snapshot) -> None:
    """Emit an event if anything was committed since a snapshot, or still waits for its vector.

    So an embedding that was killed is taken up when the next ingest has come to its end, changes or none.
    """
    store = settings.open_store()
    head, changed = store.head(), {}
    if head.number != before.number:
        changed = count_changes(store, before, head)
    else:
        backbone_id = read_fingerprint(settings.local_backbone()).backbone_id
        if not why_incomplete(store, backbone_id, settings.embed.vector_type_of(settings.backbone.dtype)):
            return
    payload = {"number": head.number, "snapshot_id": head.snapshot_id, "changed": changed}
    events.emit(events.COMMITTED, store, payload)

"""The ingest flow: native files become canonical tables."""

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from features.conversation import SplitFractions
from features.ingest.dataset import DatasetFiles, forget_unconfigured, ingest_dataset
from features.store import Done, Store, Writer
from flows.console import progress
from flows.settings import Settings, load_settings
from flows.steps import Step


@task(task_run_name="ingest {dataset.name}", cache_policy=NO_CACHE)
def ingest_one(writer: Writer, dataset: DatasetFiles, splits: SplitFractions) -> Step:
    """One dataset, if its files or settings have changed."""
    with progress(f"reading {dataset.name}") as on_rows:
        done = ingest_dataset(writer, dataset, splits=splits, on_rows=on_rows)
    step = _step(done)
    get_run_logger().info(step.line)
    return step


def run_ingest(writer: Writer, settings: Settings) -> list[Step]:
    """Every configured dataset; those that are no longer configured leave the snapshot."""
    for name in forget_unconfigured(writer, settings.datasets):
        get_run_logger().info(f"ingest {name}: no longer in the configuration, taken out of the snapshot")
    return [ingest_one(writer, dataset, settings.split) for dataset in settings.dataset_files()]


@flow
def ingest(config: Path) -> list[Step]:
    """Reads what has changed among the datasets of a configuration file."""
    settings = load_settings(config)
    with Store(settings.store_path).writing("armorm ingest") as writer:
        return run_ingest(writer, settings)


def _step(done: Done) -> Step:
    summary = done.artifact.summary
    counts = {name: sum(reasons.values()) for name, reasons in summary["outcomes"].items()}
    listed = ", ".join(f"{count} rows {name}" for name, count in counts.items())
    if summary["parts_refused"]:
        listed += f", {summary['parts_refused']} parts of rows refused"
    what = f"{listed}; {summary['ratings']} ratings, {summary['preferences']} pairs"
    return Step(f"ingest {summary['dataset']}", done.reason, what)

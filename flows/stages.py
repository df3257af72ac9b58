"""The stages of the pipeline that make one artifact each, as tasks."""

from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from armorm.features.catalog.savings import sharing
from armorm.features.checks.quality import QUALITY, require_passed
from armorm.features.embedding.fingerprint import read_fingerprint
from armorm.features.store import Store, Writer
from armorm.features.store.stage import Computed, Part
from armorm.flows.configuration.settings import Settings
from armorm.flows.runlog.outcomes import Step
from armorm.flows.runlog.prefect_artifacts import show_quality
from armorm.flows.runlog.progress import progress
from armorm.stages.common import stage_artifact
from armorm.stages.pipeline import computed


@task(task_run_name="{stage.name}", cache_policy=NO_CACHE)
def run_stage(writer: Writer, stage: Computed[Any], settings: Settings, backbone_id: str = "") -> Step:
    """A stage, if its inputs, settings or version have changed."""
    with progress(stage.name) as on_progress:
        done = stage.ensure(writer, stage.settings_in(settings), backbone_id, on_progress=on_progress)
    step = Step(stage.name, done.reason, stage.line(writer.store, done.artifact))
    get_run_logger().info(step.line)
    if done.reason and (warning := stage.warning_of(stage.told(writer.store, done.artifact))):
        get_run_logger().warning(f"{stage.name}: {warning}")
    return step


def run_part(writer: Writer, part: Part, settings: Settings) -> list[Step]:
    """Return the stages of a part that reads the configured backbone's vectors, in order."""
    backbone_id = read_fingerprint(settings.local_backbone()).backbone_id
    return [run_stage(writer, stage, settings, backbone_id) for stage in computed(part)]


@task(task_run_name="sharing", cache_policy=NO_CACHE)
def publish_sharing(store: Store) -> None:
    """Puts into Prefect what datasets share, and what that saves."""
    for name, table in sharing(store).items():
        create_table_artifact(
            table.records, key=f"armorm-{name}", description=f"What datasets share; in the store: SELECT * FROM {name}"
        )


def run_quality(writer: Writer, settings: Settings) -> Step:
    """Return every check, if the data or the checks have changed.

    Raises:
        QualityError: one that stops a run finds rows, whether anything has changed or not.
    """
    step = run_stage(writer, QUALITY, settings)
    results = QUALITY.told(writer.store, stage_artifact(writer.store.head(), QUALITY.name))
    show_quality(results)
    require_passed(results)
    return step


def run_checks(writer: Writer, settings: Settings) -> list[Step]:
    """Return the quality, then every other stage of the checks; what datasets share is shown when data have changed."""
    checked = run_quality(writer, settings)
    if checked.reason:
        publish_sharing(writer.store)
    return [checked, *(run_stage(writer, stage, settings) for stage in computed("check") if stage is not QUALITY)]

"""Between ingest and embedding: the checks of the data, prompts that are evaluated on, and what datasets share."""

from collections.abc import Mapping

from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from armorm.features.catalog.savings import sharing
from armorm.features.checks.contamination import ContaminationSettings, find_contamination
from armorm.features.checks.quality import Severity, check_quality, read_results, require_passed
from armorm.features.store import Store, Writer
from armorm.flows.configuration.settings import Settings
from armorm.flows.runlog.outcomes import Step
from armorm.flows.runlog.prefect_artifacts import show_quality
from armorm.flows.runlog.progress import progress


@task(task_run_name="quality", cache_policy=NO_CACHE)
def quality(writer: Writer, severities: Mapping[str, Severity]) -> Step:
    """Every check, if the data or the checks have changed; one that stops ends the run, whether they have or not."""
    done = check_quality(writer, severities)
    results = read_results(writer.store, done.artifact)
    step = Step("quality", done.reason, str(done.artifact.summary["line"]))
    get_run_logger().info(step.line)
    show_quality(results)
    require_passed(results)
    return step


@task(task_run_name="contamination", cache_policy=NO_CACHE)
def contamination(writer: Writer, settings: ContaminationSettings) -> Step:
    """Prompts that stand in an evaluation dataset, if the data or the settings have changed."""
    with progress("comparing prompts with evaluation datasets") as on_progress:
        done = find_contamination(writer, settings, on_progress=on_progress)
    step = Step("contamination", done.reason, str(done.artifact.summary["line"]))
    get_run_logger().info(step.line)
    return step


@task(task_run_name="sharing", cache_policy=NO_CACHE)
def publish_sharing(store: Store) -> None:
    """Puts into Prefect what datasets share, and what that saves."""
    for name, table in sharing(store).items():
        create_table_artifact(
            table.records, key=f"armorm-{name}", description=f"What datasets share; in the store: SELECT * FROM {name}"
        )


def run_quality(writer: Writer, settings: Settings) -> list[Step]:
    """The checks, then the prompts to leave out; what datasets share is shown when the data have changed."""
    checked = quality(writer, settings.checks)
    if checked.reason:
        publish_sharing(writer.store)
    return [checked, contamination(writer, settings.contamination)]

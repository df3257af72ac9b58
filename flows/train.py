"""The train flow: regression, decorrelation, gate, and the model folder that they make."""

from pathlib import Path

from prefect import flow, get_run_logger

from armorm.features.store import Writer
from armorm.features.store.freshness import record_success
from armorm.flows.configuration.scheduled import BY_HAND, RunLimits, run_name
from armorm.flows.configuration.settings import Settings, load_settings, require_runnable
from armorm.flows.plan import plan_stages, stage_names
from armorm.flows.runlog.observers import writing
from armorm.flows.runlog.outcomes import Step
from armorm.flows.runlog.prefect_artifacts import show_done, show_plan
from armorm.flows.stages import run_checks, run_part
from armorm.stages.model import write_model_folder
from armorm.stages.preconditions import require_data


def run_train(writer: Writer, settings: Settings) -> list[Step]:
    """Return every stage of the training in order, then the model folder."""
    steps = run_part(writer, "train", settings)
    folder = write_model_folder(writer.store, settings.models_path)
    get_run_logger().info(f"model folder: {folder}")
    return steps


@flow(flow_run_name=run_name, persist_result=False)
def train(config: Path, limits: RunLimits = BY_HAND) -> list[Step]:
    """Train what has changed."""
    settings = load_settings(config)
    require_runnable(settings)
    with writing(settings, "armorm train", limits) as writer:
        before = show_plan(writer.store, plan_stages(settings, *stage_names("check", "train")))
        require_data(writer.store, writer.store.head(), settings.decorrelation, settings.gate)
        steps = [*run_checks(writer, settings), *run_train(writer, settings)]
        show_done(writer.store, before, steps)
        record_success(writer, "train")
    return steps

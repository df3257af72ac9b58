"""The train flow: regression, decorrelation, gate, and the model folder that they make."""

from collections.abc import Callable
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from armorm.features.embedding.fingerprint import fingerprint
from armorm.features.store import Done, Writer
from armorm.features.store.freshness import record_success
from armorm.flows.configuration.scheduled import BY_HAND, Limits, run_name
from armorm.flows.configuration.settings import Settings, check_trainable, load_settings, require_devices
from armorm.flows.plan import TRAIN, plan_stages
from armorm.flows.quality import run_quality
from armorm.flows.runlog.console import OnProgress
from armorm.flows.runlog.observers import writing
from armorm.flows.runlog.outcomes import Step
from armorm.flows.runlog.prefect_artifacts import show_done, show_plan
from armorm.flows.runlog.progress import progress
from armorm.stages.decorrelate import decorrelate
from armorm.stages.gate import train_gate
from armorm.stages.model import assemble, write_model_folder
from armorm.stages.preconditions import require_data
from armorm.stages.regress import regress
from armorm.stages.statistics import update_statistics


@task(task_run_name="{name}", cache_policy=NO_CACHE)
def train_stage(name: str, stage: Callable[[OnProgress], Done]) -> Step:
    """The statistics, one of the three stages, or the assembly, if its inputs or settings have changed."""
    with progress(name) as on_progress:
        done = stage(on_progress)
    step = Step(name, done.reason, str(done.artifact.summary["line"]))
    get_run_logger().info(step.line)
    if done.reason and (warning := done.artifact.summary.get("warning")):
        get_run_logger().warning(f"{name}: {warning}")
    return step


def run_train(writer: Writer, settings: Settings) -> list[Step]:
    """Statistics, then the three stages in order, then the model folder."""
    backbone_id = fingerprint(settings.local_backbone()).backbone_id
    steps = [
        train_stage("statistics", lambda on: update_statistics(writer, backbone_id, on_progress=on)),
        train_stage("regress", lambda _: regress(writer, backbone_id, settings.regression)),
        train_stage("decorrelate", lambda _: decorrelate(writer, backbone_id, settings.decorrelation)),
        train_stage("gate", lambda on: train_gate(writer, backbone_id, settings.gate, on_progress=on)),
        train_stage("model", lambda _: assemble(writer, backbone_id)),
    ]
    folder = write_model_folder(writer.store, settings.models_path)
    get_run_logger().info(f"model folder: {folder}")
    return steps


@flow(flow_run_name=run_name, persist_result=False)
def train(config: Path, limits: Limits = BY_HAND) -> list[Step]:
    """Trains what has changed."""
    settings = load_settings(config)
    check_trainable(settings)
    require_devices(settings)
    with writing(settings, "armorm train", limits) as writer:
        before = show_plan(writer.store, plan_stages(settings, *TRAIN))
        require_data(writer.store, writer.store.head(), settings.decorrelation, settings.gate)
        steps = [*run_quality(writer, settings), *run_train(writer, settings)]
        show_done(writer.store, before, steps)
        record_success(writer, "train")
    return steps

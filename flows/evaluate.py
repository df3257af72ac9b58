"""The evaluate flow: held-out pairs, baselines and RewardBench, their report, and whether the model is promoted."""

from collections.abc import Mapping
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from armorm.config import PromotionConfig
from armorm.features.checks.quality import Severity
from armorm.features.store import Writer
from armorm.features.store.freshness import record_success
from armorm.flows.configuration.scheduled import BY_HAND, RunLimits, run_name
from armorm.flows.configuration.settings import Settings, load_settings
from armorm.flows.plan import plan_stages, stage_names
from armorm.flows.runlog.observers import writing
from armorm.flows.runlog.outcomes import Step
from armorm.flows.runlog.prefect_artifacts import show_done, show_plan, show_promotion, show_report, show_results
from armorm.flows.stages import run_part
from armorm.release.report import load_report, report_path, write_report
from armorm.stages.promote import promote


def run_evaluate(writer: Writer, settings: Settings) -> list[Step]:
    """Evaluate, write the report beside the model if it is missing, and show it in Prefect."""
    steps = run_part(writer, "evaluate", settings)
    path = report_path(writer.store, settings.models_path)
    if any(step.reason for step in steps) or not path.exists():
        write_report(writer.store, settings.models_path)
        show_results(load_report(writer.store), "; ".join(step.what for step in steps))
    show_report(path)
    return steps


@task(task_run_name="promote", cache_policy=NO_CACHE)
def promote_model(writer: Writer, config: PromotionConfig, severities: Mapping[str, Severity]) -> Step:
    """Return the newest model, against the promoted one, if either is another than the last time."""
    promotion = promote(writer, config, severities)
    step = Step("promote", promotion.reason, promotion.line)
    get_run_logger().info(step.line)
    if promotion.reason:
        show_promotion(promotion)
    return step


def run_promote(writer: Writer, settings: Settings) -> Step:
    """Promote the newest model, or say why not; after `run_evaluate`."""
    return promote_model(writer, settings.promotion, settings.checks)


@flow(flow_run_name=run_name, persist_result=False)
def evaluate(config: Path, promote: bool = False, limits: RunLimits = BY_HAND) -> list[Step]:
    """Evaluate the newest model; with `promote` it becomes the promoted one if it beats that."""
    settings = load_settings(config)
    with writing(settings, "armorm evaluate", limits) as writer:
        before = show_plan(writer.store, plan_stages(settings, *stage_names("evaluate")))
        steps = [*run_evaluate(writer, settings), *([run_promote(writer, settings)] if promote else [])]
        show_done(writer.store, before, steps)
        record_success(writer, "evaluate")
    return steps

"""The evaluate flow: held-out pairs, baselines and RewardBench, and the report of them."""

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from armorm.config import EvaluationConfig
from armorm.report import Report, to_markdown
from armorm.stages import evaluate as stage
from armorm.stages.report import load_report, write_report
from features.embedding.fingerprint import fingerprint
from features.freshness import record_success
from features.store import Writer
from flows.observers import writing
from flows.scheduled import BY_HAND, Limits, run_name
from flows.settings import Settings, load_settings
from flows.steps import Step


@task(task_run_name="evaluate", cache_policy=NO_CACHE)
def evaluate_model(writer: Writer, backbone_id: str, config: EvaluationConfig) -> Step:
    """The newest model, if it or the data have changed."""
    done = stage.evaluate(writer, backbone_id, config)
    step = Step("evaluate", done.reason, str(done.artifact.summary["line"]))
    get_run_logger().info(step.line)
    return step


@task(cache_policy=NO_CACHE)
def publish_report(report: Report) -> None:
    """Puts the results into Prefect: all of them as Markdown, the held-out accuracies as a table."""
    create_markdown_artifact(to_markdown(report), key="armorm-report", description=report.title)
    pairs = next(section for section in report.sections if section.title == "Held-out pairs")
    rows = [dict(zip(pairs.columns, row, strict=True)) for row in pairs.rows]
    create_table_artifact(rows, key="armorm-held-out-pairs", description=pairs.note)


def run_evaluate(writer: Writer, settings: Settings) -> Step:
    """Evaluates, writes the report beside the model, and shows it in Prefect."""
    step = evaluate_model(writer, fingerprint(settings.local_backbone()).backbone_id, settings.evaluation)
    report = write_report(writer.store, settings.models_path)
    get_run_logger().info(f"report: {report}")
    publish_report(load_report(writer.store))
    return step


@flow(flow_run_name=run_name, persist_result=False)
def evaluate(config: Path, limits: Limits = BY_HAND) -> Step:
    """Evaluates the newest model."""
    settings = load_settings(config)
    with writing(settings, "armorm evaluate", limits) as writer:
        step = run_evaluate(writer, settings)
        record_success(writer, "evaluate")
    return step

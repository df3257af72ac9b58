"""The pipeline (ingest, embed, train, evaluate), and the end of it; only what is stale runs."""

from pathlib import Path

from prefect import flow, get_run_logger

from armorm.features.embedding.forecast import require_planned
from armorm.features.store.freshness import RUN, record_success
from armorm.flows.configuration.scheduled import BY_HAND, RunLimits, run_name
from armorm.flows.configuration.settings import load_settings, require_files, require_runnable
from armorm.flows.embed import run_embed
from armorm.flows.evaluate import run_evaluate, run_promote
from armorm.flows.ingest import run_ingest
from armorm.flows.plan import plan_run, plan_stages, stage_names
from armorm.flows.runlog.observers import writing
from armorm.flows.runlog.outcomes import Step
from armorm.flows.runlog.prefect_artifacts import show_done, show_plan
from armorm.flows.stages import run_checks
from armorm.flows.train import run_train
from armorm.stages.preconditions import require_data


@flow(flow_run_name=run_name, persist_result=False)
def pipeline(
    config: Path, planned_on: str | None = None, promote: bool = False, limits: RunLimits = BY_HAND
) -> list[Step]:
    """Run the pipeline: from native files to an evaluated model.

    Args:
        planned_on: the id of the snapshot that this run was planned on; nothing is done on another one.
        promote: whether a model that beats the promoted one takes its place.
    """
    settings = load_settings(config)
    require_runnable(settings)
    require_files(settings)
    with writing(settings, "armorm run", limits) as writer:
        if planned_on is not None:
            require_planned(writer.store, planned_on)
        before = show_plan(writer.store, plan_run(settings).steps)
        ingested = run_ingest(writer, settings)
        require_data(writer.store, writer.store.head(), settings.decorrelation, settings.gate)
        steps = [
            *ingested,
            run_embed(writer, settings),
            *run_train(writer, settings),
            *run_evaluate(writer, settings),
            *([run_promote(writer, settings)] if promote else []),
        ]
        show_done(writer.store, before, steps)
        record_success(writer, RUN)
    if not any(step.reason for step in steps):
        get_run_logger().info("nothing to do: files, settings and backbone are those of the last run")
    return steps


@flow(flow_run_name=run_name, persist_result=False)
def retrain(config: Path, promote: bool = True, limits: RunLimits = BY_HAND) -> list[Step]:
    """Train what has changed, on what has its vectors; evaluate it, and promote it if it is better."""
    settings = load_settings(config)
    require_runnable(settings)
    with writing(settings, "armorm train", limits) as writer:
        before = show_plan(writer.store, plan_stages(settings, *stage_names("check", "train", "evaluate")))
        require_data(writer.store, writer.store.head(), settings.decorrelation, settings.gate)
        steps = [*run_checks(writer, settings), *run_train(writer, settings)]
        record_success(writer, "train")
        steps += run_evaluate(writer, settings)
        record_success(writer, "evaluate")
        if promote:
            steps.append(run_promote(writer, settings))
        show_done(writer.store, before, steps)
    return steps

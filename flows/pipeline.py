"""The whole line: ingest, embed, train, evaluate; only what is stale runs."""

from pathlib import Path

from prefect import flow, get_run_logger

from features.freshness import record_success
from features.plan import require_planned
from flows.embed import run_embed
from flows.evaluate import run_evaluate
from flows.ingest import run_ingest
from flows.observers import writing
from flows.settings import check_trainable, load_settings
from flows.steps import Step
from flows.train import run_train


@flow
def pipeline(config: Path, planned_on: str | None = None) -> list[Step]:
    """From native files to an evaluated model.

    Args:
        config: the configuration file.
        planned_on: the id of the snapshot that this run was planned on; nothing is done on another one.
    """
    settings = load_settings(config)
    check_trainable(settings)
    with writing(settings, "armorm run") as writer:
        if planned_on is not None:
            require_planned(writer.store, planned_on)
        steps = [
            *run_ingest(writer, settings),
            run_embed(writer, settings),
            *run_train(writer, settings),
            run_evaluate(writer, settings),
        ]
        record_success(writer)
    if not any(step.reason for step in steps):
        get_run_logger().info("nothing to do: files, settings and backbone are those of the last run")
    return steps

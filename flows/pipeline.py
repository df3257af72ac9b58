"""The whole line: ingest, embed, train, evaluate; only what is stale runs."""

from pathlib import Path

from prefect import flow, get_run_logger

from flows.embed import run_embed
from flows.evaluate import run_evaluate
from flows.ingest import run_ingest
from flows.observers import writing
from flows.settings import check_trainable, load_settings
from flows.steps import Step
from flows.train import run_train


@flow
def pipeline(config: Path) -> list[Step]:
    """From native files to an evaluated model."""
    settings = load_settings(config)
    check_trainable(settings)
    with writing(settings, "armorm run") as writer:
        steps = [
            *run_ingest(writer, settings),
            run_embed(writer, settings),
            *run_train(writer, settings),
            run_evaluate(writer, settings),
        ]
    if not any(step.reason for step in steps):
        get_run_logger().info("nothing to do: files, settings and backbone are those of the last run")
    return steps

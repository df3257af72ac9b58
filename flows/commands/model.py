"""Commands about a trained model: scoring with it, and exporting it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import console
from flows.options import DEFAULT_CONFIG, As, Config, Format, existing_store
from flows.settings import ConfigError, load_settings

if TYPE_CHECKING:
    from armorm.model import RewardModel
    from armorm.steering import Steering
    from features.embedding.backbone import Backbone

app = typer.Typer()


@app.command()
def score(
    file: Annotated[
        Path, typer.Argument(help="JSONL or Parquet of conversations (`messages`) or pairs (`chosen`, `rejected`).")
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="A model's id or folder, a downloaded ArmoRM for one; the promoted or newest by default.",
        ),
    ] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Show the objectives that made each score.")] = False,
    only: Annotated[str, typer.Option("--only", help="The objectives that count: a,b.")] = "",
    weights: Annotated[str, typer.Option("--weights", help="Factors of the gate's weights: a=2,b=0.")] = "",
    mixture: Annotated[
        Path | None, typer.Option("--mixture", help='A JSON file with weights in place of the gate\'s: {"a": 0.7}.')
    ] = None,
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Score conversations or pairs with a trained model, in a file of any size; nothing is if a line is malformed.

    Example: `armorm score conversations.jsonl --explain`
    """
    from armorm.scoring.files import count_requests, score_file
    from armorm.scoring.tables import explain_tables, summary_table

    steering = _steering(only, weights, mixture)
    n_requests = count_requests(file)
    reward_model, load_backbone, token_budget = _model_and_backbone(model, config)
    if steering:
        steering.require_known(reward_model.objectives)
    with console.progress("scoring") as on_progress:
        chunks = score_file(
            file,
            reward_model,
            load_backbone(),
            token_budget=token_budget,
            steering=steering,
            on_progress=lambda done: on_progress(done, n_requests),
        )
        for scored in chunks:
            if format is Format.json:
                for one in scored:
                    console.print_json(one.as_json(explain=explain))
                sys.stdout.flush()
                continue
            for section in [summary_table(scored), *(explain_tables(scored) if explain else [])]:
                console.print_table(section.columns, section.rows, title=section.title)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    model: Annotated[str, typer.Option("--model", "-m", help="A model's id; the promoted or newest by default.")] = "",
    max_shard_size: Annotated[str, typer.Option("--max-shard-size", help="Of a file of weights.")] = "5GB",
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Write a model with its backbone as a Hugging Face folder, which transformers loads where armorm is not installed.

    Example: `armorm export reward-model`
    """
    from armorm.scoring.models import find_model
    from armorm.stages.export import export_model

    store = existing_store(config)
    artifact = find_model(model, store)
    with console.progress("exporting"):
        written = export_model(
            store, artifact, load_settings(config).local_backbone(), folder, max_shard_size=max_shard_size
        )
    print(f"model {artifact.artifact_id}: {'written to' if written else 'already in'} {folder}")


def _model_and_backbone(name: str, config: Path) -> "tuple[RewardModel, Callable[[], Backbone], int]":
    """The model, what loads the backbone that it is to be used with, and the tokens of a pass.

    A folder with a backbone of its own needs no configuration.
    """
    from armorm.scoring.backbones import require_backbone
    from armorm.scoring.model import RewardModel
    from armorm.scoring.models import open_model
    from features.embedding.backbone import load
    from features.embedding.embed import EmbedSettings

    in_folder = bool(name) and Path(name).is_dir()
    if in_folder and not config.exists():
        own = RewardModel.load(name)
        if own.backbone_settings is not None:
            return own, lambda: own.loaded_backbone, EmbedSettings().token_budget
    settings = load_settings(config)
    token_budget, configured = settings.embed.token_budget, settings.local_backbone()
    if in_folder:
        given = RewardModel.load(name, backbone=configured, device=configured.device)
        return given, lambda: given.loaded_backbone, token_budget
    opened = open_model(name, settings.open_store(), settings.models_path)
    marks = require_backbone(configured, opened)
    return opened, lambda: load(configured, marks), token_budget


def _steering(only: str, weights: str, mixture: Path | None) -> "Steering | None":
    from armorm.steering import Steering

    if not (only or weights or mixture):
        return None
    return Steering(
        only=[name.strip() for name in only.split(",") if name.strip()],
        weights=dict(_factor(text) for text in weights.split(",") if text.strip()),
        mixture=_mixture(mixture) if mixture else None,
    )


def _factor(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        return name.strip(), float(number)
    except ValueError as error:
        raise ConfigError(
            f"got --weights {text}; expected name=number; say --weights {name or 'a'}=2, for one"
        ) from error


def _mixture(path: Path) -> dict[str, float]:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(weight) for name, weight in given.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f'{path}: got no mixture ({error}); expected JSON such as {{"a": 0.7}}; mend it') from error

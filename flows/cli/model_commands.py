"""Commands about a trained model: scoring with it, looking into it, evaluating and exporting it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from armorm.features.documents import parse_object
from armorm.flows.cli.options import DEFAULT_CONFIG, As, Config, Format, existing_store
from armorm.flows.cli.tethered import tether
from armorm.flows.configuration.settings import ConfigError, Settings, load_settings
from armorm.flows.runlog import console

if TYPE_CHECKING:
    from armorm.features.embedding.backbone import Backbone
    from armorm.maths.steering import Steering
    from armorm.model.head import RewardHead

app = typer.Typer()


@app.command()
def score(
    file: Annotated[
        Path,
        typer.Argument(help="JSONL, Parquet, Arrow or CSV of conversations (`messages`), pairs, or rows of own data"),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="A model's id or folder, for example a downloaded ArmoRM; the promoted or newest by default.",
        ),
    ] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what made each score, and what decided between a pair's answers.")
    ] = False,
    lower: Annotated[
        float | None,
        typer.Option("--lower", help="Give the bound that a score is below with this probability, such as 0.05."),
    ] = None,
    only: Annotated[str, typer.Option("--only", help="Count these objectives alone: a,b.")] = "",
    weights: Annotated[str, typer.Option("--weights", help="Factors of the gate's weights: a=2,b=0.")] = "",
    mixture: Annotated[
        Path | None, typer.Option("--mixture", help='A JSON file with weights in place of the gate\'s: {"a": 0.7}.')
    ] = None,
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Score conversations or pairs with a trained model, in a file of any size; a malformed line stops the file.

    Example: `armorm score conversations.jsonl --explain`
    """
    from armorm.features.ingest.requests import count_requests
    from armorm.scoring.files import score_file
    from armorm.scoring.reward_model import TOKEN_BUDGET
    from armorm.scoring.tables import explain_tables, summary_table

    steering = _steering(only, weights, mixture)
    settings = _settings(model, config)
    forms = settings.own_forms() if settings else ()
    n_requests = count_requests(file, forms, on_note=console.print_note)
    reward_model, load_backbone = _model_and_backbone(model, settings)
    if steering:
        steering.require_known(reward_model.objectives)
    with console.progress("scoring") as on_progress:
        chunks = score_file(
            file,
            reward_model,
            load_backbone(),
            token_budget=settings.embed.token_budget if settings else TOKEN_BUDGET,
            forms=forms,
            steering=steering,
            lower=lower,
            on_progress=lambda done: on_progress(done, n_requests),
        )
        for scored in chunks:
            if format is Format.json:
                for one in scored:
                    console.print_json(one.as_json(explain=explain))
                sys.stdout.flush()
                continue
            console.print_sections([summary_table(scored), *(explain_tables(scored) if explain else [])])


@app.command()
def inspect(
    model: Annotated[str, typer.Argument(help="A model's id or folder; the promoted or newest by default.")] = "",
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Show what a model is: objectives with their scales, transform, gate; for example of a downloaded ArmoRM.

    Example: `armorm inspect reward-model`
    """
    from armorm.model.inspection import describe
    from armorm.model.inspection import inspect as inspected

    found, _ = _model_and_backbone(model, _settings(model, config))
    if format is Format.json:
        console.print_json(describe(found))
        return
    console.print_report(inspected(found, f"Reward model {model}" if model else "The promoted or newest reward model"))


def evaluate_given(model: str, against: str, config: Path, format: Format) -> None:
    """Evaluate a model that is named on the store's held-out pairs; nothing is stored."""
    from armorm.judges.held_out import evaluate_model
    from armorm.judges.models import find_model

    settings, store = load_settings(config), existing_store(config)
    reward_model, load_backbone = _model_and_backbone(model, settings)
    with console.progress("evaluating") as on_progress:
        found = evaluate_model(
            store,
            reward_model,
            load_backbone,
            settings.evaluation,
            token_budget=settings.embed.token_budget,
            against=find_model(against, store) if against else None,
            on_progress=on_progress,
        )
    if format is Format.json:
        console.print_json(found.as_json())
        return
    print(found.line)
    console.print_sections(found.sections)


@app.command()
def compare(
    judges: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of [judges], ids or folders of models, reward classifiers, or files of verdicts; the others "
            "are tested against the first. By default the promoted or newest model, and all of [judges]."
        ),
    ] = None,
    on: Annotated[
        list[str] | None, typer.Option("--on", help="A dataset with held-out pairs, or a benchmark; may be repeated.")
    ] = None,
    pairs: Annotated[int | None, typer.Option("--pairs", min=1, help="At most so many pairs of each dataset.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Show what others have published for the benchmarks beside.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Put reward models and other judges on the same held-out pairs and benchmarks; no judge is asked twice.

    Example: `armorm compare promoted gpt-4o --on rewardbench --published`
    """
    from armorm.judges.comparison import compare_judges
    from armorm.judges.open import Judges

    settings, store = load_settings(config), existing_store(config)
    opened = Judges(
        store, settings.local_judges(), settings.local_backbone(), token_budget=settings.embed.token_budget
    ).open(judges or [])
    with console.progress("comparing") as on_progress:
        found = compare_judges(
            store,
            opened,
            settings.evaluation,
            datasets=on or [],
            n_pairs=pairs,
            published=published,
            on_progress=lambda judge, done, total: on_progress(done, total, judge),
        )
    if format is Format.json:
        console.print_json(found.as_json())
        return
    console.print_sections(found.sections)


@app.command("bake-off")
def bake_off(
    backbones: Annotated[
        list[str], typer.Argument(help="Folders, GGUF files or Hub ids; the others are tested against the first.")
    ],
    config: Config = DEFAULT_CONFIG,
    format: As = Format.table,
) -> None:
    """Embed the same data with several backbones, train on each, and compare; the configured model stays in place.

    Example: `armorm bake-off HuggingFaceTB/SmolLM2-135M-Instruct Qwen/Qwen3-0.6B`
    """
    from armorm.flows.pipeline import bake_off as flow
    from armorm.flows.pipeline import with_backbones

    with_backbones(load_settings(config), backbones)  # what is wrong is said before a server is started
    console.quieten_prefect()
    tether()
    found = flow(config, backbones)
    if format is Format.json:
        console.print_json(found.as_json())
        return
    console.print_sections(found.sections)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    model: Annotated[str, typer.Option("--model", "-m", help="A model's id; the promoted or newest by default.")] = "",
    max_shard_size: Annotated[str, typer.Option("--max-shard-size", help="The largest file of weights.")] = "5GB",
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Write a model with its backbone as a Hugging Face folder, which transformers loads where armorm is not installed.

    Example: `armorm export reward-model`
    """
    from armorm.judges.models import find_model
    from armorm.release.export import export_model

    store = existing_store(config)
    artifact = find_model(model, store)
    with console.progress("exporting"):
        written = export_model(
            store, artifact, load_settings(config).local_backbone(), folder, max_shard_size=max_shard_size
        )
    print(f"model {artifact.artifact_id}: {'written to' if written else 'already in'} {folder}")


def _settings(name: str, config: Path) -> Settings | None:
    """Return none for a model's folder with a backbone of its own, which needs no configuration."""
    if name and Path(name).is_dir() and not config.exists():
        from armorm.export.layout import is_layout

        if is_layout(Path(name)):
            return None
    return load_settings(config)


def _model_and_backbone(name: str, settings: Settings | None) -> "tuple[RewardHead, Callable[[], Backbone]]":
    """Return the model, and what loads the backbone that it is to be used with."""
    from armorm.features.embedding.backbone import load
    from armorm.judges.models import open_model
    from armorm.scoring.backbones import require_backbone
    from armorm.scoring.reward_model import RewardModel

    configured = settings.local_backbone() if settings else None
    if name and Path(name).is_dir():
        given = RewardModel.load(name, backbone=configured, device=configured.device if configured else "cpu")
        return given, lambda: given.loaded_backbone
    assert settings is not None
    assert configured is not None
    opened = open_model(name, settings.open_store(), settings.models_path)
    return opened, lambda: load(configured, require_backbone(configured, opened))


def _steering(only: str, weights: str, mixture: Path | None) -> "Steering | None":
    from armorm.maths.steering import Steering

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
        raise ConfigError(f"got --weights {text}; expected name=number; use --weights {name or 'a'}=2") from error


def _mixture(path: Path) -> dict[str, float]:
    try:
        given = parse_object(path.read_bytes())
        return {str(name): float(weight) for name, weight in given.items()}
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f'{path}: got no mixture ({error}); expected JSON such as {{"a": 0.7}}; fix it') from error

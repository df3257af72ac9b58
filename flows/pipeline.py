"""The pipeline (ingest, embed, train, evaluate), the end of it, and all of it on several backbones in turn."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from prefect import flow, get_run_logger

from armorm.features.embedding.fingerprint import read_fingerprint
from armorm.features.embedding.forecast import require_planned
from armorm.features.errors import InputError, NotInStore
from armorm.features.store.freshness import RUN, record_success
from armorm.flows.configuration.scheduled import BY_HAND, RunLimits, run_name
from armorm.flows.configuration.settings import Settings, load_settings, require_files, require_runnable
from armorm.flows.embed import run_embed
from armorm.flows.evaluate import run_evaluate, run_promote
from armorm.flows.ingest import run_ingest
from armorm.flows.plan import plan_run, plan_stages, stage_names
from armorm.flows.runlog.observers import writing
from armorm.flows.runlog.outcomes import Step
from armorm.flows.runlog.prefect_artifacts import show_done, show_plan
from armorm.flows.stages import run_checks, run_part
from armorm.flows.train import run_train
from armorm.judges.bake_off import BakeOff, Candidate, read_candidate
from armorm.judges.compared import Compared
from armorm.judges.comparison import compare_judges
from armorm.judges.open import Judges
from armorm.stages import model
from armorm.stages.pipeline import computed
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


@flow(flow_run_name=run_name, persist_result=False)
def bake_off(config: Path, backbones: Sequence[str], limits: RunLimits = BY_HAND) -> BakeOff:
    """Embed, train and evaluate on every backbone, and put the models on the same pairs.

    Vectors stay in the store, so that the backbone that is chosen is embedded already; its models stay until they
    are collected. What the configured backbone has trained stays in its place.

    Args:
        backbones: folders, GGUF files or Hub ids.

    Raises:
        InputError: there are fewer than two, or one is named twice.
    """
    settings = load_settings(config)
    tried = with_backbones(settings, backbones)
    require_files(settings)
    found: list[Candidate] = []
    with writing(settings, "armorm bake-off", limits) as writer:
        run_ingest(writer, settings)
        require_data(writer.store, writer.store.head(), settings.decorrelation, settings.gate)
        before = writer.store.head()
        try:
            for name, candidate in tried.items():
                run_embed(writer, candidate)
                run_part(writer, "train", candidate)
                run_part(writer, "evaluate", candidate)
                backbone_id = read_fingerprint(candidate.local_backbone()).backbone_id
                found.append(read_candidate(name, writer.store, backbone_id))
        finally:
            writer.put_back(before, [stage.name for stage in computed("train", "evaluate")])
    return BakeOff(tuple(found), _compared(settings, tried, found))


def with_backbones(settings: Settings, backbones: Sequence[str]) -> dict[str, Settings]:
    """Return the settings with each backbone in turn, by a short name; its own template and revision, all else alike.

    Raises:
        InputError: there are fewer than two, or one is named twice.
        BackboneError: there is none of a name; see `require_runnable`.
    """
    if len(set(backbones)) < max(2, len(backbones)):
        raise InputError(
            f"got backbones {', '.join(backbones) or 'none'}; expected at least two, each once; correct them"
        )
    short = [Path(path).name for path in backbones]
    names = short if len(set(short)) == len(short) else backbones
    own = settings.backbone
    other = replace(own, revision=None, chat_template=None)
    found = {
        name: own if path == own.path else replace(other, path=path)
        for name, path in zip(names, backbones, strict=True)
    }
    tried = {name: settings.model_copy(update={"backbone": backbone}) for name, backbone in found.items()}
    for candidate in tried.values():
        require_runnable(candidate)
    return tried


def _compared(settings: Settings, tried: Mapping[str, Settings], found: Sequence[Candidate]) -> Compared | None:
    """Put the models on the same held-out pairs; None where the store has none."""
    store = settings.open_store()
    judges = [
        Judges(store, {}, tried[of.name].local_backbone(), token_budget=settings.embed.token_budget).of_model(
            store.find(model.STAGE, of.model_id), of.name
        )
        for of in found
    ]
    try:
        return compare_judges(store, judges, settings.evaluation, with_probe=False)
    except NotInStore:
        return None

"""The embed flow: every conversation and prompt gets its vector, once; then, whether a new model is due."""

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from armorm.features.checks.change import MODEL, change_since_training, due
from armorm.features.embedding.embed import EmbedResult, EmbedSettings, Progress, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.store import Store, Writer
from armorm.features.store.freshness import record_success
from armorm.flows.configuration.scheduled import BY_HAND, RunLimits, run_name
from armorm.flows.configuration.settings import Settings, load_settings
from armorm.flows.plan import plan_stages
from armorm.flows.runlog.console import of_tokens
from armorm.flows.runlog.events import CHANGED, emit
from armorm.flows.runlog.observers import writing
from armorm.flows.runlog.outcomes import Step
from armorm.flows.runlog.prefect_artifacts import show_done, show_plan
from armorm.flows.runlog.progress import progress
from armorm.flows.stages import run_quality


def forwarded_line(result: EmbedResult) -> str:
    """Return what was forwarded, and how canaries lie."""
    return (
        f"embed: {result.n_forwarded:,} tokens forwarded for {result.n_tokens:,} of the texts; canaries at most "
        f"{result.canary_distance:.1e} from the first run's"
    )


@task(task_run_name="embed", cache_policy=NO_CACHE)
def embed_all(writer: Writer, backbone: BackboneSettings, settings: EmbedSettings) -> Step:
    """Return what the newest snapshot holds and the backbone has not seen."""
    logger = get_run_logger()
    said = False
    with progress("embedding") as on_progress:
        show = of_tokens(on_progress)

        def show_and_warn(done: Progress) -> None:
            nonlocal said
            if done.slowdown and not said:
                said = True
                logger.warning(
                    f"embed: in {backbone.dtype} this processor is {done.slowdown:.1f} times slower than in float32; "
                    'for a faster run, stop this one and set dtype = "float32" in [backbone], which embeds all anew'
                )
            show(done)

        result = embed_missing(writer, backbone, settings, on_progress=show_and_warn)
    step = Step(
        "embed",
        "content without a vector of this backbone" if result.n_shards or result.rejected else None,
        f"{result.n_conversations} conversations and {result.n_prompts} prompts embedded, "
        f"{result.n_present} were done; backbone {result.backbone_id[:12]}",
    )
    logger.info(step.line)
    if result.n_tokens:
        logger.info(forwarded_line(result))
    if result.n_truncated:
        lost = "their oldest exchanges" if backbone.over_long == "drop_turns" else "their first tokens"
        logger.warning(
            f"embed: {result.n_truncated} texts, longer than max_tokens, lost {lost}; see features.truncated"
        )
    if result.rejected:
        counted = ", ".join(f"{reason} ({n})" for reason, n in sorted(result.rejected.items()))
        logger.warning(
            f"embed: some texts have no usable vector: {counted}; they are listed in `rejects` and not used further"
        )
    if result.token_budget and result.token_budget < settings.token_budget:
        logger.warning(
            f"embed: memory sufficed for passes of {result.token_budget} tokens, not of {settings.token_budget}; "
            f"set token_budget = {result.token_budget} in [embed]"
        )
    return step


def run_embed(writer: Writer, settings: Settings) -> Step:
    """Embed with the configured backbone."""
    return embed_all(writer, settings.local_backbone(), settings.embed)


@flow(flow_run_name=run_name, persist_result=False)
def embed(config: Path, limits: RunLimits = BY_HAND) -> Step:
    """Embed what has no vector yet."""
    settings = load_settings(config)
    with writing(settings, "armorm embed", limits) as writer:
        before = show_plan(writer.store, plan_stages(settings, "quality", "embed"))
        checked = run_quality(writer, settings)
        step = run_embed(writer, settings)
        show_done(writer.store, before, [checked, step])
        record_success(writer, "embed")
        tell_change(writer.store, settings)
    return step


def tell_change(store: Store, settings: Settings) -> None:
    """Report how far the canaries have moved, and emit an event if that is far enough."""
    logger, change = get_run_logger(), change_since_training(store)
    if change is None:
        logger.info("since training: no model has been trained yet, so one is due")
        emit(CHANGED, store, {"why": "no model was trained yet", "model": None})
        return
    logger.info(f"since training: {change.line}")
    if why := due(change, settings.retrain):
        logger.info(f"since training: a new model is due: {why}")
        payload = {
            "why": why,
            "model": store.head().artifacts[MODEL].artifact_id,
            "before": change.before,
            "after": change.after,
            "rows": change.rows,
            "drift": change.drift,
        }
        emit(CHANGED, store, payload)

"""After an evaluation: the newest model becomes the promoted one if it beats the present one."""

from collections.abc import Mapping

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from armorm.config import PromotionConfig
from armorm.features.checks.quality import Severity
from armorm.features.store import Writer
from armorm.flows.configuration.settings import Settings
from armorm.flows.runlog.outcomes import Step
from armorm.flows.runlog.prefect_artifacts import show_promotion
from armorm.stages.promote import promote


@task(task_run_name="promote", cache_policy=NO_CACHE)
def promote_model(writer: Writer, config: PromotionConfig, severities: Mapping[str, Severity]) -> Step:
    """The newest model, against the promoted one, if either is another than the last time."""
    promotion = promote(writer, config, severities)
    step = Step("promote", promotion.reason, promotion.line)
    get_run_logger().info(step.line)
    if promotion.reason:
        show_promotion(promotion)
    return step


def run_promote(writer: Writer, settings: Settings) -> Step:
    """Promotes the newest model, or says why not; after `run_evaluate`."""
    return promote_model(writer, settings.promotion, settings.checks)

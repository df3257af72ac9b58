"""Promotion over the store: the newest model against the promoted one, on pairs that neither was trained on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from armorm.config import PromotionConfig
from armorm.features.checks.change import trained_in
from armorm.features.checks.quality import QUALITY, Severity, read_results
from armorm.features.errors import NotInStore
from armorm.features.store import Artifact, Made, Pointer, Recipe, Snapshot, Store, Writer
from armorm.features.store.pointers import promoted
from armorm.features.store.store import utc_now
from armorm.features.vectors.shards import FeatureReader
from armorm.maths.metrics import wins
from armorm.maths.paired import PairedTest, paired_test
from armorm.maths.promotion import NoTest, decide
from armorm.records.promotion import PromotionRecord
from armorm.stages import evaluate
from armorm.stages import model as model_stage
from armorm.stages.common import put_record, read_record, stage_artifact
from armorm.stages.data import StoredPairs, load_pairs, load_trained_prompts
from armorm.stages.pair_figures import predict_pairs

STAGE: Final = "promote"
STAGE_VERSION: Final = 1

TAG: Final = "prod"
"""The name of the promoted model's snapshot, for all who read the store: its data, vectors and evaluation."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Promotion:
    """What became of the newest model."""

    model: str
    promoted: bool
    reason: str | None
    """Why it was decided now; None where nothing has changed since it was."""
    line: str
    """The decision and why, for a person."""
    record: PromotionRecord


def promote(writer: Writer, config: PromotionConfig, severities: Mapping[str, Severity]) -> Promotion:
    """Promotes the newest model if it is better than the promoted one and no check stops; else keeps it as it is.

    One commit moves the pointer of models and the tag, and holds the decision. That stands until one of the models, the
    evaluated pairs, what checks find or the setting is another: what a person has taken back stays so.

    Raises:
        NotInStore: there is no model yet, or it was not evaluated.
    """
    store = writer.store
    checked = QUALITY.ensure(writer, severities).artifact
    head, present_id = store.head(), promoted(store, "model")
    model = stage_artifact(head, model_stage.STAGE)
    name = f"model {model.artifact_id[:12]}"
    if present_id == model.artifact_id:
        return Promotion(model.artifact_id, True, None, f"{name} is the promoted one", PromotionRecord())
    inputs = {of: stage_artifact(head, of).artifact_id for of in (model_stage.STAGE, evaluate.STAGE)}
    recipe = Recipe(
        slot=STAGE,
        stage=STAGE,
        version=STAGE_VERSION,
        parameters={"settings": asdict(config)},
        inputs=inputs | {"quality": checked.artifact_id} | ({"promoted": present_id} if present_id else {}),
    )

    def make() -> Made:
        found = _test(store, head, model, present_id)
        stopping = {result.name: result.n_rows for result in read_results(store, checked) if result.stops}
        verdict = decide(found, config, stopping=stopping)
        outcome = "promoted" if verdict.promote else "kept unpromoted"
        record = put_record(store, PromotionRecord(present_id, found if isinstance(found, PairedTest) else None))
        summary = {"line": f"{name} {outcome}: {verdict.why}", "promoted": verdict.promote}
        return Made({"record": record}, summary, pointers=_pointers(head, model) if verdict.promote else {})

    done = writer.ensure(recipe, make)
    line, now_promoted = str(done.artifact.summary["line"]), bool(done.artifact.summary["promoted"])
    if now_promoted and not done.reason:
        line, now_promoted = f"{name} kept unpromoted: it was promoted before, and taken back since", False
    return Promotion(
        model.artifact_id, now_promoted, done.reason, line, read_record(store, done.artifact, PromotionRecord)
    )


def _pointers(snapshot: Snapshot, model: Artifact) -> dict[str, Pointer]:
    now = utc_now()
    return {
        model_stage.STAGE: Pointer("model", model.artifact_id, snapshot.number, now),
        TAG: Pointer("snapshot", snapshot.snapshot_id, snapshot.number, now),
    }


def _test(store: Store, head: Snapshot, model: Artifact, present_id: str | None) -> PairedTest | NoTest:
    """The promoted model, then the new one, on held-out pairs of the newest snapshot that neither was trained on."""
    if present_id is None:
        return NoTest("no model was promoted before", unopposed=True)
    try:
        present = store.find(model_stage.STAGE, present_id)
        models = [model_stage.load_model(store, of) for of in (present, model)]
    except NotInStore:
        return NoTest(f"the promoted model {present_id[:12]} is gone from the store", unopposed=True)
    pairs = load_pairs(store, backbone_id=models[1].backbone_id)
    pairs = pairs.select(pairs.usable("test"))
    for artifact in (present, model):
        if snapshot := trained_in(store, artifact):
            trained = load_trained_prompts(store, snapshot, np.unique(pairs.prompt_ids))
            pairs = pairs.select(~np.isin(pairs.prompt_ids, trained))
    if not len(pairs.pair_ids):
        return NoTest("there are no held-out pairs that neither model was trained on", unopposed=False)
    readers = [FeatureReader(store, of.backbone_id, head) for of in models]
    pairs = pairs.select(np.logical_and.reduce([_embedded(reader, pairs) for reader in readers]))
    if not len(pairs.pair_ids):
        return NoTest(
            f"the promoted model's backbone {models[0].backbone_id[:12]} has no vectors of the held-out pairs, so the "
            "two cannot be compared; embed with it, or decide by `armorm promote model`",
            unopposed=False,
        )
    first_P, second_P = (
        np.asarray(wins(*predict_pairs(of, reader, pairs).scores_2P))
        for of, reader in zip(models, readers, strict=True)
    )
    return paired_test(first_P, second_P, pairs.prompt_ids)


def _embedded(reader: FeatureReader, pairs: StoredPairs) -> Bools:
    """`[P]` whether a backbone has the vectors of the prompt and of both answers."""
    named = (("conversation", pairs.chosen_ids), ("conversation", pairs.rejected_ids), ("prompt", pairs.prompt_ids))
    return np.asarray(np.logical_and.reduce([reader.has(kind, ids.tolist()) for kind, ids in named]))

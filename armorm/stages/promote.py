"""Promotion over the store: the newest model against the promoted one, on pairs that neither was trained on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from armorm.config import PromotionConfig
from armorm.features.checks.change import trained_in
from armorm.features.checks.quality import QUALITY, Severity
from armorm.features.errors import NotInStore
from armorm.features.store import Artifact, Made, Pointer, Recipe, Snapshot, Store, Writer
from armorm.features.store.json_records import put_record
from armorm.features.store.pointers import promoted
from armorm.features.store.stage import Stage
from armorm.features.store.store import utc_now
from armorm.features.vectors.shards import FeatureReader
from armorm.maths.metrics import wins
from armorm.maths.paired import PairedTest, paired_test
from armorm.records.promotion import NoTest, Verdict
from armorm.stages import evaluate
from armorm.stages import model as model_stage
from armorm.stages.common import stage_artifact
from armorm.stages.data import StoredPairs, load_pairs, load_trained_prompts
from armorm.stages.pair_figures import predict_pairs

STAGE: Final = "promote"
STAGE_VERSION: Final = 1

PROMOTE: Final = Stage(name=STAGE, version=STAGE_VERSION, record=Verdict, line_of=lambda of: of.line)

TAG: Final = "prod"
"""The name of the promoted model's snapshot, for all who read the store: its data, vectors and evaluation."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Promotion:
    """What became of the newest model."""

    verdict: Verdict
    reason: str | None
    """Why it was decided now; None where nothing has changed since it was."""
    line: str
    """The decision and why, for a person."""


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
    if present_id == model.artifact_id:
        same = Verdict(promoted=True, model=model.artifact_id)
        return Promotion(same, None, same.line)
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
        stopping = {result.name: result.n_rows for result in QUALITY.told(store, checked) if result.stops}
        verdict = replace(decide(found, config, stopping=stopping), model=model.artifact_id, present=present_id)
        # the record has the same bytes as ever, so that a decision of an older store keeps its id
        record = put_record(store, {"present": present_id, "test": found if isinstance(found, PairedTest) else None})
        return Made({"record": record}, verdict, pointers=_pointers(head, model) if verdict.promoted else {})

    done = writer.ensure(recipe, make)
    verdict, line = PROMOTE.told(store, done.artifact), PROMOTE.line(store, done.artifact)
    if verdict.promoted and not done.reason:
        verdict = Verdict(promoted=False, model=model.artifact_id, found="taken_back")
        line = verdict.line
    return Promotion(verdict, done.reason, line)


def decide(found: PairedTest | NoTest, config: PromotionConfig, *, stopping: Mapping[str, int]) -> Verdict:
    """Decide whether a new model is promoted: it must be better by more than chance, on data that no check stops.

    Args:
        found: the promoted model, then the new one, on pairs that neither was trained on.
        stopping: rows that checks which stop a run have found, by the check's name.
    """
    if isinstance(found, PairedTest):
        better = found.p_value < config.significance and found.difference.estimate > 0
    else:
        better = found in ("first", "gone")
    stopped = {name: n_rows for name, n_rows in stopping.items() if n_rows}
    return Verdict(promoted=better and not stopped, found=found, stopping=stopped, significance=config.significance)


def _pointers(snapshot: Snapshot, model: Artifact) -> dict[str, Pointer]:
    now, number = utc_now(), snapshot.number
    of_snapshot = Pointer("snapshot", snapshot.snapshot_id, number, now)
    return {model_stage.STAGE: Pointer("model", model.artifact_id, number, now), TAG: of_snapshot}


def _test(store: Store, head: Snapshot, model: Artifact, present_id: str | None) -> PairedTest | NoTest:
    """The promoted model, then the new one, on held-out pairs of the newest snapshot that neither was trained on."""
    if present_id is None:
        return "first"
    try:
        present = store.find(model_stage.STAGE, present_id)
        models = [model_stage.load_model(store, of) for of in (present, model)]
    except NotInStore:
        return "gone"
    pairs = load_pairs(store, backbone_id=models[1].backbone_id)
    pairs = pairs.select(pairs.usable("test"))
    for artifact in (present, model):
        if snapshot := trained_in(store, artifact):
            trained = load_trained_prompts(store, snapshot, np.unique(pairs.prompt_ids))
            pairs = pairs.select(~np.isin(pairs.prompt_ids, trained))
    if not len(pairs.pair_ids):
        return "no_pairs"
    readers = [FeatureReader(store, of.backbone_id, head) for of in models]
    pairs = pairs.select(np.logical_and.reduce([_embedded(reader, pairs) for reader in readers]))
    if not len(pairs.pair_ids):
        return "no_vectors"
    first_P, second_P = (
        np.asarray(wins(*predict_pairs(of, reader, pairs).scores_2P))
        for of, reader in zip(models, readers, strict=True)
    )
    return paired_test(first_P, second_P, pairs.prompt_ids)


def _embedded(reader: FeatureReader, pairs: StoredPairs) -> Bools:
    """`[P]` whether a backbone has the vectors of the prompt and of both answers."""
    named = (("conversation", pairs.chosen_ids), ("conversation", pairs.rejected_ids), ("prompt", pairs.prompt_ids))
    return np.asarray(np.logical_and.reduce([reader.has(kind, ids.tolist()) for kind, ids in named]))

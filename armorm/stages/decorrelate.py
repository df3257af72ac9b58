"""Stage 2 over the store: what is taken off each objective so that it no longer follows verbosity."""

from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from armorm.bridge import load_responses, predict_rewards
from armorm.config import DecorrelationConfig
from armorm.decorrelate import decorrelate as find_penalties
from armorm.errors import DecorrelationError
from armorm.stages import regress
from armorm.stages.common import put_record, put_tensors, read_tensors, stage_artifact, stage_recipe
from features.shards import FeatureReader
from features.store import Done, Made, Snapshot, Store, Writer
from features.training_rows import row_set

STAGE = "decorrelate"
STAGE_VERSION = 2


def decorrelate(writer: Writer, backbone_id: str, config: DecorrelationConfig) -> Done:
    """Finds the penalties over the reference dataset's rated responses."""
    store = writer.store
    recipe = stage_recipe(
        store.head(), STAGE, STAGE_VERSION, settings=asdict(config), backbone_id=backbone_id, after=(regress.STAGE,)
    )

    def make() -> Made:
        responses = load_responses(store, config.reference, backbone_id=backbone_id)
        if not len(responses.conversation_ids):
            raise DecorrelationError(
                f"got reference {config.reference}, of which the store has no rated responses; "
                "expected a rated dataset; configure it, or set [decorrelation] reference"
            )
        objectives, W_KD = regress.read_regression(store)
        rewards_NK = predict_rewards(FeatureReader(store, backbone_id), W_KD, responses.conversation_ids)
        found = find_penalties(rewards_NK, objectives, nuisance=config.nuisance, correlation=config.correlation)
        columns = zip(objectives, found.lambda_K, found.before_K, found.after_K, strict=True)
        rows = [dict(zip(("objective", "lambda", "before", "after"), column, strict=True)) for column in columns]
        record = {
            "decorrelation": asdict(config) | {"n_responses": len(rewards_NK), "objectives": rows},
            "training_rows": asdict(row_set("decorrelation", responses.keys)),
        }
        objects = {
            "tensors": put_tensors(store, {"transform_KK": found.transform_KK}),
            "record": put_record(store, record),
        }
        left = max((abs(row["after"]) for row in rows if row["objective"] != config.nuisance), default=0.0)
        line = f"{len(rows) - 1} objectives decorrelated from {config.nuisance}, at most {left:.1e} is left"
        return Made(objects, {"line": line})

    return writer.ensure(recipe, make, work=work(store.head(), config))


def work(snapshot: Snapshot, config: DecorrelationConfig) -> dict[str, int]:
    """What there is to work through, of manifests alone."""
    reference = snapshot.artifacts.get(f"ingest/{config.reference}")
    return {"rows": reference.summary["ratings"] if reference else 0}


def read_transform(store: Store) -> npt.NDArray[np.floating]:
    """`[K, K]` the matrix T with `r' = r T`."""
    transform_KK: npt.NDArray[np.floating] = read_tensors(store, stage_artifact(store.head(), STAGE))["transform_KK"]
    return transform_KK

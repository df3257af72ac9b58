"""Stage 3 over the store: the gate, from the training pairs of every preference dataset."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from armorm.bridge import load_pairs, reward_differences
from armorm.config import GateConfig
from armorm.errors import GateError
from armorm.stages import decorrelate, regress
from armorm.stages.common import put_record, put_tensors, stage_recipe
from features import contamination
from features.inventory import ingested
from features.shards import FeatureReader
from features.store import Done, Made, Snapshot, Writer
from features.training_rows import row_set

STAGE = "gate"
STAGE_VERSION = 3


def train_gate(
    writer: Writer,
    backbone_id: str,
    config: GateConfig,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Done:
    """Trains on the pairs of training prompts; those of validation prompts give a curve."""
    store = writer.store
    recipe = stage_recipe(
        store.head(),
        STAGE,
        STAGE_VERSION,
        settings=asdict(config),
        backbone_id=backbone_id,
        after=(contamination.STAGE, regress.STAGE, decorrelate.STAGE),
    )

    def make() -> Made:
        from armorm.gate import Pairs  # torch, seconds to import
        from armorm.gate import train_gate as train

        stored = load_pairs(store, backbone_id=backbone_id)
        reader = FeatureReader(store, backbone_id)
        differences_PK = reward_differences(reader, regress.read_regression(store)[1], stored)

        def pairs_of(split: str) -> Pairs | None:
            chosen_P = stored.usable(split)
            if not chosen_P.any():
                return None
            prompts, index_P = np.unique(stored.prompt_ids[chosen_P], return_inverse=True)
            return Pairs(reader.gather("prompt", prompts.tolist()), differences_PK[chosen_P], index_P)

        training = pairs_of("train")
        if training is None:
            raise GateError("got no training pairs; expected some; configure a preference dataset and ingest it")
        transform_KK = decorrelate.read_transform(store)
        fit = train(training, transform_KK, config=config, validation=pairs_of("validation"), on_progress=on_progress)
        n_contaminated = int(stored.contaminated_P.sum())
        record = {
            "gate": {"n_pairs": len(training), "beta": fit.beta, "curve": [asdict(point) for point in fit.curve]},
            "contaminated_pairs": n_contaminated,
            "training_rows": asdict(row_set("gate", stored.keys(stored.usable("train")))),
            "rejected_pairs": stored.n_rejected,
        }
        line = f"{config.steps} steps on {len(training)} pairs, beta {fit.beta:.1f}"
        if n_contaminated:
            line += f", {n_contaminated} pairs left out, whose prompts stand in an evaluation dataset"
        if stored.n_rejected:
            line += f", {stored.n_rejected} pairs left out, which the backbone gives no usable vectors"
        return Made({"tensors": put_tensors(store, fit.state), "record": put_record(store, record)}, {"line": line})

    return writer.ensure(recipe, make, work=work(store.head(), config))


def work(snapshot: Snapshot, config: GateConfig) -> dict[str, int]:
    """What there is to work through, of manifests alone."""
    return {"rows": ingested(snapshot, "preferences"), "steps": config.steps}

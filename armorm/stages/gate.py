"""Stage 3 over the store: the gate, from the training pairs of every preference dataset.

A training at work keeps a checkpoint in `unfinished/gate`, a file that is replaced in place and is in no snapshot:
several times the gate's size, and kept as artifacts for as long as `[retention]` says, hours of training would
cost gigabytes. A killed run goes on from it and ends in the same bits; the file goes when the gate is committed.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
from safetensors.numpy import load, save

from armorm.config import GateConfig
from armorm.errors import GateError
from armorm.features.catalog.inventory import ingested
from armorm.features.checks import contamination
from armorm.features.documents import parse_object
from armorm.features.errors import NotInStore
from armorm.features.lineage.training_rows import row_set
from armorm.features.store import Made, Recipe, Snapshot, Store
from armorm.features.store.stage import Computed, OnProgress
from armorm.features.vectors.shards import FeatureReader
from armorm.maths.metrics import CurvePoint
from armorm.records.gate import GateResult, GateTraining
from armorm.stages import decorrelate, regress
from armorm.stages.common import in_blas_threads, put_record, put_tensors, stage_recipe
from armorm.stages.data import load_pairs, reward_differences

if TYPE_CHECKING:
    from armorm.maths.gate import Checkpoint

STAGE = "gate"
STAGE_VERSION = 5

UNFINISHED: Final = "unfinished/gate"
"""The file of the training at work."""


@in_blas_threads
def _make(store: Store, backbone_id: str, config: GateConfig, on_progress: OnProgress) -> Made:
    """Trains on the pairs of training prompts; those of validation prompts give a curve, and may end it early."""
    from armorm.maths.gate import Pairs  # torch, seconds to import
    from armorm.maths.gate import train_gate as train

    stored = load_pairs(store, backbone_id=backbone_id)
    reader = FeatureReader(store, backbone_id)
    differences_PK = reward_differences(reader, regress.read_regression(store)[1], stored)

    def pairs_of(split: str) -> Pairs | None:
        chosen_P = stored.usable(split)
        if not chosen_P.any():
            return None
        prompts, index_P = np.unique(stored.prompt_ids[chosen_P], return_inverse=True)
        prompts_UD = reader.rows("prompt", prompts.tolist())
        return Pairs(prompts_UD, differences_PK[chosen_P], index_P, stored.datasets[chosen_P])

    training = pairs_of("train")
    if training is None:
        raise GateError("got no training pairs; expected some; configure a preference dataset and ingest it")
    checkpoints = _CheckpointFile(store, GATE.recipe(store.head(), config, backbone_id), config.save_every_s)
    fit = train(
        training,
        decorrelate.read_transform(store),
        config=config,
        validation=pairs_of("validation"),
        on_progress=on_progress,
        resume=checkpoints.read(),
        save_checkpoint=checkpoints.save,
    )
    n_contaminated = int(stored.contaminated_P.sum())
    record = GateResult(
        GateTraining(len(training), fit.beta, fit.step, config.device, fit.curve),
        contaminated_pairs=n_contaminated,
        rejected_pairs=stored.n_rejected,
        training_rows=row_set("gate", stored.keys(stored.usable(*seen_splits(config)))),
    )
    line = f"{fit.curve[-1].step} steps on {len(training)} pairs, beta {fit.beta:.1f}"
    if fit.step < fit.curve[-1].step:
        line += f", taken after {fit.step} by validation loss"
    if n_contaminated:
        line += f", {n_contaminated} pairs left out, whose prompts stand in an evaluation dataset"
    if stored.n_rejected:
        line += f", {stored.n_rejected} pairs left out, which the backbone gives no usable vectors"
    return Made({"tensors": put_tensors(store, fit.state), "record": put_record(store, record)}, {"line": line})


def _work(snapshot: Snapshot, config: GateConfig) -> dict[str, int]:
    return {"rows": ingested(snapshot, "preferences"), "steps": config.steps}


GATE: Final[Computed[GateConfig]] = Computed(
    name=STAGE,
    version=STAGE_VERSION,
    part="train",
    code=__name__,
    after=(decorrelate.STAGE, regress.STAGE, contamination.STAGE),
    splits=("train", "validation"),
    table="gate",
    recipe_of=partial(stage_recipe, record=GateConfig.record),
    work_of=_work,
    make=_make,
    settle=lambda store: store.storage.remove(UNFINISHED),
)
"""The gate; progress counts steps."""


def seen_splits(config: GateConfig) -> tuple[str, ...]:
    """Whose pairs the gate depends on: where validation may end the training, on its pairs, too."""
    return ("train", "validation") if config.early_stopping else ("train",)


class _CheckpointFile:
    """The checkpoint of a training: a line with the SHA-256 of what follows, then tensors.

    Their header names the recipe, so that only the same training takes it up.
    """

    def __init__(self, store: Store, recipe: Recipe, every_s: float) -> None:
        self._store, self._key, self._every_s = store, recipe.key, every_s
        self._put_at = time.monotonic()

    def save(self, make: Callable[[], "Checkpoint"]) -> None:
        """Keeps a checkpoint if the last one is long ago."""
        if time.monotonic() - self._put_at < self._every_s:
            return
        checkpoint = make()
        about = {"recipe": self._key, "step": checkpoint.step, "curve": [asdict(point) for point in checkpoint.curve]}
        content = save(checkpoint.tensors, {"about": json.dumps(about)})
        self._store.storage.replace(UNFINISHED, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        self._put_at = time.monotonic()

    def read(self) -> "Checkpoint | None":
        """What a killed run of the same training has left; nothing where it is another's, or damaged."""
        from armorm.maths.gate import Checkpoint

        try:
            sha256, _, content = self._store.storage.read(UNFINISHED).partition(b"\n")
        except NotInStore:
            return None
        if hashlib.sha256(content).hexdigest().encode() != sha256:
            return None
        header_size = int.from_bytes(content[:8], "little")
        about = parse_object(parse_object(content[8 : 8 + header_size])["__metadata__"]["about"])
        if about["recipe"] != self._key:
            return None
        return Checkpoint(about["step"], load(content), tuple(CurvePoint(**point) for point in about["curve"]))

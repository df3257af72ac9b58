"""Stage 3 over the store: the gate, from the training pairs of every preference dataset.

A training at work keeps a checkpoint in `unfinished/gate`, a file that is replaced in place and is in no snapshot:
several times the gate's size, and kept as artifacts for as long as `[retention]` says, hours of training would
cost gigabytes. A killed run goes on from it and ends in the same bits; the file goes when the gate is committed.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from armorm.config import AUTO, PREFERENCE, GateConfig
from armorm.errors import GateError
from armorm.features.catalog.inventory import ingested
from armorm.features.checks import contamination
from armorm.features.conversation import TRAINING
from armorm.features.documents import parse_object
from armorm.features.errors import NotInStore
from armorm.features.lineage.training_rows import row_set
from armorm.features.store import Made, Recipe, Snapshot, Store
from armorm.features.store.json_records import put_record, read_record
from armorm.features.store.stage import Computed, OnProgress
from armorm.features.vectors.shards import FeatureReader
from armorm.maths.folds import FOLDS, fold_of
from armorm.maths.metrics import CurvePoint
from armorm.maths.mixture import fit_mixture
from armorm.maths.ridge import screen
from armorm.records.gate import GateResult, GateTraining, LeftOut
from armorm.records.regression import RegressionResult
from armorm.stages import decorrelate, preference, regress
from armorm.stages.common import in_blas_threads, put_tensors, stage_artifact, stage_recipe
from armorm.stages.data import StoredPairs, load_pairs, reward_differences

if TYPE_CHECKING:
    from armorm.maths.gate import Checkpoint, Pairs

STAGE = "gate"
STAGE_VERSION = 7

MANY_EPOCHS: Final = 50
"""A training that goes through the pairs more often is warned of."""

UNFINISHED: Final = "unfinished/gate"
"""The file of the training at work."""


@in_blas_threads
def _make(store: Store, backbone_id: str, config: GateConfig, on_progress: OnProgress) -> Made:
    """Train on the pairs of training prompts; those of validation prompts give a curve, and may end it early."""
    from armorm.maths.gate import Pairs  # torch, seconds to import
    from armorm.maths.gate import train_gate as train

    stored = load_pairs(store, backbone_id=backbone_id)
    reader = FeatureReader(store, backbone_id)
    heads, found = decorrelate.read_heads(store), preference.read_preference(store)
    if config.out_of_fold:
        differences_PK = _unseen_differences(store, reader, heads, found, stored)
    else:
        differences_PK = reward_differences(reader, heads.W_KD, stored)

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
    validation = pairs_of("validation")
    left_out = _left_out(store, heads, found, config, training, validation)
    checkpoints = _CheckpointFile(store, GATE.recipe(store.head(), config, backbone_id), config.save_every_s)
    fit = train(
        training,
        heads.transform_KK,
        config=config,
        validation=validation,
        entering_K=np.array([name not in left_out for name in heads.objectives]),
        on_progress=on_progress,
        resume=checkpoints.read(),
        save_checkpoint=checkpoints.save,
    )
    splits = ("train",) if validation is None or not _chooses(config, heads) else TRAINING
    mixture = dict(zip(heads.objectives, fit.mixture.weights_K.tolist(), strict=True)) if fit.mixture else {}
    trained = GateTraining(
        len(training),
        fit.beta,
        fit.step,
        config.device,
        fit.curve,
        n_steps=fit.n_steps,
        n_epochs=fit.n_epochs,
        mixture=mixture,
        beta_by_dataset=fit.beta_by_dataset,
        left_out=left_out,
    )
    record = GateResult(
        trained,
        contaminated_pairs=int(stored.contaminated_P.sum()),
        rejected_pairs=stored.n_rejected,
        splits=splits,
        training_rows=row_set(STAGE, stored.keys(stored.usable(*splits))),
    )
    return Made({"tensors": put_tensors(store, fit.state), "record": put_record(store, record)})


def _warning(record: GateResult) -> str:
    gate = record.gate
    if round(gate.n_epochs) <= MANY_EPOCHS:
        return ""
    return (
        f"training went {gate.n_epochs:.0f} times through the {gate.n_pairs} training pairs, which a gate learns by "
        f"heart; set epochs in [gate] to {MANY_EPOCHS} or less"
    )


def _line(record: GateResult) -> str:
    gate, done = record.gate, record.gate.curve[-1].step
    line = f"{done} steps on {gate.n_pairs} pairs, beta {gate.beta:.1f}"
    if gate.step < done:
        line += f", taken after {gate.step} by validation loss"
    if gate.is_fixed:
        line += "; no gate was better on validation pairs than the best fixed mixture, which is what it gives"
    if gate.left_out:
        line += f"; without weight: {', '.join(gate.left_out)}"
    if record.contaminated_pairs:
        line += f", {record.contaminated_pairs} pairs left out, whose prompts stand in an evaluation dataset"
    if record.rejected_pairs:
        line += f", {record.rejected_pairs} pairs left out, which the backbone gives no usable vectors"
    return line


def _unseen_differences(
    store: Store,
    reader: FeatureReader,
    heads: decorrelate.Heads,
    found: preference.Preference | None,
    stored: StoredPairs,
) -> npt.NDArray[np.floating]:
    """Return `[P, K]` differences of rewards that a training or validation pair had no part in; 0 of other pairs."""
    train_W_KD, fold_FKD = regress.read_unseen(store)
    fold_P, n_rated = fold_of(stored.prompt_ids), len(train_W_KD)
    differences_PK = np.zeros((len(stored.pair_ids), len(heads.objectives)), dtype=np.float32)
    for fold in (None, *range(FOLDS)):
        W_KD = heads.W_KD.copy()
        W_KD[:n_rated] = train_W_KD if fold is None else fold_FKD[fold]
        if found and PREFERENCE in heads.objectives and fold is not None:
            W_KD[heads.objectives.index(PREFERENCE)] = found.fold_FD[fold]
        here_P = stored.split_P == "validation" if fold is None else (stored.split_P == "train") & (fold_P == fold)
        if here_P.any():
            differences_PK[here_P] = reward_differences(reader, W_KD, stored.select(here_P))
    return differences_PK


def _left_out(
    store: Store,
    heads: decorrelate.Heads,
    found: preference.Preference | None,
    config: GateConfig,
    training: "Pairs",
    validation: "Pairs | None",
) -> dict[str, LeftOut]:
    """Return the objectives that are to have no weight; rather none than all that are rated."""
    names = heads.objectives
    if config.start == "random" and not config.screening and not config.least_ratings:
        return {}  # the paper's gate has a weight for every objective, the nuisance's own included
    regressed = read_record(store, stage_artifact(store.head(), regress.STAGE), RegressionResult)
    screened = screen(
        regressed.regression, least_ratings=config.least_ratings, by_r2=config.screening, always=config.always
    )
    left_out: dict[str, LeftOut] = {name: "nuisance" for name in names if name in heads.result.decorrelation.nuisances}
    left_out |= {name: why for name, why in screened.items() if name not in left_out}
    asked = PREFERENCE in names and found is not None and found.result.objective == AUTO
    others = len(names) - len(left_out) - 1
    if asked and others and validation is not None and not _helps(heads, left_out, training, validation):
        left_out[PREFERENCE] = "no_gain"
    if len(left_out) == len(names):
        left_out = {name: why for name, why in left_out.items() if why in ("nuisance", "no_gain")}
    return left_out


def _helps(heads: decorrelate.Heads, left_out: Mapping[str, LeftOut], training: "Pairs", validation: "Pairs") -> bool:
    """Whether the best fixed mixture with the preference has a smaller loss on validation pairs than without it."""
    with_it = np.array([name not in left_out for name in heads.objectives])
    without = with_it & (np.array(heads.objectives) != PREFERENCE)
    losses = []
    for entering_K in (with_it, without):
        mixture = fit_mixture(training.differences_PK @ heads.transform_KK, entering_K)
        margins_P = validation.differences_PK @ heads.transform_KK @ mixture.weights_K
        losses.append(float(np.logaddexp(0, -mixture.beta * margins_P).mean()))
    return losses[0] < losses[1]


def _chooses(config: GateConfig, heads: decorrelate.Heads) -> bool:
    """Return whether anything of the gate is chosen on validation pairs."""
    return bool(config.early_stopping or config.calibrate or PREFERENCE in heads.objectives)


def _work(snapshot: Snapshot, config: GateConfig) -> dict[str, int]:
    n_pairs = ingested(snapshot, "preferences")
    return {"rows": n_pairs, "steps": config.n_steps(max(n_pairs, 1))}


GATE: Final[Computed[GateConfig]] = Computed(
    name=STAGE,
    version=STAGE_VERSION,
    part="train",
    after=(decorrelate.STAGE, preference.STAGE, regress.STAGE, contamination.STAGE),
    splits=TRAINING,
    rows="pairs",
    trains_on=TRAINING,
    training_rows=STAGE,
    record=GateResult,
    line_of=_line,
    warning_of=_warning,
    table="gate",
    recipe_of=partial(stage_recipe, record=GateConfig.record),
    work_of=_work,
    make=_make,
    settle=lambda store: store.storage.remove(UNFINISHED),
)
"""The gate; progress counts steps."""


class _CheckpointFile:
    """The checkpoint of a training: a line with the SHA-256 of what follows, then tensors.

    Their header names the recipe, so that only the same training takes it up.
    """

    def __init__(self, store: Store, recipe: Recipe, every_s: float) -> None:
        self._store, self._key, self._every_s = store, recipe.key, every_s
        self._put_at = time.monotonic()

    def save(self, make: Callable[[], "Checkpoint"]) -> None:
        """Keep a checkpoint if the last one is long ago."""
        if time.monotonic() - self._put_at < self._every_s:
            return
        checkpoint = make()
        about = {"recipe": self._key, "step": checkpoint.step, "curve": [asdict(point) for point in checkpoint.curve]}
        content = save(checkpoint.tensors, {"about": json.dumps(about)})
        self._store.storage.replace(UNFINISHED, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        self._put_at = time.monotonic()

    def read(self) -> "Checkpoint | None":
        """Return what a killed run of the same training has left; nothing where it is another's, or damaged."""
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

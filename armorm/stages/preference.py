"""The direction that training pairs prefer: the baseline that a gate has to beat, and one more objective for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from armorm.config import PreferenceConfig, check_nuisance, resolved_nuisance
from armorm.features.catalog.inventory import rows_of
from armorm.features.checks import contamination
from armorm.features.conversation import TRAINING
from armorm.features.store import Made, Snapshot, Store
from armorm.features.store.json_records import put_record, read_record
from armorm.features.store.stage import Computed, OnProgress
from armorm.features.vectors.shards import FeatureReader
from armorm.maths.folds import fold_of
from armorm.maths.preference import covariances, fit_preference
from armorm.maths.ridge import BLOCK_ROWS, predict
from armorm.maths.uncertainty import preference_errors
from armorm.records.preference import PreferenceResult
from armorm.stages import regress
from armorm.stages.common import in_blas_threads, put_tensors, read_tensors, stage_artifact, stage_recipe
from armorm.stages.data import StoredPairs, feature_differences, load_answers, load_lengths, load_pairs

STAGE = "preference"
STAGE_VERSION = 2


@dataclass(frozen=True, slots=True)
class Preference:
    """The directions that training pairs prefer."""

    probe_D: npt.NDArray[np.floating]
    """`[D]` of all, the baseline."""
    w_D: npt.NDArray[np.floating]
    """`[D]` of those without correlation with a nuisance, in the units of the rated objectives: the objective."""
    fold_FD: npt.NDArray[np.floating]
    """`[F, D]` of each fold the direction that its pairs had no part in."""
    result: PreferenceResult


@in_blas_threads
def _make(store: Store, backbone_id: str, config: PreferenceConfig, on_progress: OnProgress) -> Made:
    """Fit it where there are pairs to fit it to and to choose its strength on."""
    stored = load_pairs(store, backbone_id=backbone_id)
    training, validation = (np.flatnonzero(stored.usable(split)) for split in TRAINING)
    if len(training) > config.pairs:
        training = np.sort(np.random.default_rng(config.seed).choice(training, config.pairs, replace=False))
    reader = FeatureReader(store, backbone_id)
    config = replace(config, nuisance=resolved_nuisance(config.nuisance, regress.read_regression(store)[0]))
    if not len(training) or not len(validation) or not _differ(reader, stored, training):
        return Made({"record": put_record(store, PreferenceResult(config.objective))})
    fit = fit_preference(
        lambda rows: feature_differences(reader, stored, rows),
        training,
        validation,
        fold_of(stored.prompt_ids),
        _covariances(store, reader, backbone_id, config.nuisances),
    )
    directions_FD = np.concatenate([fit.w_D[None], fit.fold_FD])
    unit_F, mean_D = _units(store, reader, stored, training, directions_FD)
    directions_FD *= unit_F[:, None]
    record = PreferenceResult(config.objective, fit.probe, config.nuisances)
    tensors = {"probe_D": fit.probe.w_D, "w_D": directions_FD[0], "fold_FD": directions_FD[1:]}
    errors = preference_errors(feature_differences(reader, stored, training), fit.probe, mean_D, float(unit_F[0]))
    kept = {"tensors": tensors, "errors": errors.tensors()}
    objects = {name: put_tensors(store, arrays) for name, arrays in kept.items()}
    return Made(objects | {"record": put_record(store, record)})


def _line(record: PreferenceResult) -> str:
    if not (probe := record.probe):
        return "no direction"
    line = f"fitted to {probe.n_train} training pairs, alpha {probe.alpha:.2g}"
    if record.nuisances:
        line += f"; the objective without correlation with {', '.join(record.nuisances)}"
    return line if probe.converged else f"{line}; it has not converged after {probe.n_passes} passes"


PREFERENCE_STAGE: Final[Computed[PreferenceConfig]] = Computed(
    name=STAGE,
    version=STAGE_VERSION,
    part="train",
    after=(regress.STAGE, contamination.STAGE),
    splits=TRAINING,
    rows="pairs",
    trains_on=TRAINING,
    record=PreferenceResult,
    line_of=_line,
    table="preference",
    recipe_of=stage_recipe,
    work_of=rows_of("preferences"),
    make=_make,
)
"""The direction that training pairs prefer, and those of five folds of them."""


def read_preference(store: Store, snapshot: Snapshot | None = None) -> Preference | None:
    """Return the direction; None where none was fitted."""
    artifact = stage_artifact(snapshot or store.head(), STAGE)
    if "tensors" not in artifact.objects:
        return None
    tensors = read_tensors(store, artifact)
    record = read_record(store, artifact, PreferenceResult)
    return Preference(tensors["probe_D"], tensors["w_D"], tensors["fold_FD"], record)


def _covariances(
    store: Store, reader: FeatureReader, backbone_id: str, nuisances: Sequence[str]
) -> npt.NDArray[np.floating]:
    """Return `[M, D]` covariances of the features with each nuisance, over the answers to training prompts."""
    if not nuisances:
        return np.empty((0, 0))
    objectives, W_KD = regress.read_regression(store)
    check_nuisance(nuisances, objectives)
    answers = load_answers(store, backbone_id=backbone_id).filter(split="train")["conversation_id"].to_numpy()
    X_ND = reader.rows("conversation", answers.tolist())
    _, n_tokens_N = load_lengths(store, answers, backbone_id=backbone_id)
    rated = [name for name in nuisances if name in objectives]
    rewards_NM = predict(X_ND, W_KD[[objectives.index(name) for name in rated]])
    by_length = [np.log(np.maximum(n_tokens_N, 1.0))] if len(rated) < len(nuisances) else []
    return covariances(X_ND, np.stack([*by_length, *rewards_NM.T]))


def _units(
    store: Store,
    reader: FeatureReader,
    stored: StoredPairs,
    training: npt.NDArray[np.intp],
    directions_FD: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return `[F]` factors to the mean spread of rated rewards over training answers, and `[D]` the mean of these."""
    _, W_KD = regress.read_regression(store)
    answers = np.unique(np.concatenate([stored.chosen_ids[training], stored.rejected_ids[training]]))
    X_ND = reader.rows("conversation", answers.tolist())
    rewards_NM = predict(X_ND, np.concatenate([W_KD, directions_FD]))
    spread_M = rewards_NM.std(axis=0, dtype=np.float64)
    wanted, own_F = spread_M[: len(W_KD)].mean(), spread_M[len(W_KD) :]
    sums_BD = [
        X_ND[start : start + BLOCK_ROWS].sum(axis=0, dtype=np.float64) for start in range(0, len(X_ND), BLOCK_ROWS)
    ]
    return wanted / np.where(own_F > 0, own_F, wanted or 1.0), np.sum(sums_BD, axis=0) / len(X_ND)


def _differ(reader: FeatureReader, stored: StoredPairs, training: npt.NDArray[np.intp]) -> bool:
    """Return whether the answers of any training pair have different vectors."""
    return any(bool(block_BD.any()) for block_BD in feature_differences(reader, stored, training)())

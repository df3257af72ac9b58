"""Stage 1 over the store: ridge regression of every objective on the conversations' features, from kept statistics."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from armorm.config import RegressionConfig
from armorm.features.catalog.inventory import rows_of, stored_objectives, stored_scales
from armorm.features.checks import contamination
from armorm.features.conversation import TRAINING
from armorm.features.embedding import embed
from armorm.features.lineage.training_rows import row_set
from armorm.features.store import Made, Store
from armorm.features.store.json_records import put_record, read_record
from armorm.features.store.stage import Computed, OnProgress
from armorm.features.vectors.shards import FeatureReader
from armorm.maths.folds import FOLDS, fold_of
from armorm.maths.ridge import (
    HeldOut,
    Weights,
    fit_folds,
    fit_parts,
    fold_split,
    parts_of,
    predict,
    report_fits,
    trainable,
)
from armorm.maths.uncertainty import fit_errors, with_coverage
from armorm.records.regression import RegressionResult
from armorm.report.sections import alpha_ends
from armorm.stages import statistics
from armorm.stages.common import in_blas_threads, put_tensors, read_tensors, stage_artifact, stage_recipe
from armorm.stages.data import RatedRows, load_ratings

if TYPE_CHECKING:
    from armorm.maths.gate import Vectors

STAGE = "regress"
ROWS = "regression"
STAGE_VERSION = 7

FEW_ROWS = 20
"""Times the number of features: an objective with fewer training rows looks clearly better on them than elsewhere."""


@in_blas_threads
def _make(store: Store, backbone_id: str, config: RegressionConfig, on_progress: OnProgress) -> Made:
    """Fit the objectives that have ratings; the others are recorded with the reason why not."""
    objectives = stored_objectives(store.head())
    rated = load_ratings(store, objectives, backbone_id=backbone_id)
    of_splits = [rated.split_N == split for split in TRAINING]
    trained, untrained = trainable(rated.Y_NK, objectives, *of_splits)
    reader = FeatureReader(store, backbone_id)
    parts = statistics.read_parts(store, backbone_id)
    weights = fit_parts(parts, trained, alphas=config.alphas, refit=config.refit)
    labelled_NK = ~np.isnan(rated.Y_NK[:, [name in trained for name in objectives]])
    n_train_K = labelled_NK[of_splits[0]].sum(axis=0)
    fold_FKD = _folds(rated, reader, trained, weights, of_splits[0], n_train_K)
    (validation, validation_ND), (test, test_ND) = (
        _held_out(store, reader, rated, trained, split, W_KD)
        for split, W_KD in (("validation", weights.train_W_KD), ("test", weights.W_KD))
    )
    errors_NK = validation.truth_NK - validation.prediction_NK
    errors = fit_errors(parts, trained, weights.alpha_K, validation_ND, errors_NK, refit=config.refit)
    fits = report_fits(trained, weights, n_train_K, validation, test)
    seen = rated.keys.filter(pl.col("objective").is_in(trained), pl.col("split").is_in(TRAINING))
    record = RegressionResult(
        objectives=trained,
        regression=with_coverage(fits, errors, test_ND, test),
        untrained=untrained,
        contaminated_ratings=rated.n_contaminated,
        rejected_ratings=rated.n_rejected,
        training_rows=row_set(ROWS, seen),
    )
    objects = {
        "tensors": put_tensors(store, {"W_KD": weights.W_KD, "train_W_KD": weights.train_W_KD, "fold_FKD": fold_FKD}),
        "errors": put_tensors(store, errors.tensors()),
        "record": put_record(store, record),
    }
    return Made(objects)


def _line(record: RegressionResult) -> str:
    line = f"{len(record.objectives)} objectives fitted"
    if record.training_rows:
        line += f" on {record.training_rows.n_rows} ratings"
    if record.contaminated_ratings:
        line += f", {record.contaminated_ratings} rows left out, whose prompts stand in an evaluation dataset"
    if record.rejected_ratings:
        line += f", {record.rejected_ratings} left out, which the backbone gives no usable vector"
    return line


def _warning(record: RegressionResult) -> str:
    ends = alpha_ends(record.regression)
    return f"{ends}; set a wider range of alphas in [regression]" if ends else ""


REGRESS: Final[Computed[RegressionConfig]] = Computed(
    name=STAGE,
    version=STAGE_VERSION,
    part="train",
    after=(embed.STAGE, contamination.STAGE, statistics.STAGE),
    splits=(*TRAINING, "test"),
    rows="ratings",
    trains_on=TRAINING,
    training_rows=ROWS,
    record=RegressionResult,
    line_of=_line,
    warning_of=_warning,
    table="regression",
    recipe_of=stage_recipe,
    work_of=rows_of("ratings"),
    make=_make,
)
"""The weights of every objective that has ratings, and why the others have none."""


def read_regression(store: Store) -> tuple[tuple[str, ...], npt.NDArray[np.floating]]:
    """Return the trained objectives and their weights `[K, D]`."""
    artifact = stage_artifact(store.head(), STAGE)
    return read_record(store, artifact, RegressionResult).objectives, read_tensors(store, artifact)["W_KD"]


def read_unseen(store: Store) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """`[K, D]` weights that validation rows had no part in, and `[F, K, D]` those of each fold of training rows."""
    tensors = read_tensors(store, stage_artifact(store.head(), STAGE))
    return tensors["train_W_KD"], tensors["fold_FKD"]


def _folds(
    rated: RatedRows,
    reader: FeatureReader,
    trained: Sequence[str],
    weights: Weights,
    train_N: npt.NDArray[np.bool_],
    n_train_K: npt.NDArray[np.integer],
) -> npt.NDArray[np.floating]:
    """`[F, K, D]` weights that the training rows of a fold had no part in; of many rows, in all folds the weights."""
    fold_FKD = np.repeat(weights.W_KD[None], FOLDS, axis=0)
    few = np.flatnonzero(n_train_K < FEW_ROWS * reader.width)
    if not len(few):
        return fold_FKD
    names, fold_N = np.array(trained)[few].tolist(), fold_of(rated.prompt_ids)
    parts = parts_of(
        reader.rows("conversation", rated.conversation_ids.tolist()),
        rated.Y_NK[:, [rated.objectives.index(name) for name in names]],
        names,
        {fold_split(fold): train_N & (fold_N == fold) for fold in range(FOLDS)},
    )
    fold_FKD[:, few] = fit_folds(parts, names, weights.alpha_K[few].tolist(), n_folds=FOLDS)
    return fold_FKD


def _held_out(
    store: Store,
    reader: FeatureReader,
    rated: RatedRows,
    trained: Sequence[str],
    split: str,
    W_KD: npt.NDArray[np.float64],
) -> tuple[HeldOut, "Vectors"]:
    """Return a split's rows of trained objectives, with predictions and the ratings' units, and their vectors."""
    columns = np.array([rated.objectives.index(name) for name in trained], np.intp)
    rows = np.flatnonzero((rated.split_N == split) & ~np.isnan(rated.Y_NK[:, columns]).all(axis=1))
    scales, datasets_N = stored_scales(store.head()), rated.dataset_N[rows]
    widths_NK = np.full((len(rows), len(trained)), np.nan)
    for (dataset, objective), scale in scales.items():
        if objective in trained:
            widths_NK[datasets_N == dataset, trained.index(objective)] = scale.width
    X_ND = reader.rows("conversation", rated.conversation_ids[rows].tolist())
    truth_NK = rated.Y_NK[np.ix_(rows, columns)]
    return HeldOut(truth_NK, predict(X_ND, W_KD), rated.prompt_ids[rows], widths_NK), X_ND

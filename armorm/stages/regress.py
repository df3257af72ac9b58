"""Stage 1 over the store: ridge regression of every objective on the conversations' features, from kept statistics."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from armorm.config import RegressionConfig
from armorm.features.catalog.inventory import rows_of, stored_objectives, stored_scales
from armorm.features.checks import contamination
from armorm.features.embedding import embed
from armorm.features.lineage.training_rows import row_set
from armorm.features.store import Made, Store
from armorm.features.store.stage import Computed, OnProgress
from armorm.features.vectors.shards import FeatureReader
from armorm.maths.ridge import HeldOut, fit_parts, report_fits, trainable
from armorm.records.regression import RegressionResult
from armorm.report.sections import alpha_ends
from armorm.stages import statistics
from armorm.stages.common import (
    in_blas_threads,
    put_record,
    put_tensors,
    read_record,
    read_tensors,
    stage_artifact,
    stage_recipe,
)
from armorm.stages.data import RatedRows, load_ratings, predict_rewards

STAGE = "regress"
STAGE_VERSION = 5

SEEN_SPLITS = ("train", "validation")
"""Whose ratings the weights depend on: alphas are chosen on the second, and in the end weights are fitted to both."""


@in_blas_threads
def _make(store: Store, backbone_id: str, config: RegressionConfig, on_progress: OnProgress) -> Made:
    """Fits the objectives that have ratings; the others are recorded with the reason why not."""
    objectives = stored_objectives(store.head())
    rated = load_ratings(store, objectives, backbone_id=backbone_id)
    of_splits = [rated.split_N == split for split in SEEN_SPLITS]
    trained, untrained = trainable(rated.Y_NK, objectives, *of_splits)
    parts = statistics.read_parts(store, backbone_id)
    weights = fit_parts(parts, trained, alphas=config.alphas, refit=config.refit, solver=config.solver)
    labelled_NK = ~np.isnan(rated.Y_NK[:, [name in trained for name in objectives]])
    counts = (labelled_NK[of_splits[0]].sum(axis=0), labelled_NK[of_splits[1]].sum(axis=0))
    held_out = _held_out(store, backbone_id, rated, trained, weights.W_KD)
    seen = rated.keys.filter(pl.col("objective").is_in(trained), pl.col("split").is_in(SEEN_SPLITS))
    record = RegressionResult(
        objectives=trained,
        regression=report_fits(trained, weights, counts, held_out),
        untrained=untrained,
        contaminated_ratings=rated.n_contaminated,
        rejected_ratings=rated.n_rejected,
        training_rows=row_set("regression", seen),
    )
    line = f"{len(trained)} objectives fitted on {len(rated.Y_NK)} rated rows"
    if rated.n_contaminated:
        line += f", {rated.n_contaminated} more left out, whose prompts stand in an evaluation dataset"
    if rated.n_rejected:
        line += f", {rated.n_rejected} left out, which the backbone gives no usable vector"
    objects = {"tensors": put_tensors(store, {"W_KD": weights.W_KD}), "record": put_record(store, record)}
    summary = {"line": line}
    if ends := alpha_ends(record.regression):
        summary["warning"] = f"{ends}; set a wider range of alphas in [regression]"
    return Made(objects, summary)


REGRESS: Final[Computed[RegressionConfig]] = Computed(
    name=STAGE,
    version=STAGE_VERSION,
    part="train",
    code=__name__,
    after=(embed.STAGE, contamination.STAGE, statistics.STAGE),
    splits=("train", "validation", "test"),
    table="regression",
    recipe_of=stage_recipe,
    work_of=rows_of("ratings"),
    make=_make,
)
"""The weights of every objective that has ratings, and why the others have none."""


def read_regression(store: Store) -> tuple[tuple[str, ...], npt.NDArray[np.floating]]:
    """The trained objectives and their weights `[K, D]`."""
    artifact = stage_artifact(store.head(), STAGE)
    return read_record(store, artifact, RegressionResult).objectives, read_tensors(store, artifact)["W_KD"]


def _held_out(
    store: Store, backbone_id: str, rated: RatedRows, trained: Sequence[str], W_KD: npt.NDArray[np.float64]
) -> HeldOut:
    """The test rows of trained objectives, with what the weights predict and the units that each dataset rates in."""
    columns = np.array([rated.objectives.index(name) for name in trained], np.intp)
    rows = np.flatnonzero((rated.split_N == "test") & ~np.isnan(rated.Y_NK[:, columns]).all(axis=1))
    scales, datasets_N = stored_scales(store.head()), rated.dataset_N[rows]
    widths_NK = np.full((len(rows), len(trained)), np.nan)
    for (dataset, objective), scale in scales.items():
        if objective in trained:
            widths_NK[datasets_N == dataset, trained.index(objective)] = scale.width
    return HeldOut(
        truth_NK=rated.Y_NK[np.ix_(rows, columns)],
        prediction_NK=predict_rewards(FeatureReader(store, backbone_id), W_KD, rated.conversation_ids[rows]),
        prompts_N=rated.prompt_ids[rows],
        widths_NK=widths_NK,
    )

"""Evaluation over the store: scores of every pair, predictions of every rating, and the figures of both.

The gate's coefficients are kept for the prompts of held-out pairs only: they say what it has learnt, and a row for each
prompt of the training data and objective would outnumber all other tables.
"""

from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from armorm.config import EvaluationConfig
from armorm.features.catalog.inventory import rows_of
from armorm.features.checks import contamination
from armorm.features.conversation import HELD_OUT
from armorm.features.store import Made, Store
from armorm.features.store.json_records import put_record
from armorm.features.store.stage import Computed, OnProgress
from armorm.features.tables import SCHEMAS, write_parquet
from armorm.features.vectors.shards import FeatureReader
from armorm.maths import evaluation
from armorm.maths.metrics import wins
from armorm.maths.score import coefficients
from armorm.model.head import RewardHead
from armorm.records.evaluation import Evaluation
from armorm.report.sections import evaluation_line
from armorm.stages import model as model_stage
from armorm.stages import preference
from armorm.stages.common import in_blas_threads, stage_artifact, stage_recipe
from armorm.stages.data import (
    RatedRows,
    load_lengths,
    load_pairs,
    load_ratings,
    reward_differences,
)
from armorm.stages.pair_figures import Baselines, PredictedPairs, held_out_record, predict_pairs

STAGE = "evaluate"
STAGE_VERSION = 11


@in_blas_threads
def _make(store: Store, backbone_id: str, config: EvaluationConfig, on_progress: OnProgress) -> Made:
    """Compare the gate with its baselines on held-out pairs, run the benchmark, and keep every score."""
    artifact = stage_artifact(store.head(), model_stage.STAGE)
    model = model_stage.load_model(store, artifact)
    reader = FeatureReader(store, backbone_id)
    stored = load_pairs(store, backbone_id=backbone_id)
    rated = load_ratings(store, model.objectives, backbone_id=backbone_id)
    predicted = predict_pairs(model, reader, stored, also=rated.conversation_ids)
    record = held_out_record(
        model,
        predicted,
        _baselines(store, model, reader, predicted),
        config,
        lengths_of=lambda ids: load_lengths(store, ids, backbone_id=backbone_id)[1],
    )
    tables = {
        "predictions": _predictions(model, rated, predicted, artifact.artifact_id),
        "pair_scores": _scored_pairs(predicted, artifact.artifact_id),
        "gate_coefficients": _coefficients(model, predicted, artifact.artifact_id),
    }
    objects = {n: store.objects.put("parquet", partial(write_parquet, table=t)) for n, t in tables.items()}
    objects["record"] = put_record(store, record)
    return Made(objects)


EVALUATE: Final[Computed[EvaluationConfig]] = Computed(
    name=STAGE,
    version=STAGE_VERSION,
    part="evaluate",
    after=(model_stage.STAGE, preference.STAGE, contamination.STAGE),
    record=Evaluation,
    line_of=lambda record: evaluation_line(record),
    table="evaluation",
    recipe_of=stage_recipe,
    work_of=rows_of("preferences"),
    make=_make,
)
"""Scores of every pair, predictions of every rating, and the figures of both."""


def _baselines(store: Store, model: RewardHead, reader: FeatureReader, predicted: PredictedPairs) -> Baselines:
    """Return those that training pairs choose or fit."""
    training = predicted.select(predicted.stored.usable("train"))
    best = evaluation.choose_best_objective(training.differences_PK, model.objectives)
    found = preference.read_preference(store)
    if found is None:
        return Baselines(best)
    w_KD = found.probe_D[None]
    return Baselines(best, found.result.probe, lambda pairs: reward_differences(reader, w_KD, pairs)[:, 0])


def _scored_pairs(predicted: PredictedPairs, model_id: str) -> pa.Table:
    chosen_P, rejected_P = predicted.scores_2P
    return _table("pair_scores", model_id, predicted.stored.pair_ids, chosen_P, rejected_P, wins(chosen_P, rejected_P))


def _coefficients(model: RewardHead, predicted: PredictedPairs, model_id: str) -> pa.Table:
    """Return what the gate makes of each prompt: its weights, and the coefficients of the raw rewards that follow."""
    rows = np.unique(predicted.prompt_P[np.isin(predicted.stored.split_P, HELD_OUT)])
    gating_UK = predicted.gating_UK[rows]
    return _table(
        "gate_coefficients",
        model_id,
        np.repeat(predicted.prompt_ids[rows], len(model.objectives)),
        np.tile(np.array(model.objectives), len(rows)),
        gating_UK.reshape(-1),
        coefficients(model.transform_KK, gating_UK).reshape(-1),
    )


def _predictions(model: RewardHead, rated: RatedRows, predicted: PredictedPairs, model_id: str) -> pa.Table:
    """Return what the model predicts wherever a rating is given."""
    ids, row_N = np.unique(rated.conversation_ids, return_inverse=True)
    labelled_NK = np.zeros((len(ids), len(model.objectives)), dtype=bool)
    np.logical_or.at(labelled_NK, row_N, ~np.isnan(rated.Y_NK))
    rows, columns = np.nonzero(labelled_NK)
    places = np.searchsorted(predicted.answer_ids, ids)[rows]
    names = np.array(model.objectives)[columns]
    return _table("predictions", model_id, ids[rows], names, predicted.rewards_AK[places, columns])


def _table(name: str, model_id: str, *columns: npt.NDArray[Any]) -> pa.Table:
    """Return a canonical table about one model, whose id is its first column."""
    schema = SCHEMAS[name]
    values = [pa.repeat(model_id, len(columns[0])), *columns]
    return pa.Table.from_arrays([pa.array(v, t) for v, t in zip(values, schema.types, strict=True)], schema=schema)

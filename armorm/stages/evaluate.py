"""Evaluation over the store: scores of every pair, predictions of every rating, and the figures of both.

The gate's coefficients are kept for the prompts of held-out pairs only: they say what it has learnt, and a row for each
prompt of the training data and objective would outnumber all other tables.
"""

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from armorm import evaluation
from armorm.bridge import (
    HELD_OUT,
    Names,
    StoredPairs,
    feature_differences,
    load_lengths,
    load_pairs,
    load_ratings,
    predict_rewards,
    reward_differences,
)
from armorm.config import EvaluationConfig
from armorm.findings import correlation_matrices, explain_pair, mean_by_kind, worst_pairs
from armorm.metrics import wins
from armorm.model import RewardModel
from armorm.probe import ProbeFit, fit_probe
from armorm.score import coefficients, score
from armorm.stages import model as model_stage
from armorm.stages.common import put_record, stage_artifact, stage_recipe
from features import contamination
from features.inventory import ingested
from features.shards import FeatureReader
from features.sources import preference_test_sets, rewardbench
from features.store import Done, Made, Snapshot, Store, Writer
from features.tables import SCHEMAS, write_parquet

STAGE = "evaluate"
STAGE_VERSION = 6

MISTAKES = 10
"""How many of the worst are explained."""

Floats = npt.NDArray[np.floating]


def evaluate(writer: Writer, backbone_id: str, config: EvaluationConfig) -> Done:
    """Compares the gate with its baselines on held-out pairs, runs the benchmark, and keeps every score."""
    store = writer.store
    recipe = stage_recipe(
        store.head(),
        STAGE,
        STAGE_VERSION,
        settings=asdict(config),
        backbone_id=backbone_id,
        after=(contamination.STAGE, model_stage.STAGE),
    )

    def make() -> Made:
        artifact = stage_artifact(store.head(), model_stage.STAGE)
        model = model_stage.load_model(store, artifact)
        reader = FeatureReader(store, backbone_id)
        stored = load_pairs(store, backbone_id=backbone_id)
        prompts, prompt_P = np.unique(stored.prompt_ids, return_inverse=True)
        gating_UK = model.gating(reader.rows("prompt", prompts.tolist()))
        scores_2P = score_pairs(model, reader, stored, gating_UK[prompt_P])
        held_out_U = np.isin(prompts, stored.prompt_ids[np.isin(stored.split_P, HELD_OUT)])
        ranked, about = _rank(model, reader, stored, scores_2P, config)
        record: evaluation.Json = {
            **_held_out(stored, ranked, about, config),
            "calibration": _calibration(model, stored, scores_2P),
            "rewardbench": _rewardbench(stored, ranked, config),
            "rejected_pairs": stored.n_rejected,
            "reward_correlations": _reward_correlations(store, model, reader, stored),
            "gate_by_kind": _gate_by_kind(model, stored, prompt_P, gating_UK),
            "mistakes": _mistakes(model, reader, stored, scores_2P, gating_UK[prompt_P]),
        }
        tables = {
            "predictions": _predictions(store, model, reader, artifact.artifact_id, backbone_id),
            "pair_scores": _scored_pairs(stored, scores_2P, artifact.artifact_id),
            "gate_coefficients": _coefficients(model, prompts[held_out_U], gating_UK[held_out_U], artifact.artifact_id),
        }
        objects = {n: store.objects.put("parquet", partial(write_parquet, table=t)) for n, t in tables.items()}
        objects["record"] = put_record(store, record)
        line = evaluation.summary_line(record["pairs"], record["rewardbench"])
        if stored.n_rejected:
            line += f"; {stored.n_rejected} pairs left out, which the backbone gives no usable vectors"
        return Made(objects, {"line": line})

    return writer.ensure(recipe, make, work=work(store.head()))


def work(snapshot: Snapshot) -> dict[str, int]:
    """What there is to work through, of manifests alone."""
    return {"rows": ingested(snapshot, "preferences")}


def _rank(
    model: RewardModel, reader: FeatureReader, stored: StoredPairs, scores_2P: Floats, config: EvaluationConfig
) -> tuple[dict[str, Floats], evaluation.Json]:
    """What the gate and its baselines make of every pair; and which baselines these are."""
    differences_PK = reward_differences(reader, model.W_KD, stored) @ model.transform_KK
    best = evaluation.choose_best_objective(differences_PK[stored.usable("train")], model.objectives)
    probe = _fit_probe(reader, stored, config)
    ranked = evaluation.rank(
        differences_PK,
        scores_2P[0] - scores_2P[1],
        stored.n_chars_difference_P,
        reward_differences(reader, probe.w_D[None], stored)[:, 0] if probe else None,
        objectives=model.objectives,
        best_objective=best,
    )
    about = {name: value for name, value in asdict(probe).items() if name != "w_D"} if probe else None
    return ranked, {"best_objective": best, "probe": about}


def _fit_probe(reader: FeatureReader, stored: StoredPairs, config: EvaluationConfig) -> ProbeFit | None:
    """Fitted to the pairs that the gate is trained on, or to as many of them as the settings allow."""
    training, validation = (np.flatnonzero(stored.usable(split)) for split in ("train", "validation"))
    if len(training) > config.probe_pairs:
        training = np.sort(np.random.default_rng(config.seed).choice(training, config.probe_pairs, replace=False))
    if not len(training) or not len(validation):
        return None
    return fit_probe(feature_differences(reader, stored, training), feature_differences(reader, stored, validation))


def _held_out(
    stored: StoredPairs, ranked: evaluation.Ranked, about: evaluation.Json, config: EvaluationConfig
) -> evaluation.Json:
    test_P = stored.usable("test")
    here = {name: by_P[test_P] for name, by_P in ranked.items()}
    prompts_P, lengths_P = stored.prompt_ids[test_P], stored.n_chars_difference_P[test_P]
    pairs = evaluation.held_out_accuracy(here, datasets_P=stored.datasets[test_P], prompts_P=prompts_P, config=config)
    return {
        "pairs": pairs | about,
        "length": evaluation.length_accuracy(here, lengths_P, prompts_P=prompts_P, config=config),
    }


def _calibration(model: RewardModel, stored: StoredPairs, scores_2P: Floats) -> evaluation.Json:
    test_P = stored.usable("test")
    differences_P = (scores_2P[0] - scores_2P[1])[test_P]
    return evaluation.calibration(differences_P, beta=model.beta, datasets_P=stored.datasets[test_P])


def _rewardbench(stored: StoredPairs, ranked: evaluation.Ranked, config: EvaluationConfig) -> evaluation.Json:
    here_P = _benchmark_pairs(stored)
    published = {name: (of.section, of.n_rows, float(of.weight)) for name, of in _subsets().items()}
    return evaluation.benchmark_scores(
        {name: by_P[here_P] for name, by_P in ranked.items()},
        stored.subsets[here_P],
        prompts_P=stored.prompt_ids[here_P],
        published=published,
        section_weights=rewardbench.SECTION_WEIGHTS,
        prior_section=rewardbench.PRIOR_SECTION,
        config=config,
    )


def _subsets() -> dict[str, rewardbench.Subset]:
    return {**rewardbench.SUBSETS, **rewardbench.PRIOR_SETS}


def _benchmark_pairs(stored: StoredPairs) -> npt.NDArray[np.bool_]:
    return np.isin(stored.datasets, [rewardbench.SOURCE.name, preference_test_sets.SOURCE.name])


def _reward_correlations(
    store: Store, model: RewardModel, reader: FeatureReader, stored: StoredPairs
) -> evaluation.Json:
    """Over the distinct answers of held-out pairs, the benchmark's included."""
    counted_P = stored.usable("test") | stored.usable("evaluation")
    ids = np.unique(np.concatenate([stored.chosen_ids[counted_P], stored.rejected_ids[counted_P]]))
    _, n_tokens_N = load_lengths(store, ids, backbone_id=model.backbone_id)
    return correlation_matrices(
        predict_rewards(reader, model.W_KD, ids),
        model.transform_KK,
        n_tokens_N,
        objectives=model.objectives,
        correlation=model.metrics["decorrelation"]["correlation"],
    )


def _gate_by_kind(
    model: RewardModel, stored: StoredPairs, prompt_P: npt.NDArray[np.intp], gating_UK: Floats
) -> evaluation.Json:
    """Mean coefficients of the raw rewards: held-out prompts by dataset, the benchmark's by section and subset."""
    coefficients_UK = coefficients(model.transform_KK, gating_UK)
    benchmark_P, test_P = _benchmark_pairs(stored), stored.usable("test")
    section_of = {name: subset.section for name, subset in _subsets().items()}
    sections_P = np.array([section_of.get(name) for name in stored.subsets], dtype=object)
    rows = [
        of
        for kind, names, names_P, here_P in (
            ("dataset", sorted(set(stored.datasets[test_P])), stored.datasets, test_P),
            ("section", list(rewardbench.SECTION_WEIGHTS), sections_P, benchmark_P),
            ("subset", list(section_of), stored.subsets, benchmark_P),
        )
        for of in mean_by_kind(kind, names, names_P[here_P], prompt_P[here_P], coefficients_UK)
    ]
    return {"objectives": list(model.objectives), "rows": rows}


def _mistakes(
    model: RewardModel, reader: FeatureReader, stored: StoredPairs, scores_2P: Floats, gating_PK: Floats
) -> list[evaluation.Json]:
    """The worst of the held-out pairs, by name alone: a record holds no text, so that texts can be forgotten."""
    test = np.flatnonzero(stored.usable("test"))
    worst = test[worst_pairs((scores_2P[0] - scores_2P[1])[test], MISTAKES)]
    chosen_PK, rejected_PK = (predict_rewards(reader, model.W_KD, ids[worst]) for ids in _sides(stored))
    return [
        {
            "pair_id": stored.pair_ids[p],
            "dataset": stored.datasets[p],
            "source_row": stored.source_rows[p],
            "score_chosen": float(scores_2P[0, p]),
            "score_rejected": float(scores_2P[1, p]),
            "wrong_by": float(scores_2P[1, p] - scores_2P[0, p]),
            "objectives": explain_pair(
                chosen_K, rejected_K, model.transform_KK, gating_PK[p], objectives=model.objectives
            ),
        }
        for p, chosen_K, rejected_K in zip(worst, chosen_PK, rejected_PK, strict=True)
    ]


def _sides(stored: StoredPairs) -> tuple[Names, Names]:
    return stored.chosen_ids, stored.rejected_ids


def score_pairs(model: RewardModel, reader: FeatureReader, stored: StoredPairs, gating_PK: Floats) -> Floats:
    """`[2, P]` scores of the chosen and the rejected side of every pair, by the gate's weights for its prompt."""
    rewards = (predict_rewards(reader, model.W_KD, ids) for ids in _sides(stored))
    return np.stack([score(rewards_PK, model.transform_KK, gating_PK) for rewards_PK in rewards])


def _scored_pairs(stored: StoredPairs, scores_2P: Floats, model_id: str) -> pa.Table:
    chosen_P, rejected_P = scores_2P
    return _table("pair_scores", model_id, stored.pair_ids, chosen_P, rejected_P, wins(chosen_P, rejected_P))


def _coefficients(model: RewardModel, prompts: Names, gating_UK: Floats, model_id: str) -> pa.Table:
    """What the gate makes of each prompt: its weights, and the coefficients of the raw rewards that follow."""
    return _table(
        "gate_coefficients",
        model_id,
        np.repeat(prompts, len(model.objectives)),
        np.tile(np.array(model.objectives), len(prompts)),
        gating_UK.reshape(-1),
        coefficients(model.transform_KK, gating_UK).reshape(-1),
    )


def _predictions(store: Store, model: RewardModel, reader: FeatureReader, model_id: str, backbone_id: str) -> pa.Table:
    """What the model predicts wherever a rating is given."""
    rated = load_ratings(store, model.objectives, backbone_id=backbone_id)
    ids, row_N = np.unique(rated.conversation_ids, return_inverse=True)
    labelled_NK = np.zeros((len(ids), len(model.objectives)), dtype=bool)
    np.logical_or.at(labelled_NK, row_N, ~np.isnan(rated.Y_NK))
    rows, columns = np.nonzero(labelled_NK)
    rewards_NK = predict_rewards(reader, model.W_KD, ids)
    names = np.array(model.objectives)[columns]
    return _table("predictions", model_id, ids[rows], names, rewards_NK[rows, columns])


def _table(name: str, model_id: str, *columns: npt.NDArray[Any]) -> pa.Table:
    """A canonical table about one model, whose id is its first column."""
    schema = SCHEMAS[name]
    values = [pa.repeat(model_id, len(columns[0])), *columns]
    return pa.Table.from_arrays([pa.array(v, t) for v, t in zip(values, schema.types, strict=True)], schema=schema)

"""Stage 2 over the store: what is taken off each objective so that it no longer follows verbosity, or what is named."""

from dataclasses import astuple, dataclass
from functools import partial
from operator import attrgetter
from typing import Final

import numpy as np
import numpy.typing as npt

from armorm.config import ALL_ANSWERS, LENGTH, PREFERENCE, TOKEN_LENGTH, DecorrelationConfig, check_nuisance
from armorm.errors import DecorrelationError
from armorm.features.catalog.inventory import ingested, stored_scales
from armorm.features.checks import contamination
from armorm.features.documents import jsonable
from armorm.features.lineage.training_rows import row_set
from armorm.features.store import Made, Snapshot, Store
from armorm.features.store.json_records import put_record, read_record, read_summary
from armorm.features.store.stage import Computed, OnProgress
from armorm.features.store.summaries import IngestSummary
from armorm.features.tables import SCHEMAS, make_table, write_parquet
from armorm.features.vectors.shards import FeatureReader
from armorm.maths.correlations import correlation_rows, summarise
from armorm.maths.decorrelate import Decorrelation
from armorm.maths.decorrelate import decorrelate as find_penalties
from armorm.maths.ridge import ObjectiveFit
from armorm.maths.uncertainty import RewardErrors
from armorm.records.decorrelation import DecorrelationResult, Penalties, Penalty
from armorm.report.sections import taken_out
from armorm.stages import preference, regress
from armorm.stages.common import (
    in_blas_threads,
    put_tensors,
    read_errors,
    read_tensors,
    stage_artifact,
    stage_recipe,
)
from armorm.stages.data import load_held_out, load_lengths, load_responses, predict_rewards
from armorm.stages.length import fit_length

STAGE = "decorrelate"
ROWS = "decorrelation"
STAGE_VERSION = 7


@in_blas_threads
def _make(store: Store, backbone_id: str, config: DecorrelationConfig, on_progress: OnProgress) -> Made:
    """Find the penalties over the reference responses, and measure what they do elsewhere."""
    config = _resolved(store.head(), config)
    rated, _ = regress.read_regression(store)
    check_nuisance(config.nuisances, rated)
    reader = FeatureReader(store, backbone_id)
    objectives, W_KD, length, errors = _heads(store, reader, backbone_id, config)
    responses = load_responses(store, config.reference, backbone_id=backbone_id)
    if config.nuisances and not len(responses.conversation_ids):
        raise DecorrelationError(
            f"got reference {config.reference}, of which the store has no responses; "
            "expected a rated dataset, or all; configure it, or set [decorrelation] reference"
        )
    rewards_NK = predict_rewards(reader, W_KD, responses.conversation_ids)
    prompts_N, n_tokens_N = load_lengths(store, responses.conversation_ids, backbone_id=backbone_id)
    if TOKEN_LENGTH in config.nuisances and not np.isfinite(n_tokens_N).all():
        n_without = int(np.isnan(n_tokens_N).sum())
        raise DecorrelationError(
            f"got {n_without} reference responses without a count of tokens, since their prompts have no vector; "
            f"expected none; take {TOKEN_LENGTH} out of [decorrelation] nuisance, or name another reference"
        )
    found = find_penalties(
        rewards_NK, objectives, nuisances=config.nuisances, n_tokens_N=n_tokens_N, correlation=config.correlation
    )
    measure = partial(
        correlation_rows,
        transform_KK=found.transform_KK,
        objectives=objectives,
        nuisances=config.nuisances,
        correlation=config.correlation,
    )
    of_samples = {("reference", config.reference): measure(rewards_NK, n_tokens_N=n_tokens_N, prompts_N=prompts_N)}
    held_out = load_held_out(store, backbone_id=backbone_id)
    for name, answers in [("all", held_out), *((str(key), of) for (key,), of in held_out.group_by("dataset"))]:
        ids = answers["conversation_id"].unique().sort().to_numpy()
        if not len(ids):
            continue
        prompts_N, n_tokens_N = load_lengths(store, ids, backbone_id=backbone_id)
        held_out_NK = predict_rewards(reader, W_KD, ids)
        of_samples["held_out", name] = measure(held_out_NK, n_tokens_N=n_tokens_N, prompts_N=prompts_N)
    summaries = [s for (part, name), of in of_samples.items() for s in summarise(of, part=part, dataset=name)]
    record = DecorrelationResult(
        Penalties(config.nuisance, config.reference, config.correlation, len(rewards_NK), penalties_of(found)),
        correlations=tuple(sorted(summaries, key=attrgetter("part", "dataset", "nuisance"))),
        training_rows=row_set(ROWS, responses.keys),
        objectives=objectives,
        length=length,
    )
    rows = [
        (
            *sample,
            row.objective,
            row.nuisance,
            row.n_responses,
            row.n_prompts,
            *astuple(row.before),
            *astuple(row.after),
        )
        for sample, of in of_samples.items()
        for row in of
    ]
    named = [dict(zip(SCHEMAS["correlations"].names, jsonable(row), strict=True)) for row in rows]
    objects = {
        "tensors": put_tensors(store, {"W_KD": W_KD, "transform_KK": found.transform_KK}),
        "errors": put_tensors(store, errors.tensors()),
        "record": put_record(store, record),
        "correlations": store.objects.put("parquet", partial(write_parquet, table=make_table("correlations", named))),
    }
    return Made(objects)


def _line(record: DecorrelationResult) -> str:
    found, n = record.decorrelation, len(record.objectives)
    if not found.nuisances:
        return f"{n} objectives as they are; taken out of them: {taken_out(())}"
    left = max((abs(of.after) for of in found.objectives if of.after == of.after), default=0.0)
    return f"{n} objectives decorrelated from {', '.join(found.nuisances)}, at most {left:.1e} is left"


def _resolved(snapshot: Snapshot, config: DecorrelationConfig) -> DecorrelationConfig:
    """Return the settings with what `auto` stands for in a snapshot."""
    rated = list(stored_scales(snapshot))
    return config.resolved([objective for _, objective in rated], [dataset for dataset, _ in rated])


def _work(snapshot: Snapshot, config: DecorrelationConfig) -> dict[str, int]:
    config = _resolved(snapshot, config)
    if config.reference == ALL_ANSWERS:
        return {"rows": ingested(snapshot, "conversations")}
    reference = snapshot.artifacts.get(f"ingest/{config.reference}")
    return {"rows": read_summary(reference, IngestSummary).ratings if reference else 0}


DECORRELATE: Final[Computed[DecorrelationConfig]] = Computed(
    name=STAGE,
    version=STAGE_VERSION,
    part="train",
    after=(preference.STAGE, regress.STAGE, contamination.STAGE),
    training_rows=ROWS,
    record=DecorrelationResult,
    line_of=_line,
    table="decorrelation",
    recipe_of=lambda stage, snapshot, backbone_id, config: stage_recipe(
        stage, snapshot, backbone_id, _resolved(snapshot, config)
    ),
    work_of=_work,
    make=_make,
)
"""The matrix that takes the nuisances out of the objectives."""


@dataclass(frozen=True, slots=True)
class Heads:
    """All linear rewards of a model and what is taken off them."""

    objectives: tuple[str, ...]
    """The rated ones, then those that are derived from pairs and lengths."""
    W_KD: npt.NDArray[np.floating]
    transform_KK: npt.NDArray[np.floating]
    """The matrix T with `r' = r T`."""
    result: DecorrelationResult


def read_heads(store: Store) -> Heads:
    """Return the rewards that the gate mixes."""
    artifact = stage_artifact(store.head(), STAGE)
    result, tensors = read_record(store, artifact, DecorrelationResult), read_tensors(store, artifact)
    return Heads(result.objectives, tensors["W_KD"], tensors["transform_KK"], result)


def _heads(
    store: Store, reader: FeatureReader, backbone_id: str, config: DecorrelationConfig
) -> tuple[tuple[str, ...], npt.NDArray[np.floating], ObjectiveFit | None, RewardErrors]:
    """Names, `[K, D]` weights and errors of the rated objectives, of preference, and of length where a nuisance."""
    objectives, W_KD = regress.read_regression(store)
    errors = [read_errors(store, regress.STAGE)]
    found, length = preference.read_preference(store), None
    if found and found.result.objective != "never":
        objectives, W_KD = (*objectives, PREFERENCE), np.concatenate([W_KD, found.w_D[None]])
        errors.append(read_errors(store, preference.STAGE))
    if LENGTH in config.nuisances:
        length_1D, length, of_length = fit_length(store, reader, backbone_id)
        objectives, W_KD = (*objectives, LENGTH), np.concatenate([W_KD, length_1D])
        errors.append(of_length)
    return objectives, W_KD, length, RewardErrors.concat(errors)


def penalties_of(found: Decorrelation) -> tuple[Penalty, ...]:
    """Return what was found, one for each objective and nuisance."""
    figures = (found.lambda_MK, found.before_MK, found.after_MK, found.step_MK)
    return tuple(
        Penalty(objective, nuisance, found.status_K[k], *(float(values_MK[m, k]) for values_MK in figures))
        for k, objective in enumerate(found.objectives)
        for m, nuisance in enumerate(found.nuisances)
    )

"""Stage 1 over the store: ridge regression of every objective on the conversations' features."""

from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import polars as pl

from armorm.bridge import load_ratings
from armorm.config import RegressionConfig
from armorm.ridge import fit_ridge
from armorm.stages.common import put_record, put_tensors, read_record, read_tensors, stage_artifact, stage_recipe
from features import contamination
from features.inventory import ingested, stored_objectives
from features.shards import FeatureReader
from features.store import Done, Made, Snapshot, Store, Writer
from features.training_rows import row_set

STAGE = "regress"
STAGE_VERSION = 3

SEEN_SPLITS = ("train", "validation")
"""Whose ratings the weights depend on: they are fitted to the first, and their alphas chosen on the second."""


def regress(writer: Writer, backbone_id: str, config: RegressionConfig) -> Done:
    """Fits the objectives that have ratings; the others are recorded with the reason why not."""
    store = writer.store
    recipe = stage_recipe(
        store.head(),
        STAGE,
        STAGE_VERSION,
        settings={"alphas": config.alphas},
        backbone_id=backbone_id,
        after=(contamination.STAGE,),
    )

    def make() -> Made:
        objectives = stored_objectives(store.head())
        rated = load_ratings(store, objectives, backbone_id=backbone_id)
        X_ND = FeatureReader(store, backbone_id).gather("conversation", rated.conversation_ids.tolist())
        masks = {f"{split}_N": rated.split_N == split for split in ("train", "validation", "test")}
        fit = fit_ridge(X_ND, rated.Y_NK, objectives=objectives, alphas=config.alphas, **masks)
        seen = rated.keys.filter(pl.col("objective").is_in(fit.objectives), pl.col("split").is_in(SEEN_SPLITS))
        record = {
            "objectives": fit.objectives,
            "regression": [asdict(report) for report in fit.reports],
            "untrained": fit.untrained,
            "contaminated_ratings": rated.n_contaminated,
            "training_rows": asdict(row_set("regression", seen)),
            "rejected_ratings": rated.n_rejected,
        }
        line = f"{len(fit.objectives)} objectives fitted on {len(X_ND)} rated rows"
        if rated.n_contaminated:
            line += f", {rated.n_contaminated} more left out, whose prompts stand in an evaluation dataset"
        if rated.n_rejected:
            line += f", {rated.n_rejected} left out, which the backbone gives no usable vector"
        objects = {"tensors": put_tensors(store, {"W_KD": fit.W_KD}), "record": put_record(store, record)}
        return Made(objects, {"line": line})

    return writer.ensure(recipe, make, work=work(store.head()))


def work(snapshot: Snapshot) -> dict[str, int]:
    """What there is to work through, of manifests alone."""
    return {"rows": ingested(snapshot, "ratings")}


def read_regression(store: Store) -> tuple[tuple[str, ...], npt.NDArray[np.floating]]:
    """The trained objectives and their weights `[K, D]`."""
    artifact = stage_artifact(store.head(), STAGE)
    return tuple(read_record(store, artifact)["objectives"]), read_tensors(store, artifact)["W_KD"]

"""What the stages share: their recipes, and how arrays become objects of the store."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import wraps
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from armorm.features.documents import jsonable
from armorm.features.embedding import rejected
from armorm.features.embedding.embed import STAGE as EMBED
from armorm.features.errors import NotInStore
from armorm.features.store import Artifact, Made, ObjectRef, Recipe, Snapshot, Store
from armorm.features.store.stage import Computed, OnProgress, S
from armorm.features.tables import check_format
from armorm.features.vectors.shards import SLOT as FEATURES
from armorm.features.vectors.shards import shards_of
from armorm.maths.threads import blas_threads
from armorm.maths.uncertainty import RewardErrors

Json = dict[str, Any]

TENSORS_FORMAT = 2
"""The format of arrays by name; a later one is refused. Format 1 does not say which it is."""


def stage_recipe(
    stage: Computed[Any], snapshot: Snapshot, backbone_id: str, settings: Any, *, record: Callable[[Any], Json] = asdict
) -> Recipe:
    """What a stage after the embedding depends on: the tables, this backbone's vectors, and the results that it reads.

    Args:
        stage: whose `after` says which results.
        record: what of the settings decides the result.

    Raises:
        NotInStore: the store lacks the backbone's vectors, or an earlier stage.
    """
    shards = snapshot.ids_within(f"{FEATURES}/{backbone_id}")
    if not shards:
        others = ", ".join(snapshot.within("backbone")) or "none"
        raise NotInStore(
            f"got backbone {backbone_id}, of which the store has no vectors; expected one of: {others}; "
            "run `armorm embed`, or configure that backbone"
        )
    earlier = {name: stage_artifact(snapshot, name).artifact_id for name in stage.after if name != EMBED}
    return Recipe(
        slot=stage.name,
        stage=stage.name,
        version=stage.version,
        parameters={"settings": jsonable(record(settings) if settings is not None else {}), "backbone": backbone_id},
        inputs=snapshot.ids_within("ingest") | shards | snapshot.ids_within(f"{rejected.SLOT}/{backbone_id}") | earlier,
    )


def stage_artifact(snapshot: Snapshot, stage: str) -> Artifact:
    """The result of a stage.

    Raises:
        NotInStore: it did not run yet.
    """
    if stage not in snapshot.artifacts:
        raise NotInStore(f"got no result of stage {stage} in the store; expected one; run `armorm run`")
    return snapshot.artifacts[stage]


Make = Callable[[Store, str, S, OnProgress], Made]


def in_blas_threads(make: Make[S]) -> Make[S]:
    """Have a stage made in as many threads as products of the backbone's vectors are worth."""

    @wraps(make)
    def in_threads(store: Store, backbone_id: str, settings: S, on_progress: OnProgress) -> Made:
        (width,) = (of.width for of in shards_of(store.head()) if of.backbone_id == backbone_id)
        with blas_threads(width):
            return make(store, backbone_id, settings, on_progress)

    return in_threads


def put_tensors(store: Store, tensors: Mapping[str, Any]) -> ObjectRef:
    """Keeps arrays by name."""
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    return store.objects.put_bytes("safetensors", save(arrays, {"format": str(TENSORS_FORMAT)}))


def read_tensors(store: Store, artifact: Artifact) -> dict[str, Any]:
    """The arrays of an artifact.

    Raises:
        StoreError: they were written by a later version.
    """
    return read_arrays(store, artifact.objects["tensors"])


def read_errors(store: Store, stage: str) -> RewardErrors:
    """The errors of the rewards that a stage has fitted."""
    return RewardErrors.of_tensors(read_arrays(store, stage_artifact(store.head(), stage).objects["errors"]))


def read_arrays(store: Store, ref: ObjectRef) -> dict[str, Any]:
    """What `put_tensors` has kept.

    Raises:
        StoreError: it was written by a later version.
    """
    path = store.objects.path(ref)
    with safe_open(path, framework="numpy") as file:
        check_format(path, int((file.metadata() or {}).get("format", 1)), TENSORS_FORMAT)
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping

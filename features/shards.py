"""Feature shards: Arrow IPC files of vectors, written once, read through a memory map.

The file format (not the stream format) notices truncation; uncompressed, so that a map is the data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import ipc

from features.errors import NotInStore, StoreError
from features.store import ObjectRef, Store, canonical_json

FORMAT: Final = "1"
BATCH_ROWS: Final = 4096
"""Rows of a record batch: DuckDB's unit of parallelism."""

SLOT: Final = "features"


Kind = Literal["conversation", "prompt"]


@dataclass(frozen=True, slots=True)
class Feature:
    """A vector and what it is the vector of. D is the backbone's hidden size."""

    kind: Kind
    id: str
    n_tokens: int
    """Of the whole text, before anything was cut off."""
    truncated: bool
    vector: npt.NDArray[np.float32]
    """`[D]`."""


def write_shard(store: Store, backbone_id: str, record: Mapping[str, Any], features: Sequence[Feature]) -> ObjectRef:
    """Keeps features of one backbone, in order of kind and id, as one object that names the backbone.

    Raises:
        StoreError: a vector is not finite, or zero; nothing is written.
    """
    ordered = sorted(features, key=lambda feature: (feature.kind, feature.id))
    vectors_ND = np.stack([feature.vector for feature in ordered])
    norms_N = np.linalg.norm(vectors_ND, axis=1)
    bad = [f"{f.kind} {f.id}" for f, norm in zip(ordered, norms_N, strict=True) if not (np.isfinite(norm) and norm > 0)]
    if bad:
        raise StoreError(
            f"got NaN, infinite or zero vectors for {len(bad)} texts, the first {bad[0]}; expected finite ones; "
            "run the backbone in float32"
        )
    columns = [
        pa.array([feature.kind for feature in ordered]),
        pa.array([feature.id for feature in ordered]),
        pa.array([feature.n_tokens for feature in ordered], pa.int32()),
        pa.array([feature.truncated for feature in ordered]),
        pa.array(norms_N.astype(np.float32)),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.reshape(-1)), vectors_ND.shape[1]),
    ]
    table = pa.Table.from_arrays(columns, schema=_schema(backbone_id, record, vectors_ND.shape[1]))

    def write(path: Path) -> None:
        with pa.OSFile(str(path), "wb") as sink, ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=BATCH_ROWS)

    return store.objects.put("arrow", write)


def open_shard(store: Store, ref: ObjectRef) -> pa.Table:
    """A checked shard as a table over the memory map: nothing is copied."""
    with pa.memory_map(str(store.objects.path(ref))) as source:
        return ipc.open_file(source).read_all()


class FeatureReader:
    """Random access to one backbone's vectors by id. D is its hidden size."""

    def __init__(self, store: Store, backbone_id: str) -> None:
        artifacts = store.head().within(f"{SLOT}/{backbone_id}").values()
        tables = [open_shard(store, artifact.objects["shard"]) for artifact in artifacts]
        self._rows: dict[tuple[str, str], tuple[int, int]] = {}
        self._vectors: list[npt.NDArray[np.float32]] = []
        for table in tables:
            keys = zip(table.column("kind").to_pylist(), table.column("id").to_pylist(), strict=True)
            for row, key in enumerate(keys):
                self._rows[key] = (len(self._vectors), row)
            self._vectors.append(_vectors(table))

    def gather(self, kind: str, ids: Sequence[str]) -> npt.NDArray[np.float32]:
        """`[N, D]` vectors in the order of `ids`.

        Raises:
            NotInStore: an id was not embedded with this backbone.
        """
        try:
            places = [self._rows[kind, id] for id in ids]
        except KeyError as error:
            raise NotInStore(
                f"got {kind} {error.args[0][1]}, which has no vector of this backbone; run `armorm embed`"
            ) from error
        if not places:
            return np.empty((0, self._vectors[0].shape[1] if self._vectors else 0), dtype=np.float32)
        shards_N, rows_N = np.array(places).T
        result_ND = np.empty((len(ids), self._vectors[0].shape[1]), dtype=np.float32)
        for shard, vectors_ND in enumerate(self._vectors):
            here_N = shards_N == shard
            result_ND[here_N] = vectors_ND[rows_N[here_N]]
        return result_ND


def _vectors(table: pa.Table) -> npt.NDArray[np.float32]:
    """`[N, D]` of a shard: a view of the map where it is one record batch."""
    chunks = [chunk.flatten().to_numpy(zero_copy_only=True) for chunk in table.column("vector").chunks]
    width = table.schema.field("vector").type.list_size
    views = [chunk.reshape(-1, width) for chunk in chunks]
    return views[0] if len(views) == 1 else np.concatenate(views)


def _schema(backbone_id: str, record: Mapping[str, Any], width: int) -> pa.Schema:
    fields = [
        ("kind", pa.string()),
        ("id", pa.string()),
        ("n_tokens", pa.int32()),
        ("truncated", pa.bool_()),
        ("norm", pa.float32()),
        ("vector", pa.list_(pa.float32(), width)),
    ]
    metadata = {"format": FORMAT, "backbone_id": backbone_id, "backbone": canonical_json(dict(record))}
    return pa.schema(fields, metadata=metadata)

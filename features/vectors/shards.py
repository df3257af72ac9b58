"""Feature shards: vectors in Arrow IPC files, written once and read through a memory map, each with an index beside it.

The file format (not the stream format) notices truncation; uncompressed, so that a map is the data. The index says
which vector stands where, in Parquet: what only asks for ids, tokens or norms never opens a file of vectors, and one
vector is found without reading the others.
"""

import mmap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import ipc

from armorm.features.errors import NotInStore, QueryError, StoreError
from armorm.features.store import Artifact, Made, ObjectRef, Snapshot, Store, canonical_json
from armorm.features.store.json_records import read_summary
from armorm.features.store.summaries import BackboneSummary, VectorSummary
from armorm.features.tables import check_format, check_parquet, schema_of, write_parquet

FORMAT: Final = 2
"""The format of a file of vectors; later ones are refused. A shard of format 1 has no index beside it."""

BATCH_ROWS: Final = 4096
"""Rows of a record batch."""

SLOT: Final = "features"

MAPPED_BYTES: Final = 1 << 28
"""How much of the shards reading maps before it gives their pages back."""

PAGE_BYTES: Final = 1 << 21
"""The most that reading one row maps: Linux caches a file in pages of up to this size, and maps whole pages."""

INDEX: Final = schema_of("kind id n_tokens:int32 truncated:bool norm:float32 shard row:int32")
"""The columns of an index; `shard` is the SHA-256 of the file of vectors."""

Kind = Literal["conversation", "prompt"]
VectorType = Literal["float32", "float16"]
Vector = npt.NDArray[np.float32]

Name = tuple[Kind, str]
"""What a vector is the vector of."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A vector and what it is the vector of. D is the backbone's hidden size."""

    kind: Kind
    id: str
    n_tokens: int
    """Tokens of the whole text, before anything was cut off."""
    truncated: bool
    vector: npt.NDArray[np.float32]
    """`[D]`."""


def write_shard(
    store: Store,
    backbone_id: str,
    record: Mapping[str, Any],
    features: Sequence[Feature],
    *,
    vector_type: VectorType = "float32",
) -> dict[str, ObjectRef]:
    """Keep features of one backbone, in order of kind and id: the `shard`, which names the backbone, and its `index`.

    Raises:
        StoreError: a vector is not finite, or zero, or too large for the type; nothing is written.
    """
    ordered = sorted(features, key=lambda feature: (feature.kind, feature.id))
    vectors_ND = np.stack([feature.vector for feature in ordered])
    reasons = unusable(vectors_ND, vector_type)
    bad = [f"{f.kind} {f.id}" for f, reason in zip(ordered, reasons, strict=True) if reason]
    if bad:
        raise StoreError(
            f"got NaN, infinite or zero vectors for {len(bad)} texts, the first {bad[0]}; expected finite ones in "
            f"{vector_type}; run the backbone, and keep its vectors, in float32"
        )
    stored_ND, norms_N = vectors_ND.astype(vector_type), np.linalg.norm(vectors_ND, axis=1)
    columns = [
        pa.array([feature.kind for feature in ordered]),
        pa.array([feature.id for feature in ordered]),
        pa.array([feature.n_tokens for feature in ordered], pa.int32()),
        pa.array([feature.truncated for feature in ordered]),
        pa.array(norms_N.astype(np.float32)),
        pa.FixedSizeListArray.from_arrays(pa.array(stored_ND.reshape(-1)), vectors_ND.shape[1]),
    ]
    schema = _schema(backbone_id, record, vectors_ND.shape[1], vector_type)
    return _put(store, pa.Table.from_arrays(columns, schema=schema))


def shard_without(store: Store, artifact: Artifact, ids: Collection[tuple[str, str]]) -> Made | None:
    """Return a shard with some of its vectors left out, by kind and id; None where none would be left."""
    table = open_shard(store, artifact.objects["shard"])
    names = zip(table["kind"].to_pylist(), table["id"].to_pylist(), strict=True)
    kept = table.filter(pa.array([name not in ids for name in names], pa.bool_()))
    if not len(kept):
        return None
    n_tokens = pc.sum(kept.filter(pc.equal(kept["kind"], "conversation"))["n_tokens"]).as_py() or 0
    summary = replace(read_summary(artifact, VectorSummary), rows=len(kept), tokens=n_tokens)
    return Made(_put(store, kept.combine_chunks()), summary)


def slot_of(backbone_id: str, shard: ObjectRef) -> str:
    """Return the slot of a shard in a snapshot."""
    return f"{SLOT}/{backbone_id}/{shard.sha256[:16]}"


def _put(store: Store, table: pa.Table) -> dict[str, ObjectRef]:
    """Keep a table of vectors, and its index."""
    shard = store.objects.put("arrow", partial(_write_arrow, table=table))
    index = store.objects.put("parquet", partial(write_parquet, table=index_of(shard, table)))
    return {"shard": shard, "index": index}


def put_vectors(store: Store, names: Sequence[Name], vectors_N: Sequence[Vector]) -> ObjectRef:
    """Keep vectors by name as they are, in float32, whether they are of use or not: this is no shard."""
    vectors_ND = np.stack(vectors_N)
    columns = [
        pa.array([kind for kind, _ in names]),
        pa.array([id for _, id in names]),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.reshape(-1)), vectors_ND.shape[1]),
    ]
    table = pa.table(columns, names=["kind", "id", "vector"]).replace_schema_metadata({"format": str(FORMAT)})
    return store.objects.put("arrow", partial(_write_arrow, table=table))


def read_vectors(store: Store, ref: ObjectRef) -> dict[Name, Vector]:
    """Return what `put_vectors` has kept."""
    table = open_shard(store, ref)
    names = zip(table["kind"].to_pylist(), table["id"].to_pylist(), strict=True)
    vectors_ND = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    return dict(zip(names, vectors_ND, strict=True))


def unusable(vectors_N: Sequence[Vector] | npt.NDArray[np.float32], vector_type: VectorType) -> list[str | None]:
    """Return why each vector cannot be kept, None where it can: `not_finite`, `zero` or `float16_overflow`."""
    if not len(vectors_N):
        return []
    vectors_ND = np.stack(list(vectors_N))
    with np.errstate(over="ignore", invalid="ignore"):
        stored_ND = vectors_ND.astype(vector_type)
        norms_N = np.linalg.norm(vectors_ND, axis=1)
    reasons_N = np.full(len(vectors_ND), None, dtype=object)
    reasons_N[~np.isfinite(stored_ND).all(axis=1)] = f"{vector_type}_overflow"
    reasons_N[~stored_ND.any(axis=1)] = "zero"
    reasons_N[~np.isfinite(norms_N)] = "not_finite"  # of a number, or of their squares' sum
    return list(reasons_N)


def open_shard(store: Store, ref: ObjectRef) -> pa.Table:
    """Return a checked shard as a table over the memory map: nothing is copied.

    Raises:
        CorruptObject: its bytes are not those that were written.
        StoreError: it was written by a later version.
    """
    return _map_shard(store, ref)[1]


def _map_shard(store: Store, ref: ObjectRef) -> tuple[mmap.mmap, pa.Table]:
    path = store.objects.path(ref)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    table = ipc.open_file(pa.BufferReader(pa.py_buffer(mapped))).read_all()
    check_format(path, int(table.schema.metadata[b"format"]), FORMAT)
    return mapped, table


def index_of(shard: ObjectRef, table: pa.Table) -> pa.Table:
    """Return what a shard holds and where, without its vectors."""
    columns = [table.column(name) for name in ("kind", "id", "n_tokens", "truncated", "norm")]
    places = [pa.array([shard.sha256] * len(table)), pa.array(np.arange(len(table), dtype=np.int32))]
    return pa.Table.from_arrays([*columns, *places], schema=INDEX)


@dataclass(frozen=True, slots=True)
class Shards:
    """The shards of one backbone in a snapshot."""

    backbone_id: str
    width: int
    """The length D of the vectors."""
    artifacts: tuple[Artifact, ...]

    @property
    def refs(self) -> dict[str, ObjectRef]:
        """The files of vectors, by their SHA-256."""
        return {artifact.objects["shard"].sha256: artifact.objects["shard"] for artifact in self.artifacts}


def shards_of(snapshot: Snapshot) -> list[Shards]:
    """Return the shards of every backbone in a snapshot; of manifests alone."""
    found: dict[str, list[Artifact]] = {}
    for name, artifact in snapshot.within(SLOT).items():
        found.setdefault(name.split("/")[0], []).append(artifact)
    backbones = snapshot.within("backbone")
    return [Shards(id, _width(artifacts[0], backbones.get(id)), tuple(artifacts)) for id, artifacts in found.items()]


def _width(shard: Artifact, backbone: Artifact | None) -> int:
    """Return the width that the shard states, or its backbone in a store of format 1."""
    if backbone is None:
        return read_summary(shard, VectorSummary).width
    return read_summary(backbone, BackboneSummary).hidden_size


def index_paths(store: Store, shards: Shards) -> list[str]:
    """Return the checked index files of one backbone."""
    refs = [artifact.objects["index"] for artifact in shards.artifacts if "index" in artifact.objects]
    paths = [store.objects.path(ref) for ref in refs]
    for path in paths:
        check_parquet(path)
    return [str(path) for path in paths]


def built_indexes(store: Store, shards: Shards) -> list[pa.Table]:
    """Return the indexes of shards that none lies beside, as a store of format 1 has them."""
    refs = [artifact.objects["shard"] for artifact in shards.artifacts if "index" not in artifact.objects]
    return [index_of(ref, open_shard(store, ref)) for ref in refs]


class Vectors:
    """The vectors of one backbone by shard and row; a file is checked and mapped when it is first asked for.

    Pages that were read through are given back now and then, so that reading all vectors does not hold all of them.
    """

    def __init__(self, store: Store, shards: Shards) -> None:
        self.width = shards.width
        self._store = store
        self._refs = shards.refs
        self._maps: dict[str, tuple[mmap.mmap, list[npt.NDArray[np.floating]]]] = {}
        self._mapped_bytes: dict[mmap.mmap, int] = {}

    def gather(self, shards_N: pa.Array, rows_N: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Return `[N, D]` in float32, whatever type they are kept in, by their shards' SHA-256 and their rows there.

        Raises:
            QueryError: there is no such shard, or no such row in it; a query may call this with whatever it likes.
        """
        encoded = shards_N if pa.types.is_dictionary(shards_N.type) else shards_N.dictionary_encode()
        codes_N = encoded.indices.to_numpy(zero_copy_only=False)
        result_ND = np.empty((len(rows_N), self.width), np.float32)
        for code, sha256 in enumerate(encoded.dictionary.to_pylist()):
            here_N = np.flatnonzero(codes_N == code)
            if len(here_N):
                if sha256 not in self._refs:
                    raise QueryError(f"got shard {sha256}; expected one of the backbone's; ask the view `features`")
                file, batches = self._map(sha256)
                n_rows, rows = sum(map(len, batches)), rows_N[here_N]
                if outside := rows[(rows < 0) | (rows >= n_rows)].tolist():
                    raise QueryError(f"got row {outside[0]} of shard {sha256}; expected 0 to {n_rows - 1}; correct it")
                self._fill(result_ND, here_N, batches, rows_N[here_N])
                self._count(file, len(here_N))
        return result_ND

    def _count(self, file: mmap.mmap, n_rows: int) -> None:
        """Give back what is mapped, once it is much.

        The system keeps the pages in its cache as long as it has room, but they are not this process's any more.
        """
        mapped_bytes = self._mapped_bytes.get(file, 0) + n_rows * PAGE_BYTES
        self._mapped_bytes[file] = min(mapped_bytes, len(file))
        if sum(self._mapped_bytes.values()) > MAPPED_BYTES:
            for touched in self._mapped_bytes if hasattr(mmap, "MADV_DONTNEED") else ():
                touched.madvise(mmap.MADV_DONTNEED)
            self._mapped_bytes = {}

    @staticmethod
    def _fill(
        result_ND: npt.NDArray[np.float32],
        here_N: npt.NDArray[np.integer],
        batches: list[npt.NDArray[np.floating]],
        rows_N: npt.NDArray[np.integer],
    ) -> None:
        for number, batch_ND in enumerate(batches):
            within_N = rows_N // BATCH_ROWS == number
            result_ND[here_N[within_N]] = batch_ND[rows_N[within_N] % BATCH_ROWS]

    def _map(self, sha256: str) -> tuple[mmap.mmap, list[npt.NDArray[np.floating]]]:
        if sha256 not in self._maps:
            file, table = _map_shard(self._store, self._refs[sha256])
            column = table.column("vector")
            chunks = (chunk.flatten().to_numpy(zero_copy_only=True) for chunk in column.chunks)
            self._maps[sha256] = file, [chunk.reshape(-1, self.width) for chunk in chunks]
        return self._maps[sha256]


class FeatureReader:
    """Random access to one backbone's vectors by id. D is its hidden size."""

    def __init__(self, store: Store, backbone_id: str, snapshot: Snapshot | None = None) -> None:
        found = [shards for shards in shards_of(snapshot or store.head()) if shards.backbone_id == backbone_id]
        self._vectors = Vectors(store, found[0]) if found else None
        self._shards: list[str] = []
        self._places = pl.DataFrame(schema={"kind": pl.String, "id": pl.String, "row": pl.Int32, "shard": pl.Int32})
        for shards in found:
            tables = [pq.read_table(path) for path in index_paths(store, shards)] + built_indexes(store, shards)
            frames = [_numbered(table, number) for number, table in enumerate(tables)]
            self._shards = [table["shard"][0].as_py() for table in tables]
            # two machines that embed at the same time may both have a text
            self._places = pl.concat(frames).unique(["kind", "id"], keep="first", maintain_order=True)

    def ids(self, kind: str) -> pl.Series:
        """Return the ids of a kind that have a vector, sorted. As ids are hashes, the first ones are a fair sample."""
        return self._places.filter(pl.col("kind") == kind)["id"].sort()

    def has(self, kind: str, ids: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return `[N]` whether each of `ids` has a vector."""
        return pl.Series(ids, dtype=pl.String).is_in(self.ids(kind).implode()).to_numpy()

    def gather(self, kind: str, ids: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return `[N, D]` vectors in the order of `ids`.

        Raises:
            NotInStore: an id was not embedded with this backbone.
        """
        return self.rows(kind, ids)[:]

    def rows(self, kind: str, ids: Sequence[str]) -> "VectorRows":
        """Return the same, but nothing is read before it is asked for by row.

        Raises:
            NotInStore: an id was not embedded with this backbone.
        """
        places = self._find(kind, ids)
        return VectorRows(self._vectors, self._shards, places["shard"].to_numpy(), places["row"].to_numpy())

    @property
    def width(self) -> int:
        """The length D of the vectors; 0 if there are none."""
        return self._vectors.width if self._vectors else 0

    @property
    def shards(self) -> frozenset[str]:
        """The SHA-256 of each file of vectors."""
        return frozenset(self._shards)

    def places(self, kind: str, ids: Sequence[str]) -> pl.DataFrame:
        """Return the place of each vector, in the order of `ids`: the `shard`, by its SHA-256, and the `row` there.

        Raises:
            NotInStore: an id was not embedded with this backbone.
        """
        found, names = self._find(kind, ids), pl.Series(self._shards, dtype=pl.String)
        return pl.DataFrame({"shard": names.gather(found["shard"]), "row": found["row"]})

    def read(self, places: pl.DataFrame) -> npt.NDArray[np.float32]:
        """Return `[N, D]` vectors by their places."""
        if self._vectors is None:
            return np.empty((0, 0), np.float32)
        return self._vectors.gather(places["shard"].to_arrow().cast(pa.string()), places["row"].to_numpy())

    def _find(self, kind: str, ids: Sequence[str]) -> pl.DataFrame:
        """Return shards by their numbers, and rows."""
        asked = pl.DataFrame({"id": list(ids)}, schema={"id": pl.String})
        places = asked.join(self._places.filter(pl.col("kind") == kind), on="id", how="left", maintain_order="left")
        if lost := places.filter(pl.col("shard").is_null())["id"].head(1).to_list():
            raise NotInStore(f"got {kind} {lost[0]}, which has no vector of this backbone; run `armorm embed`")
        return places


class VectorRows:
    """`[N, D]` vectors as an array has them, read from the maps by slice or by row numbers, in float32."""

    def __init__(
        self,
        vectors: Vectors | None,
        shards: Sequence[str],
        shard_N: npt.NDArray[np.integer],
        row_N: npt.NDArray[np.integer],
    ) -> None:
        """Take the shards' SHA-256, and of each vector the number of its shard and its row there."""
        self._vectors, self._shards = vectors, pa.array(shards, pa.string())
        self._shard_N, self._row_N = shard_N, row_N

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""
        return len(self), self._vectors.width if self._vectors else 0

    def __len__(self) -> int:
        return len(self._row_N)

    def __getitem__(self, rows: slice | npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        if self._vectors is None:
            return np.empty((0, 0), np.float32)
        shards = pa.DictionaryArray.from_arrays(pa.array(self._shard_N[rows]), self._shards)
        return self._vectors.gather(shards, self._row_N[rows])


def _numbered(index: pa.Table, number: int) -> pl.DataFrame:
    """Return what finds a vector; the shard by its number, since its name is long."""
    return pl.DataFrame(index.select(["kind", "id", "row"])).with_columns(shard=pl.lit(number, pl.Int32))


def _write_arrow(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=BATCH_ROWS)


def _schema(backbone_id: str, record: Mapping[str, Any], width: int, vector_type: VectorType) -> pa.Schema:
    fields = [
        ("kind", pa.string()),
        ("id", pa.string()),
        ("n_tokens", pa.int32()),
        ("truncated", pa.bool_()),
        ("norm", pa.float32()),
        ("vector", pa.list_(pa.from_numpy_dtype(np.dtype(vector_type)), width)),
    ]
    metadata = {"format": str(FORMAT), "backbone_id": backbone_id, "backbone": canonical_json(dict(record))}
    return pa.schema(fields, metadata=metadata)

"""What is known of a shard before it is finished, so that a killed run loses seconds and not the whole shard.

Where a shard ends follows from the texts alone, never from the clock: else a run that was killed would cut other
shards than one that was not. What the clock decides is when the vectors of the shard at work are put aside, as parts in
slots of their own below `unfinished/`. The commit of the shard takes its parts out again, so none is left in the end.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from features.embedding.plan import Wanted
from features.embedding.vectors import Name
from features.shards import Vector
from features.store import Artifact, Made, ObjectRef, Recipe, Store, Writer
from features.tables import check_format

SLOT: Final = "unfinished"
STAGE_VERSION: Final = 1

FORMAT: Final = 1
"""Of a part."""


class Unfinished:
    """The vectors of one shard so far: those that are put aside, and those that are not yet."""

    def __init__(self, writer: Writer, slot: str, inputs: Mapping[str, str], every_s: float) -> None:
        """Takes up what an earlier run has left.

        Args:
            writer: commits the parts.
            slot: below which they stand; it names the backbone and the texts.
            inputs: what the shard is made of.
            every_s: how long vectors are in memory alone, at most.
        """
        self._writer, self._slot, self._inputs, self._every_s = writer, slot, inputs, every_s
        self._new: list[tuple[Wanted, Vector]] = []
        self._saved_at = time.monotonic()
        self.done: dict[Name, Vector] = {}
        """What earlier runs have put aside, in float32: finishing rounds it as if it had just been computed."""
        for part in self._parts().values():
            self.done |= _read(writer.store, part.objects["part"])

    @property
    def slots(self) -> list[str]:
        """Of the parts: what a commit of the shard is to take out."""
        return [f"{self._slot}/{name}" for name in self._parts()]

    def add(self, vectors: Sequence[tuple[Wanted, Vector]]) -> None:
        """Takes the vectors of a forward pass, and puts aside what has come since the last time if that is long ago."""
        self._new += vectors
        if self._new and time.monotonic() - self._saved_at >= self._every_s:
            self._save()

    def _save(self) -> None:
        ref = _write(self._writer.store, self._new)
        recipe = Recipe(f"{self._slot}/{len(self._parts()):06d}", SLOT, STAGE_VERSION, {}, self._inputs)
        line = f"{len(self._new)} vectors of a shard that is not finished"
        self._writer.commit(recipe, Made({"part": ref}, {"line": line}))
        self._new, self._saved_at = [], time.monotonic()

    def _parts(self) -> dict[str, Artifact]:
        return self._writer.store.head().within(self._slot)


def _write(store: Store, vectors: Sequence[tuple[Wanted, Vector]]) -> ObjectRef:
    vectors_ND = np.stack([vector for _, vector in vectors])
    columns = {
        "kind": pa.array([of.kind for of, _ in vectors]),
        "id": pa.array([of.id for of, _ in vectors]),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.reshape(-1)), vectors_ND.shape[1]),
    }
    table = pa.table(columns).replace_schema_metadata({"format": str(FORMAT)})

    def write(path: Path) -> None:
        with pa.OSFile(str(path), "wb") as sink, ipc.new_file(sink, table.schema) as file:
            file.write_table(table)

    return store.objects.put("arrow", write)


def _read(store: Store, ref: ObjectRef) -> dict[Name, Vector]:
    path = store.objects.path(ref)
    with pa.memory_map(str(path)) as source:
        table = ipc.open_file(source).read_all()
    check_format(path, int(table.schema.metadata[b"format"]), FORMAT)
    names = zip(table["kind"].to_pylist(), table["id"].to_pylist(), strict=True)
    flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return dict(zip(names, flat.reshape(len(table), -1).copy(), strict=True))

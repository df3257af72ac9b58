"""What is known of a shard before it is finished, so that a killed run loses seconds and not the whole shard.

Where a shard ends follows from the texts alone, never from the clock: else a run that was killed would cut other
shards than one that was not. What the clock decides is when a checkpoint of the shard at work is kept, as parts in
slots of their own below `unfinished/`. The commit of the shard takes its parts out again, so none is left in the end.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from armorm.features.embedding.packs import Wanted
from armorm.features.store import Artifact, Made, Recipe, Writer
from armorm.features.store.summaries import VectorSummary
from armorm.features.vectors.shards import Name, Vector, put_vectors, read_vectors

SLOT: Final = "unfinished"
STAGE_VERSION: Final = 1


class Unfinished:
    """The vectors of one shard so far: those of a checkpoint, and those that are not yet in one."""

    def __init__(self, writer: Writer, slot: str, inputs: Mapping[str, str], every_s: float) -> None:
        """Take up what an earlier run has left.

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
        """What checkpoints of earlier runs hold, in float32: finishing rounds it as if it had just been computed."""
        for part in self._parts().values():
            self.done |= read_vectors(writer.store, part.objects["part"])

    @property
    def slots(self) -> list[str]:
        """The slots of the checkpoints, which a commit of the shard takes out."""
        return [f"{self._slot}/{name}" for name in self._parts()]

    def add(self, vectors: Sequence[tuple[Wanted, Vector]]) -> None:
        """Take the vectors of a forward pass; make a checkpoint where the last one is long ago."""
        self._new += vectors
        if self._new and time.monotonic() - self._saved_at >= self._every_s:
            self._save()

    def _save(self) -> None:
        names: list[Name] = [(of.kind, of.id) for of, _ in self._new]
        ref = put_vectors(self._writer.store, names, [vector for _, vector in self._new])
        recipe = Recipe(f"{self._slot}/{len(self._parts()):06d}", SLOT, STAGE_VERSION, {}, self._inputs)
        self._writer.commit(recipe, Made({"part": ref}, VectorSummary(len(names))))
        self._new, self._saved_at = [], time.monotonic()

    def _parts(self) -> dict[str, Artifact]:
        return self._writer.store.head().within(self._slot)

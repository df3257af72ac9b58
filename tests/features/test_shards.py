"""Shards: every vector back once and bit for bit, whatever the cut; damage is an error."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from features.errors import CorruptObject, NotInStore, StoreError
from features.shards import BATCH_ROWS, SLOT, Feature, FeatureReader, open_shard, write_shard
from features.store import Made, ObjectRef, Recipe, Store, Writer

BACKBONE = "b" * 32


def vectors(n: int, width: int = 8) -> npt.NDArray[np.float32]:
    """Vector i begins with i: the right answer is computable from the index."""
    values = np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)
    values[:, 0] = np.arange(n) + 1
    return values


def features(values: npt.NDArray[np.float32], start: int = 0) -> list[Feature]:
    return [Feature("conversation", f"{start + i:06}", 7, False, vector) for i, vector in enumerate(values)]


def commit(writer: Writer, name: str, shard: ObjectRef) -> None:
    writer.commit(Recipe(f"{SLOT}/{BACKBONE}/{name}", "embed", 1, {}, {}), Made({"shard": shard}))


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_any_cut_gives_every_vector_back(store: Store, writer: Writer, size: int) -> None:
    values = vectors(300)
    for start in range(0, len(values), size):
        shard = write_shard(store, BACKBONE, {}, features(values[start : start + size], start))
        commit(writer, str(start), shard)
    order = np.random.default_rng(1).permutation(300)
    gathered = FeatureReader(store, BACKBONE).gather("conversation", [f"{i:06}" for i in order])
    assert np.array_equal(gathered, values[order])


def test_a_shard_of_many_batches_is_read_whole(store: Store, writer: Writer) -> None:
    values = vectors(BATCH_ROWS * 2 + 5, width=2)
    shard = write_shard(store, BACKBONE, {}, features(values))
    commit(writer, "a", shard)
    assert open_shard(store, shard).column("id").num_chunks == 3
    last = f"{len(values) - 1:06}"
    assert FeatureReader(store, BACKBONE).gather("conversation", [last])[0, 0] == len(values)


def test_equal_features_are_one_object_in_any_order(store: Store) -> None:
    some = features(vectors(5))
    assert write_shard(store, BACKBONE, {}, some) == write_shard(store, BACKBONE, {}, some[::-1])


def test_a_flipped_byte_is_named(store: Store) -> None:
    shard = write_shard(store, BACKBONE, {}, features(vectors(50)))
    path: Path = store.objects.path(shard)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptObject):
        open_shard(Store(store.root), shard)


@pytest.mark.parametrize("poison", [np.nan, np.inf, 0.0])
def test_an_unusable_vector_stops_the_shard_and_names_the_text(store: Store, poison: float) -> None:
    values = vectors(3)
    values[1] = poison
    with pytest.raises(StoreError, match="conversation 000001"):
        write_shard(store, BACKBONE, {}, features(values))
    assert not (store.root / "objects").exists()


def test_what_was_never_embedded_is_named(store: Store, writer: Writer) -> None:
    commit(writer, "a", write_shard(store, BACKBONE, {}, features(vectors(3))))
    with pytest.raises(NotInStore, match="got conversation other"):
        FeatureReader(store, BACKBONE).gather("conversation", ["other"])

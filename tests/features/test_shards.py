"""Shards: every vector back once and bit for bit, whatever the cut; damage is an error."""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import ipc

from armorm.features.catalog.query import query
from armorm.features.errors import CorruptObject, NotInStore, StoreError
from armorm.features.store import Made, ObjectRef, Recipe, Store, Writer
from armorm.features.vectors import shards
from armorm.features.vectors.shards import BATCH_ROWS, SLOT, Feature, FeatureReader, open_shard, write_shard
from tests.damage import overwrite

BACKBONE = "b" * 32


def vectors(n: int, width: int = 8) -> npt.NDArray[np.float32]:
    """Vector i begins with i: the right answer is computable from the index."""
    values = np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)
    values[:, 0] = np.arange(n) + 1
    return values


def features(values: npt.NDArray[np.float32], start: int = 0) -> list[Feature]:
    return [Feature("conversation", f"{start + i:06}", 7, False, vector) for i, vector in enumerate(values)]


def commit(writer: Writer, name: str, objects: dict[str, ObjectRef], width: int = 8) -> None:
    backbone = Recipe(f"backbone/{BACKBONE}", "backbone", 1, {}, {})
    shard = Recipe(f"{SLOT}/{BACKBONE}/{name}", "embed", 1, {}, {})
    writer.commit_all([(backbone, Made({}, {"hidden_size": width})), (shard, Made(objects))])


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_any_cut_gives_every_vector_back(store: Store, writer: Writer, size: int) -> None:
    values = vectors(300)
    for start in range(0, len(values), size):
        shard = write_shard(store, BACKBONE, {}, features(values[start : start + size], start))
        commit(writer, str(start), shard)
    order = np.random.default_rng(1).permutation(300)
    gathered = FeatureReader(store, BACKBONE).gather("conversation", [f"{i:06}" for i in order])
    assert np.array_equal(gathered, values[order])


def test_vectors_by_their_places_are_those_by_their_ids(store: Store, writer: Writer) -> None:
    """Also by places that were kept, as text, and in another order."""
    values = vectors(30)
    for start in range(0, 30, 10):
        commit(writer, str(start), write_shard(store, BACKBONE, {}, features(values[start : start + 10], start)))
    reader = FeatureReader(store, BACKBONE)
    ids = [f"{i:06}" for i in np.random.default_rng(1).permutation(30)]
    places = reader.places("conversation", ids)
    assert set(places["shard"]) == reader.shards
    assert np.array_equal(reader.read(places), reader.gather("conversation", ids))
    kept = pl.DataFrame(places.sort("shard", "row").to_arrow())
    assert np.array_equal(np.sort(reader.read(kept)[:, 0]), np.arange(30) + 1)
    assert reader.width == 8
    with pytest.raises(NotInStore, match=r"\bconversation\b.*\bother\b.*`armorm embed`"):
        reader.places("conversation", ["other"])


def mapped_bytes(folder: Path) -> int:
    """Bytes of a folder's files: what this process has mapped and touched, as Linux counts it."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            inside = str(folder) in line
        elif inside and name == "Rss:":
            found += int(rest[0]) * 1024
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux does")
def test_rows_read_at_random_do_not_hold_the_files(
    tmp_path: Path, store: Store, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row maps the whole page of the cache that it lies in, of 2 MiB on some file systems, so few rows map much."""
    values = vectors(4096, width=2048)
    for start in range(0, len(values), 512):
        shard = write_shard(store, BACKBONE, {}, features(values[start : start + 512], start))
        commit(writer, str(start), shard, width=2048)
    monkeypatch.setattr(shards, "MAPPED_BYTES", 8 << 20)
    reader, seen = FeatureReader(store, BACKBONE), []
    for seed in range(10):
        rows = np.random.default_rng(seed).integers(len(values), size=64)
        assert np.array_equal(reader.gather("conversation", [f"{row:06}" for row in rows]), values[rows])
        seen.append(mapped_bytes(tmp_path))
    assert max(seen) <= (8 << 20)


def test_a_shard_of_many_batches_is_read_whole(store: Store, writer: Writer) -> None:
    values = vectors(BATCH_ROWS * 2 + 5, width=2)
    shard = write_shard(store, BACKBONE, {}, features(values))
    commit(writer, "a", shard, width=2)
    assert open_shard(store, shard["shard"]).column("id").num_chunks == 3
    last = f"{len(values) - 1:06}"
    assert FeatureReader(store, BACKBONE).gather("conversation", [last])[0, 0] == len(values)


def test_equal_features_are_one_object_in_any_order(store: Store) -> None:
    some = features(vectors(5))
    assert write_shard(store, BACKBONE, {}, some) == write_shard(store, BACKBONE, {}, some[::-1])


def test_a_flipped_byte_is_named(store: Store) -> None:
    shard = write_shard(store, BACKBONE, {}, features(vectors(50)))["shard"]
    path: Path = store.objects.path(shard)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    overwrite(path, content)
    with pytest.raises(CorruptObject):
        open_shard(Store(store.place), shard)


@pytest.mark.parametrize("poison", [np.nan, np.inf, 0.0])
def test_an_unusable_vector_stops_the_shard_and_names_the_text(store: Store, poison: float) -> None:
    values = vectors(3)
    values[1] = poison
    with pytest.raises(StoreError, match="conversation 000001"):
        write_shard(store, BACKBONE, {}, features(values))
    assert not (Path(store.place) / "objects").exists()


def test_what_was_never_embedded_is_named(store: Store, writer: Writer) -> None:
    commit(writer, "a", write_shard(store, BACKBONE, {}, features(vectors(3))))
    with pytest.raises(NotInStore, match=r"\bconversation\b.*\bother\b.*`armorm embed`"):
        FeatureReader(store, BACKBONE).gather("conversation", ["other"])


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("indexed", [True, False])
def test_half_precision_reads_back_as_float32(store: Store, writer: Writer, indexed: bool) -> None:
    values = vectors(20)
    objects = write_shard(store, BACKBONE, {}, features(values), vector_type="float16")
    commit(writer, "a", objects if indexed else {"shard": objects["shard"]})
    expected = values.astype(np.float16).astype(np.float32)
    ids = [f"{i:06}" for i in range(20)]
    assert np.array_equal(FeatureReader(store, BACKBONE).gather("conversation", ids), expected)
    rows = query(store, "SELECT vector, typeof(vector) FROM features ORDER BY id").rows
    assert {row[1] for row in rows} == {"FLOAT[8]"}
    assert np.array_equal(np.array([row[0] for row in rows], np.float32), expected)


LARGEST = float(np.finfo(np.float16).max)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.floats(-LARGEST, LARGEST, width=32), min_size=7, max_size=7))
def test_half_precision_is_within_half_a_unit_in_the_last_place(store: Store, numbers: list[float]) -> None:
    exact = np.array([[1, *numbers]], np.float32)  # one at least, lest all of them are rounded to zero
    shard = write_shard(store, BACKBONE, {}, features(exact), vector_type="float16")["shard"]
    stored = open_shard(store, shard)["vector"].combine_chunks().flatten().to_numpy().astype(np.float64)
    _, exponents = np.frexp(exact[0])  # of numbers from 1/2 to 1
    units = np.ldexp(1.0, np.maximum(exponents - 1, -14) - 10)  # 10 bits behind the point, the least normal is 2**-14
    assert (np.abs(stored - exact[0]) <= units / 2).all()


def test_what_half_precision_cannot_hold_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="conversation 000000"):
        write_shard(store, BACKBONE, {}, features(vectors(1) + 70_000), vector_type="float16")


def test_a_shard_of_a_later_version_is_refused_by_name(store: Store) -> None:
    ref = write_shard(store, BACKBONE, {}, features(vectors(1)))["shard"]
    table = open_shard(store, ref)
    later = table.replace_schema_metadata({**table.schema.metadata, b"format": b"9"})

    def write(path: Path) -> None:
        with ipc.new_file(str(path), later.schema) as file:
            file.write_table(later)

    with pytest.raises(StoreError, match=r"\bformat 9;"):
        open_shard(store, store.objects.put("arrow", write))


def test_a_text_that_two_shards_hold_has_one_vector(store: Store, writer: Writer) -> None:
    values = vectors(4)
    for name, some in (("a", features(values[:3])), ("b", features(values[2:], start=2))):
        commit(writer, name, write_shard(store, BACKBONE, {}, some))
    ids = [f"{i:06}" for i in range(4)]
    assert np.array_equal(FeatureReader(store, BACKBONE).gather("conversation", ids), values)

"""Statistics and regression over a store: kept, updated by just the rows that changed, and the same as from arrays."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from armorm.config import RegressionConfig
from armorm.features.catalog.inventory import stored_objectives
from armorm.features.checks.contamination import CONTAMINATION, ContaminationSettings
from armorm.features.conversation import TRAINING, Conversation, conversation_id, single_turn
from armorm.features.errors import NotInStore
from armorm.features.store import Artifact, Done, ObjectRef, Recipe, Store, Writer
from armorm.features.store.json_records import read_record
from armorm.features.store.store import Made
from armorm.features.vectors import shards
from armorm.features.vectors.shards import SLOT, Feature, FeatureReader, write_shard
from armorm.maths.ridge import count_rows, fit_ridge
from armorm.maths.statistics import RidgeStatistics
from armorm.records.regression import RegressionResult
from armorm.stages import statistics as stage
from armorm.stages.common import stage_artifact
from armorm.stages.data import load_ratings
from armorm.stages.regress import REGRESS, read_regression
from armorm.stages.statistics import STATISTICS, read_parts
from tests.features.canonical import SCALE, Dataset

BACKBONE, D, SHARD = "b" * 32, 8, 50
A, B, C = "helpsteer-helpfulness", "helpsteer-coherence", "my-own"
SPLITS = ("train", "train", "train", "validation", "test")


def text(i: int) -> Conversation:
    """Two answers to each prompt."""
    return single_turn(f"question {i // 2} of many, about {i // 2 * 17}", f"answer {i}")


def vector(i: int) -> npt.NDArray[np.float32]:
    return (1 + np.random.default_rng(i).normal(size=D)).astype(np.float32)


class World:
    """Two datasets over the same texts, both of which rate A: a store's tables as they stand."""

    def __init__(self, writer: Writer) -> None:
        self.writer, self.store = writer, writer.store
        self.raw: dict[tuple[str, int, str], float] = {}
        for i in range(300):
            for name in (A, B) if i % 60 else (A,):  # rows that lack B are fewer than D in each split
                self.raw["first", i, name] = float(np.random.default_rng([i, len(name)]).integers(5))
        for i in range(200, 400):
            for name in (A, C):
                self.raw["second", i, name] = float(np.random.default_rng([i, 7]).integers(5))

    def commit(self) -> None:
        """The tables, and shards for the texts that have no vector yet."""
        for name in ("first", "second"):
            dataset = Dataset(name)
            for (of, i, objective), raw in self.raw.items():
                if of == name:
                    dataset.rate(f"{i:06}", text(i), raw, objective=objective, split=SPLITS[i // 2 % 5])
            dataset.commit(self.writer)
        known = set(FeatureReader(self.store, BACKBONE).ids("conversation"))
        missing = sorted({i for _, i, _ in self.raw if conversation_id(text(i)) not in known})
        self.writer.commit(Recipe(f"backbone/{BACKBONE}", "backbone", 1, {}, {}), Made({}, {"hidden_size": D}))
        for start in range(0, len(missing), SHARD):
            self.embed(missing[start : start + SHARD])
        CONTAMINATION.ensure(self.writer, ContaminationSettings())

    def embed(self, of: list[int]) -> Artifact:
        """A shard of their vectors."""
        features = [Feature("conversation", conversation_id(text(i)), 7, False, vector(i)) for i in of]
        objects = write_shard(self.store, BACKBONE, {}, features)
        return self.writer.commit(Recipe(shards.slot_of(BACKBONE, objects["shard"]), "embed", 1, {}, {}), Made(objects))

    def update(self) -> Done:
        return STATISTICS.ensure(self.writer, None, BACKBONE)

    def parts(self) -> Iterator[tuple[tuple[str, ...], str, RidgeStatistics]]:
        for part in read_parts(self.store, BACKBONE):
            for split in TRAINING:
                yield part.objectives, split, part.statistics(split)

    def check(self) -> None:
        """All statistics are those of the rows, counted from scratch from the tables."""
        found = {(*key, s.n_rows): s for *key, s in self.parts()}
        assert sum(s.n_rows for s in found.values()) == len(
            {(of, i) for of, i, _ in self.raw if SPLITS[i // 2 % 5] != "test"}
        )
        labels: dict[tuple[str, int], dict[str, float]] = {}
        for (of, i, objective), raw in self.raw.items():
            labels.setdefault((of, i), {})[objective] = SCALE.to_value(raw)
        for (objectives, split, n_rows), statistics in found.items():
            rows = [
                (i, [values[name] for name in objectives])
                for (_, i), values in labels.items()
                if set(values) == set(objectives) and SPLITS[i // 2 % 5] == split
            ]
            assert len(rows) == n_rows
            X_ND, Y_NG = np.array([vector(i) for i, _ in rows]), np.array([values for _, values in rows])
            expected = count_rows(X_ND.reshape(-1, D), Y_NG.reshape(-1, len(objectives)), np.arange(n_rows))
            for name in ("gram_DD", "moment_DG", "squares_G"):
                np.testing.assert_allclose(getattr(statistics, name), getattr(expected, name), rtol=1e-9, atol=1e-9)


@pytest.fixture
def world(writer: Writer) -> World:
    world = World(writer)
    world.commit()
    return world


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Shards whose vectors are opened."""
    found: set[str] = set()
    map_shard = shards._map_shard

    def watched(store: Store, ref: ObjectRef) -> object:
        found.add(ref.sha256)
        return map_shard(store, ref)

    monkeypatch.setattr(shards, "_map_shard", watched)
    return found


def shard_of(world: World, i: int) -> set[str]:
    return set(FeatureReader(world.store, BACKBONE).places("conversation", [conversation_id(text(i))])["shard"])


def test_statistics_are_those_of_the_rows_and_kept_where_rows_are_many(world: World) -> None:
    done = world.update()
    world.check()
    kept = [name for name in done.artifact.objects if not name.startswith("rows/")]
    assert len([name for name in done.artifact.objects if name.startswith("rows/")]) == 3
    expected = {f"{split}/{dataset}" for split in TRAINING for dataset in ("first", "second")}
    assert sorted(name.rpartition("/")[0] for name in kept) == sorted(expected)
    assert world.update().reason is None


def test_small_products_are_made_in_one_thread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    add = RidgeStatistics.add

    def counted(self: RidgeStatistics, *arguments: Any, **options: Any) -> None:
        threads.update(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        add(self, *arguments, **options)

    monkeypatch.setattr(RidgeStatistics, "add", counted)
    with threadpool_limits(2, user_api="blas"):
        world.update()
    assert threads == {1}


def test_parts_are_summed_in_one_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An artifact that was just made has its objects in another order than one that was read."""
    artifact = world.update().artifact
    other = replace(artifact, objects=dict(sorted(artifact.objects.items(), reverse=True)))
    orders = []
    for one in (artifact, other):
        monkeypatch.setattr(stage, "stage_artifact", lambda *_, one=one: one)
        orders.append(
            [(part.objectives, part.statistics("train").n_rows) for part in read_parts(world.store, BACKBONE)]
        )
    assert len(orders[0]) == 3
    assert orders[0] == orders[1]


def test_an_edited_rating_opens_only_its_shard(world: World, opened: set[str]) -> None:
    before = world.update().artifact
    world.raw["first", 7, A] = 4 - world.raw["first", 7, A]
    world.commit()
    opened.clear()
    after = world.update().artifact
    assert opened == shard_of(world, 7)
    assert after.summary["measured"]["rows"] == 2  # the old one out, the new one in
    changed = {name.split("/")[0] for name, ref in after.objects.items() if before.objects[name] != ref}
    assert changed == {"rows", SPLITS[7 // 2 % 5]}
    world.check()


def test_rows_that_come_and_go_are_all_that_is_read(world: World, opened: set[str]) -> None:
    world.update()
    for i in range(400, 420):
        world.raw["second", i, A] = world.raw["second", i, C] = float(i % 5)
    del world.raw["first", 60, A]
    world.commit()
    opened.clear()
    after = world.update().artifact
    assert opened == shard_of(world, 400)  # 60 is of a group that is not summed up
    assert after.summary["measured"]["rows"] == sum(SPLITS[i // 2 % 5] != "test" for i in range(400, 420))
    world.check()


def test_other_tables_of_the_same_ratings_are_no_reason_to_read(world: World, opened: set[str]) -> None:
    before = world.update().artifact
    other = Dataset("pairs")
    other.prefer("p", "one", "other")
    other.commit(world.writer)
    opened.clear()
    done = world.update()
    assert "ingest/pairs" in done.reason
    assert (opened, done.artifact.objects) == (set(), before.objects)
    assert "measured" in done.artifact.summary


def test_what_stands_in_a_shard_that_is_gone_is_counted_anew(world: World) -> None:
    """When something is forgotten: nothing of it is left, not even its rounding."""
    world.update()
    gone = shard_of(world, 7)
    slots = [a.recipe.slot for a in world.store.head().within(SLOT).values() if a.objects["shard"].sha256 in gone]
    ids = set(FeatureReader(world.store, BACKBONE).ids("conversation"))
    world.writer.commit_all([], remove=slots)
    left = set(FeatureReader(world.store, BACKBONE).ids("conversation"))
    for key in [key for key in world.raw if key[1] == 7]:
        del world.raw[key]
    world.embed([i for i in range(400) if i != 7 and conversation_id(text(i)) in ids - left])
    world.commit()
    n_read = world.update().artifact.summary["measured"]["rows"]
    assert n_read == sum(s.n_rows for of, _, s in world.parts() if set(of) == {A, B})  # the shard held none of C
    world.check()


@pytest.mark.parametrize(
    "config",
    [
        RegressionConfig(),
        RegressionConfig(refit=False),
        RegressionConfig(alphas=(2.0,)),
    ],
)
def test_the_regression_is_that_of_the_arrays(world: World, config: RegressionConfig) -> None:
    world.update()
    REGRESS.ensure(world.writer, config, BACKBONE)
    objectives, W_KD = read_regression(world.store)
    assert objectives == (A, B, C)
    names = stored_objectives(world.store.head())
    rated = load_ratings(world.store, names, backbone_id=BACKBONE)
    X_ND = FeatureReader(world.store, BACKBONE).gather("conversation", rated.conversation_ids.tolist())
    masks = {f"{split}_N": rated.split_N == split for split in ("train", "validation", "test")}
    arrays = X_ND.astype(float), rated.Y_NK
    expected = fit_ridge(*arrays, objectives=names, alphas=config.alphas, refit=config.refit, **masks)
    np.testing.assert_allclose(W_KD, expected.W_KD, rtol=1e-9, atol=1e-9)
    record = read_record(world.store, stage_artifact(world.store.head(), "regress"), RegressionResult)
    for fit, report in zip(record.regression, expected.reports, strict=True):
        for name in ("objective", "alpha", "n_train", "n_validation", "n_test"):
            assert getattr(fit, name) == getattr(report, name)
        for name in ("train_mse", "validation_mse", "test_mse", "test_r2", "test_spearman"):
            assert getattr(fit, name) == pytest.approx(getattr(report, name), rel=1e-7)
        assert fit.test_mse_native == pytest.approx(25 * fit.test_mse)
        assert min(fit.test_mse_error, fit.test_r2_error) > 0


def test_statistics_of_older_tables_are_not_fitted(world: World) -> None:
    with pytest.raises(NotInStore, match=r"\bstatistics\b.*\barmorm run\b"):
        REGRESS.ensure(world.writer, RegressionConfig(), BACKBONE)
    world.update()
    world.raw["first", 7, A] = 4 - world.raw["first", 7, A]
    world.commit()
    with pytest.raises(NotInStore, match=r"\bingest/first\b.*\barmorm train\b"):
        REGRESS.ensure(world.writer, RegressionConfig(), BACKBONE)


def test_an_alpha_at_an_end_is_a_warning(world: World) -> None:
    """Features with a mean predict the mean rating: penalties that shrink it away are worse than the least of them."""
    world.update()
    done = REGRESS.ensure(world.writer, RegressionConfig(alphas=(1e4, 1e6)), BACKBONE)
    record = read_record(world.store, done.artifact, RegressionResult)
    ends = {fit.objective: fit.alpha_end for fit in record.regression}
    assert ends == dict.fromkeys((A, B, C), "smallest")
    assert re.search(rf"\bsmallest\b.*\b{', '.join(ends)}\b", REGRESS.warning_of(record))
    alone = REGRESS.ensure(world.writer, RegressionConfig(alphas=(1.0,)), BACKBONE)
    assert not REGRESS.warning_of(read_record(world.store, alone.artifact, RegressionResult))


def test_two_ratings_of_one_text_in_a_dataset_both_count(world: World) -> None:
    """And taking one of two equal ones out leaves the other."""
    dataset = Dataset("third")
    for i in range(20):
        for row in ("x", "y"):
            dataset.rate(f"{row}{i}", text(i * 10), 3, objective=C, split="train")
    dataset.commit(world.writer)
    world.update()
    objects = world.store.head().artifacts["statistics"].objects
    (name,) = (name for name in objects if name.startswith("train/third"))

    def n_rows() -> int:
        ref = world.store.head().artifacts["statistics"].objects[name]
        return RidgeStatistics.of_arrays(stage.read_arrays(world.store, ref)).n_rows

    assert n_rows() == 40
    dataset.ratings.pop()
    dataset.commit(world.writer)
    assert world.update().artifact.summary["measured"]["rows"] == 1
    assert n_rows() == 39

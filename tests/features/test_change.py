"""How far data have moved since a model was trained on them: every share and distance is known by construction."""

import re
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armorm.features.checks.change import (
    MODEL,
    Change,
    RetrainSettings,
    change_since,
    change_since_training,
    due,
    trained_in,
)
from armorm.features.checks.contamination import CONTAMINATION, ContaminationSettings
from armorm.features.conversation import single_turn
from armorm.features.store import Artifact, Made, Recipe, Store, Writer
from tests.features.canonical import OBJECTIVE, Dataset


def rated(raws: Mapping[int, float], *, split: str = "train", name: str = "mine", version: str = "") -> Dataset:
    """A rating of each numbered answer, and a pair for every second of them."""
    dataset = Dataset(name, split=split)
    for number, raw in raws.items():
        dataset.rate(f"{version}row {number}", single_turn(f"question {number}", f"answer {number}"), raw)
    return dataset


def model(writer: Writer, of: str = "weights") -> Artifact:
    ref = writer.store.objects.put_bytes("json", of.encode())
    return writer.commit(Recipe(MODEL, MODEL, 1, {}, {"of": of}), Made({"tensors": ref}))


def test_rows_that_were_added_removed_and_edited_are_counted_by_what_they_say(store: Store, writer: Writer) -> None:
    rated(dict.fromkeys(range(100), 2.0)).commit(writer)
    before = store.head()
    after = dict.fromkeys(range(3, 100), 2.0) | dict.fromkeys(range(10, 14), 3.0) | dict.fromkeys(range(100, 102), 2.0)
    rated(after, version="other ").commit(writer)  # every native row is another, which says nothing yet
    found = change_since(store, before, store.head())
    assert (found.n_before, found.added, found.removed, found.edited) == (100, 2, 3, 4)
    assert found.rows == pytest.approx(0.09)
    back = change_since(store, store.head(), before)
    assert (back.n_before, back.added, back.removed, back.edited) == (99, 3, 2, 4)
    assert found.drift == back.drift == pytest.approx(4 / 99)


def test_a_pair_whose_sides_change_places_is_edited(store: Store, writer: Writer) -> None:
    for turned in (False, True):
        dataset = Dataset("mine")
        for number in range(10):
            sides = ("better", "worse") if number or not turned else ("worse", "better")
            dataset.prefer(f"row {number} {sides}", *sides, prompt=f"question {number}")
        dataset.commit(writer)
    found = change_since(store, store.manifests.read(1), store.head())
    assert (found.n_before, found.added, found.removed, found.edited, found.drift) == (10, 0, 0, 1, 0.0)


def test_drift_is_the_distance_that_the_check_measures(store: Store, writer: Writer) -> None:
    rated(dict.fromkeys(range(10), 0.0)).commit(writer)
    rated({0: 1.0}, name="small").commit(writer)
    before = store.head()
    rated(dict.fromkeys(range(2), 4.0) | dict.fromkeys(range(2, 10), 0.0)).commit(writer)
    found = change_since(store, before, store.head())
    assert [(m.dataset, m.objective, m.n_before, m.n_after) for m in found.moved] == [("mine", OBJECTIVE, 10, 10)]
    assert found.drift == pytest.approx(0.2)
    assert (found.n_before, found.edited) == (11, 2)


def test_only_what_enters_training_counts(store: Store, writer: Writer) -> None:
    rated({0: 1.0, 1: 2.0}).commit(writer)
    for split in ("test", "evaluation"):
        rated({5: 1.0}, split=split, name=split).commit(writer)
    before = store.head()
    for split in ("test", "evaluation"):
        rated({5: 4.0, 6: 3.0}, split=split, name=split).commit(writer)
    found = change_since(store, before, store.head())
    assert (found.n_before, found.rows, found.drift) == (2, 0, 0)


def test_a_new_benchmark_takes_rows_out_of_datasets_that_are_the_same(store: Store, writer: Writer) -> None:
    rated({0: 1.0, 1: 2.0}).commit(writer)
    CONTAMINATION.ensure(writer, ContaminationSettings())
    before = store.head()
    rated({1: 1.0}, split="evaluation", name="benchmark").commit(writer)
    CONTAMINATION.ensure(writer, ContaminationSettings())
    found = change_since(store, before, store.head())
    assert (found.n_before, found.added, found.removed, found.edited) == (2, 0, 1, 0)


def test_a_dataset_that_comes_or_goes_is_a_matter_of_rows(store: Store, writer: Writer) -> None:
    rated({0: 1.0, 1: 2.0}).commit(writer)
    before = store.head()
    rated({0: 4.0}, name="new").commit(writer)
    found = change_since(store, before, store.head())
    assert (found.n_before, found.added, found.removed, found.drift) == (2, 1, 0, 0.0)
    writer.commit_all([], remove=["ingest/mine"])
    found = change_since(store, before, store.head())
    assert (found.n_before, found.added, found.removed, found.drift) == (2, 1, 2, 0.0)


def test_where_manifests_agree_nothing_is_opened(store: Store, writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    rated({0: 1.0}).commit(writer)
    before = store.head()
    model(writer)
    monkeypatch.setattr("armorm.features.checks.change.connect", None)
    found = change_since(store, before, store.head())
    assert (found.rows, found.drift, due(found, RetrainSettings(rows=0, drift=0))) == (0, 0, None)
    assert re.search(r"\b1 to 2\b", found.line)


def test_what_a_model_was_trained_on_stands_in_the_oldest_snapshot_that_holds_it(store: Store, writer: Writer) -> None:
    rated({0: 1.0}).commit(writer)
    assert change_since_training(store) is None
    first = model(writer)
    rated({0: 1.0, 1: 1.0}).commit(writer)
    second = model(writer, "other weights")
    rated({0: 1.0, 1: 1.0, 2: 1.0}).commit(writer)
    assert [getattr(trained_in(store, of), "number", None) for of in (first, second)] == [2, 4]
    found = change_since_training(store)
    assert found is not None
    assert (found.before, found.after, found.n_before, found.added) == (4, 5, 2, 1)


def test_what_is_due_is_said_in_words() -> None:
    assert due(Change(1, 2, 100, added=5), RetrainSettings()) is None
    assert re.search(r"\b6\.0%.*\b5\.0%", str(due(Change(1, 2, 100, added=5, edited=1), RetrainSettings())))
    assert due(Change(1, 2, 100, removed=1), RetrainSettings(rows=0)) is not None


@pytest.mark.parametrize(("name", "value"), [("rows", -1), ("drift", 1.5)])
def test_a_bound_that_cannot_be_one_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"\b{name}\b.* {value};"):
        RetrainSettings(**{name: value})


@settings(max_examples=25)
@given(
    before=st.dictionaries(st.integers(0, 20), st.sampled_from([0.0, 2.0, 4.0]), min_size=1),
    after=st.dictionaries(st.integers(0, 20), st.sampled_from([0.0, 2.0, 4.0]), min_size=1),
)
def test_counts_are_those_of_two_dictionaries(
    tmp_path_factory: pytest.TempPathFactory, before: dict[int, float], after: dict[int, float]
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    with store.writing("test") as writer:
        for raws in (before, after):
            rated(raws).commit(writer)
    found = change_since(store, store.manifests.read(1), store.head())
    expected = (
        len(after.keys() - before.keys()),
        len(before.keys() - after.keys()),
        sum(before[key] != after[key] for key in before.keys() & after.keys()),
    )
    assert (found.added, found.removed, found.edited) == expected

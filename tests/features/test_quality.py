"""Each check finds the rows that it is for and nothing in clean data; severities, gates, and what is not run again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from armorm.features.checks.quality import (
    CHECKS,
    QUALITY,
    offending_rows,
    read_checks,
    require_passed,
    run_checks,
)
from armorm.features.conversation import conversation_id, single_turn
from armorm.features.errors import InputError, QualityError
from armorm.features.store import Store, Writer
from armorm.features.store.artifacts import why_stale
from tests.features.canonical import Dataset

pytestmark = pytest.mark.usefixtures("in_process")

NAMES = sorted(path.stem for path in CHECKS.glob("*.sql"))
STOPPING = {"empty_turns", "identical_pairs", "missing_values", "ratings_out_of_range", "role_order", "split_leaks"}


def answer(text: str) -> str:
    """The id of an answer to the prompt that `Dataset.prefer` asks by default."""
    return conversation_id(single_turn("Which one?", text))


def clean(name: str = "mine") -> Dataset:
    """Two rated answers, a system turn, three answers in one order; nothing to find."""
    dataset = Dataset(name, kept=10)
    dataset.rate("r1", single_turn("What now?", "This one."), 0)
    dataset.rate("r2", (("system", "Be kind."), *single_turn("What now?", "That one.")), 4)
    for row, (better, worse) in enumerate([("first", "second"), ("second", "third"), ("first", "third")]):
        dataset.prefer(f"p{row}", better, worse)
    return dataset


def no_range(dataset: Dataset) -> None:
    dataset.rate("low", single_turn("q", "low"), 2, value=-0.1)
    dataset.rate("nan", single_turn("q", "nan"), 2, value=float("nan"))
    dataset.rate("off", single_turn("q", "off"), 5, value=0.9)


def nothing_there(dataset: Dataset) -> None:
    dataset.rate("unsplit", single_turn("q", "unsplit"), 2, split=None)
    dataset.prefer("unpaired", "one", "two", pair_id=None)
    dataset.take(single_turn("q", "uncounted"), n_chars=None)


def same_rating_twice(dataset: Dataset) -> None:
    for row, raw in (("a", 3), ("b", 3), ("c", 2)):
        dataset.rate(row, single_turn("q", f"rated {raw}"), raw)


def disagreeing_ratings(dataset: Dataset) -> None:
    for row, raw in (("a", 1), ("b", 4), ("c", 4)):
        dataset.rate(row, single_turn("q", "rated"), raw, source_row=row)
    dataset.rate("d", single_turn("q", "rated"), 2, objective="helpsteer-coherence")


def same_pair_twice(dataset: Dataset) -> None:
    dataset.prefer("again", "first", "third")


def pair_of_one(dataset: Dataset) -> None:
    dataset.prefer("same", "fifth", "fifth")


def wrong_roles(dataset: Dataset) -> None:
    dataset.rate("turned", (("assistant", "What now?"), ("user", "This one.")), 2)
    dataset.rate("two", (*single_turn("q", "ab"), ("assistant", "and more")), 2)
    dataset.rate("late", (("user", "q"), ("system", "Be kind."), ("assistant", "abc")), 2)


def no_text(dataset: Dataset) -> None:
    dataset.rate("blank", single_turn("\u00a0\n", "An answer."), 2)
    dataset.rate("empty", single_turn("Who?", "Me.") + single_turn("", "You."), 2)


def tiny(dataset: Dataset) -> None:
    dataset.rate("no", single_turn("q", "no"), 2)
    dataset.rate("yes", single_turn("q", "yes"), 2)


def both_ways(dataset: Dataset) -> None:
    dataset.prefer("back", "third", "first")


def other_split(dataset: Dataset) -> None:
    dataset.rate("moved", single_turn("What now?", "Another one."), 2, split="test")
    dataset.rate("benchmark", single_turn("Which one?", "Another one."), 2, split="evaluation")


def refused(dataset: Dataset) -> None:
    for row, reason in (("a", "is_safe_contradicts_category"), ("b", "score_contradicts_result"), ("c", "other")):
        dataset.reject(row, reason)


def mostly_refused(dataset: Dataset) -> None:
    for number in range(11):
        dataset.reject(f"r{number}", "other")


@dataclass
class Case:
    """What spoils a clean dataset, and the rows that a check then finds, by some of its columns."""

    spoil: Callable[[Dataset], None]
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    also: frozenset[str] = frozenset()
    """Other checks that have to find something in it as well."""


CASES = {
    "ratings_out_of_range": Case(no_range, ("source_row",), [("low",), ("nan",), ("off",)]),
    "missing_values": Case(
        nothing_there,
        ("table", "source_row", "missing"),
        [("conversations", None, "n_chars"), ("preferences", "unpaired", "pair_id"), ("ratings", "unsplit", "split")],
    ),
    "duplicate_ratings": Case(same_rating_twice, ("source_row", "other_source_row", "raw"), [("a", "b", 3)]),
    "double_labels": Case(
        disagreeing_ratings,
        ("lowest", "lowest_source_row", "highest", "ratings"),
        [(1, "a", 4, 3)],
        frozenset({"duplicate_ratings"}),
    ),
    "duplicate_pairs": Case(
        same_pair_twice, ("chosen_id", "rejected_id", "pairs"), [(answer("first"), answer("third"), 2)]
    ),
    "identical_pairs": Case(pair_of_one, ("source_row",), [("same",)]),
    "role_order": Case(wrong_roles, ("source_row",), [("late",), ("turned",), ("two",)]),
    "empty_turns": Case(no_text, ("source_row", "turn", "role"), [("blank", 1, "user"), ("empty", 3, "user")]),
    "tiny_answers": Case(tiny, ("source_row", "answer"), [("no", "no")]),
    "contradicting_preferences": Case(
        both_ways, ("dataset", "other_dataset", "first_preferred", "second_preferred"), [("mine", "mine", 1, 1)]
    ),
    "safety_contradicts_categories": Case(refused, ("source_row",), [("a",)], frozenset({"score_contradicts_result"})),
    "score_contradicts_result": Case(refused, ("source_row",), [("b",)], frozenset({"safety_contradicts_categories"})),
    "split_leaks": Case(other_split, ("splits", "datasets"), [(["test", "train"], ["mine"])]),
    "low_kept_share": Case(mostly_refused, ("dataset", "rows", "kept"), [("mine", 21, 10)]),
}


def found(store: Store, name: str, *columns: str) -> list[tuple[Any, ...]]:
    result = offending_rows(store, name)
    return sorted((tuple(row[result.columns.index(c)] for c in columns) for row in result.rows), key=str)


def finding(store: Store) -> set[str]:
    return {result.name for result in run_checks(store, {}) if result.n_rows}


def test_nothing_is_found_in_clean_data_or_in_none(store: Store, writer: Writer) -> None:
    assert finding(store) == set()
    clean().commit(writer)
    assert finding(store) == set()


@pytest.mark.parametrize("name", CASES)
def test_a_check_finds_its_rows_and_others_find_none(store: Store, writer: Writer, name: str) -> None:
    case, dataset = CASES[name], clean()
    case.spoil(dataset)
    dataset.commit(writer)
    assert found(store, name, *case.columns) == case.rows
    assert finding(store) == {name} | case.also


@pytest.mark.parametrize(("kept", "rejected", "is_found"), [(10, 0, False), (9, 12, False), (4, 0, True)])
def test_what_is_kept_is_held_against_the_share_that_was_asked_for(
    store: Store, writer: Writer, kept: int, rejected: int, is_found: bool
) -> None:
    """A tenth of 100 rows is ten, of which half are few; rows that are refused are so wherever their prompt lies."""
    dataset = clean()
    dataset.share, dataset.kept, dataset.rejected, dataset.outside_share = 0.1, kept, rejected, 100 - kept - rejected
    dataset.commit(writer)
    expected = [("mine", 100, kept, pytest.approx(kept / 10))] if is_found else []
    assert found(store, "low_kept_share", "dataset", "rows", "kept", "kept_share") == expected


def test_pairs_are_compared_across_datasets(store: Store, writer: Writer) -> None:
    clean().commit(writer)
    other = Dataset("other")
    other.prefer("same", "first", "second")
    other.prefer("contrary", "third", "second")
    other.commit(writer)
    assert found(store, "duplicate_pairs", "datasets") == [(["mine", "other"],)]
    assert sorted(found(store, "contradicting_preferences", "dataset", "other_dataset")[0]) == ["mine", "other"]


def circle(dataset: Dataset, *answers: str, prompt: str = "Which one?") -> None:
    for number, better in enumerate(answers):
        dataset.prefer(f"{prompt}{number}", better, answers[(number + 1) % len(answers)], prompt=prompt)


@pytest.mark.parametrize("length", [3, 4, 5])
def test_a_circle_of_preferences_is_found_once(store: Store, writer: Writer, length: int) -> None:
    dataset = clean()
    answers = [f"answer {number}" for number in range(length)]
    circle(dataset, *answers)
    dataset.prefer("out", "answer 0", "first")
    dataset.commit(writer)
    pair_ids = {pair["pair_id"] for pair in dataset.preferences[3:-1]}
    ((first_id, found_length, found_pairs),) = found(store, "preference_cycles", "first_id", "length", "pair_ids")
    assert (first_id, found_length, set(found_pairs)) == (min(map(answer, answers)), length, pair_ids)


def test_what_is_no_circle_of_three_to_five_is_not_listed(store: Store, writer: Writer) -> None:
    dataset = clean()
    circle(dataset, "one", "two", prompt="Both ways?")  # that is a contradiction
    circle(dataset, "one", "two", "three", prompt="All ways?")
    circle(dataset, "three", "two", "one", prompt="All ways?")
    circle(dataset, *"abcdef", prompt="Six?")
    sides = {"Here?": ("one", "two"), "There?": ("two", "three"), "Where?": ("three", "one")}
    for prompt, (better, worse) in sides.items():  # a circle of answers, but to three prompts
        dataset.prefer(prompt, better, worse, prompt=prompt)
    dataset.commit(writer)
    assert found(store, "preference_cycles", "prompt_id") == []
    assert len(found(store, "contradicting_preferences", "prompt_id")) == 4


def rated(raws: list[int], name: str = "mine") -> Dataset:
    dataset = Dataset(name, kept=10)
    for number, raw in enumerate(raws):
        dataset.rate(f"r{number}", single_turn("q", f"answer {number}"), raw)
    return dataset


@pytest.mark.parametrize(("moved", "distance"), [(1, 0.0), (2, 0.2)])
def test_ratings_that_moved_are_measured_against_the_last_other_content(
    store: Store, writer: Writer, moved: int, distance: float
) -> None:
    rated([4] * 10).commit(writer)
    rated([0] * 10).commit(writer)
    rated([0] * 10, "other").commit(writer)  # another dataset's commit does not count
    rated([4] * moved + [0] * (10 - moved)).commit(writer)
    expected = [("mine", pytest.approx(distance), 10, 10)] if distance else []
    assert found(store, "moved_ratings", "dataset", "distance", "ratings_earlier", "ratings_now") == expected


def test_an_objective_that_is_no_longer_rated_has_moved_as_a_whole(store: Store, writer: Writer) -> None:
    rated([1, 2, 3]).commit(writer)
    clean().commit(writer)
    dataset = clean()
    dataset.ratings = []
    dataset.commit(writer)
    assert found(store, "moved_ratings", "distance", "ratings_now") == [(1.0, 0)]


def test_a_severity_can_be_overridden(store: Store, writer: Writer) -> None:
    dataset = clean()
    pair_of_one(dataset)
    dataset.commit(writer)
    assert {check.name for check in read_checks({}) if check.severity == "stop"} == STOPPING
    with pytest.raises(QualityError, match=r"\bidentical_pairs \(1\);.*--show identical_pairs\b") as caught:
        require_passed(run_checks(store, {}))
    assert caught.value.found == {"identical_pairs": 1}
    require_passed(run_checks(store, {"identical_pairs": "warn"}))
    assert "identical_pairs" not in {result.name for result in run_checks(store, {"identical_pairs": "off"})}


def test_an_unknown_check_names_the_known_ones(store: Store) -> None:
    with pytest.raises(InputError, match=r"\broles;.*\bcontradicting_preferences, .*\btiny_answers\b"):
        read_checks({"roles": "off"})
    with pytest.raises(InputError, match=r"\broles;.*\bcontradicting_preferences, .*\btiny_answers\b"):
        offending_rows(store, "roles")


def test_results_carry_their_first_rows(store: Store, writer: Writer) -> None:
    dataset = clean()
    for number in range(5):
        dataset.prefer(f"same{number}", "x", "x")
    dataset.commit(writer)
    (result,) = [result for result in run_checks(store, {}) if result.name == "identical_pairs"]
    assert (result.n_rows, len(result.examples)) == (5, 3)
    assert result.examples[0]["source_row"] == "same0"
    assert {"pairs", "chosen", "rejected"} <= {*result.what.split()}


def test_checks_run_again_only_when_something_has_changed(store: Store, writer: Writer) -> None:
    dataset = clean()
    same_pair_twice(dataset)
    dataset.commit(writer)
    first = QUALITY.ensure(writer, {})
    assert first.reason == why_stale(first.artifact.recipe, None)
    counts = {result.name: result.n_rows for result in QUALITY.told(store, first.artifact)}
    assert counts == dict.fromkeys(NAMES, 0) | {"duplicate_pairs": 1}
    assert QUALITY.ensure(writer, {}).reason is None
    assert "duplicate_pairs warn" in str(QUALITY.ensure(writer, {"duplicate_pairs": "stop"}).reason)
    assert next(r for r in QUALITY.told(store, store.find("quality")) if r.name == "duplicate_pairs").stops
    clean().commit(writer)
    reason = str(QUALITY.ensure(writer, {"duplicate_pairs": "stop"}).reason)
    assert ("ingest/mine" in reason, "duplicate_pairs" in reason) == (True, False)


def test_every_check_has_a_test() -> None:
    assert set(NAMES) == {*CASES, "preference_cycles", "moved_ratings"}

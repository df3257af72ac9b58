"""Near-duplicates of evaluation prompts: none is missed, by comparison with comparing everything with everything."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armorm.features.catalog.query import query
from armorm.features.checks.contamination import CONTAMINATION, ContaminationSettings, Counts, PromptIndex, shingles
from armorm.features.conversation import prompt_id, single_turn
from armorm.features.errors import InputError
from armorm.features.store import Store, Writer
from armorm.features.store.artifacts import why_stale
from tests.features.canonical import Dataset

pytestmark = pytest.mark.usefixtures("in_process")

QUESTION = "How would you explain to a curious child why the sky turns red each evening"
EDITED = QUESTION.replace("curious", "sleepy")
OTHER = "How would you explain to an old sailor why the tide comes in twice a day"


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b)


@pytest.mark.parametrize(
    ("text", "ngram", "expected"),
    [
        ("A cat, a hat!", 1, {"a", "cat", "hat"}),
        ("A cat, a hat!", 2, {"a cat", "cat a", "a hat"}),
        ("A cat, a hat!", 4, {"a cat a hat"}),
        ("A cat, a hat!", 9, {"a cat a hat"}),
        ("snake_case x² Ünïcode", 1, {"snake", "case", "x²", "ünïcode"}),
        ("?!", 3, {"?!"}),
        ("", 1, {""}),
    ],
)
def test_shingles_are_runs_of_words(text: str, ngram: int, expected: set[str]) -> None:
    assert shingles(text, ngram) == expected


# Few words, so that texts are alike by chance; of many lengths, so that the filters by size are tried.
texts = st.lists(st.sampled_from("abcdefgh"), max_size=14).map(" ".join)


@given(
    st.lists(texts, max_size=20),
    st.lists(texts, min_size=1, max_size=5),
    st.integers(1, 3),
    st.sampled_from([0.07, 0.2, 1 / 3, 0.5, 0.6, 0.75, 1.0]),
)
def test_the_index_finds_what_comparing_all_finds(
    indexed: list[str], others: list[str], ngram: int, threshold: float
) -> None:
    index = PromptIndex(indexed, ngram=ngram, threshold=threshold)
    for other in others:
        similarities = [jaccard(shingles(other, ngram), shingles(text, ngram)) for text in indexed]
        expected = {number: s for number, s in enumerate(similarities) if s >= threshold}
        assert dict(index.similar_to(other)) == expected


def test_by_default_an_edit_of_one_or_two_words_is_found_and_another_content_is_not(seed: int) -> None:
    rng = random.Random(seed)
    settings = ContaminationSettings()
    words = QUESTION.split()
    index = PromptIndex([QUESTION], ngram=settings.ngram, threshold=settings.threshold)
    assert len(words) == 15
    for n_edits in (0, 1, 2):
        edited = list(words)
        for place in rng.sample(range(len(words)), n_edits):
            edited[place] = f"new{place}"
        ((number, similarity),) = index.similar_to(" ".join(edited))
        assert (number, similarity) == (0, (15 - n_edits) / (15 + n_edits))
    assert list(index.similar_to(OTHER)) == []


def fill(writer: Writer) -> None:
    """A benchmark, and datasets that hold its prompt, an edit of it, and other ones."""
    benchmark = Dataset("benchmark", split="evaluation")
    benchmark.prefer("b0", "good", "bad", prompt=QUESTION)
    benchmark.prefer("b1", "yes", "never", prompt="Is it?")
    second = Dataset("second", split="evaluation")
    second.prefer("s0", "right", "wrong", prompt=QUESTION)
    pairs = Dataset("pairs")
    for row, prompt in enumerate((QUESTION, EDITED, OTHER)):
        pairs.prefer(f"p{row}", "answer", "reply", prompt=prompt)
    ratings = Dataset("ratings", split="test")
    for row, answer in enumerate(("one", "two")):
        ratings.rate(f"r{row}", single_turn(EDITED, answer), row)
    ratings.rate("system", (("system", "Be brief."), *single_turn(QUESTION.upper() + "?", "So.")), 3)
    ratings.rate("other", single_turn(OTHER, "one"), 3)
    for dataset in (benchmark, second, pairs, ratings):
        dataset.commit(writer)


def test_each_prompt_is_listed_with_what_it_is_like(store: Store, writer: Writer) -> None:
    fill(writer)
    done = CONTAMINATION.ensure(writer, ContaminationSettings())
    rows = query(store, "SELECT dataset, prompt_id, evaluation_dataset, similarity FROM contamination").rows
    exact, near = (prompt_id(single_turn(text, "")) for text in (QUESTION, EDITED))
    shouted = prompt_id((("system", "Be brief."), *single_turn(QUESTION.upper() + "?", "")))
    assert sorted(rows) == sorted(
        (dataset, id, evaluation, pytest.approx(similarity))
        for dataset, id, similarity in (
            ("pairs", exact, 1.0),
            ("pairs", near, 14 / 16),
            ("ratings", near, 14 / 16),
            ("ratings", shouted, 1.0),
        )
        for evaluation in ("benchmark", "second")
    )
    found = CONTAMINATION.told(store, done.artifact)
    assert (found.prompts, found.ratings, found.pairs) == (Counts(1, 2), Counts(0, 3), Counts(1, 1))
    assert "1 + 2 prompts, 0 + 3 ratings, 1 + 1 pairs" in CONTAMINATION.line(store, done.artifact)


def test_evaluation_datasets_can_be_named(store: Store, writer: Writer) -> None:
    fill(writer)
    CONTAMINATION.ensure(writer, ContaminationSettings(against=("second",)))
    assert query(store, "SELECT DISTINCT evaluation_dataset FROM contamination").rows == [("second",)]
    with pytest.raises(InputError, match=r"\bpairs\b.*\bbenchmark, second\b"):
        CONTAMINATION.ensure(writer, ContaminationSettings(against=("second", "pairs")))


def test_without_an_evaluation_dataset_nothing_is_left_out(store: Store, writer: Writer) -> None:
    dataset = Dataset("pairs")
    dataset.prefer("p", "a", "b", prompt=QUESTION)
    dataset.commit(writer)
    CONTAMINATION.ensure(writer, ContaminationSettings())
    assert query(store, "FROM contamination").rows == []


def test_it_is_found_again_only_when_something_has_changed(writer: Writer) -> None:
    fill(writer)
    settings = ContaminationSettings()
    first = CONTAMINATION.ensure(writer, settings)
    assert first.reason == why_stale(first.artifact.recipe, None)
    assert CONTAMINATION.ensure(writer, settings).reason is None
    stricter = CONTAMINATION.ensure(writer, ContaminationSettings(threshold=1.0))
    assert re.search(r"\bthreshold 0\.75 -> 1\.0$", str(stricter.reason))
    assert stricter.artifact.summary["prompts"] == {"exact": 1, "near": 1}
    Dataset("more").commit(writer)
    reason = CONTAMINATION.ensure(writer, settings).reason
    assert re.search(r"\bthreshold 1\.0 -> 0\.75\b.*\bingest/more\b", str(reason))


@pytest.mark.parametrize(("name", "value"), [("ngram", 0), ("threshold", 0.0), ("threshold", 1.5)])
def test_settings_are_checked(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"\b{name}\b.* {value}\b"):
        ContaminationSettings(**{name: value})  # type: ignore[arg-type]

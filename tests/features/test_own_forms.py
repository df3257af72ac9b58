"""Own rows that say which answer is better: by a verdict, and in lists."""

import json
from typing import Any

import pytest

from armorm.features.conversation import MalformedConversation, SplitFractions
from armorm.features.ingest.merge import merge
from armorm.features.ingest.native import NativeRow
from armorm.features.ingest.normalise import Rules, normalise
from armorm.features.sources.described import RECIPES, form_of
from armorm.features.sources.own import answers_of, definition_of, source_of

Row = dict[str, Any]

TWO: Row = {"prompt": "Tea?", "a": "Yes.", "b": "No."}
JUDGED: Row = {"prompt": "prompt", "answers": ["a", "b"], "verdict": "winner"}
A_WINS, B_WINS = [("Yes.", "No.", None)], [("No.", "Yes.", None)]


def made(kind: str, described: Row, *rows: Row) -> tuple[list[tuple[str, str, Any]], dict[str, float], list[str]]:
    """The pairs with their margins, the ratings by answer, and what became of each row."""
    source = source_of("mine", form_of(kind, described), licence="", evaluation=False)
    rules = Rules(source, {}, SplitFractions())
    native = [NativeRow(line, row, json.dumps(row).encode(), None) for line, row in enumerate(rows, start=1)]
    tables = normalise(rules, native, file="rows.jsonl")
    merged = merge(rules, tables).tables
    answers = {of["conversation_id"]: of["messages"][-1]["content"] for of in merged["conversations"].to_pylist()}
    pairs = [
        (answers[of["chosen_id"]], answers[of["rejected_id"]], of["margin"]) for of in merged["preferences"].to_pylist()
    ]
    ratings = {answers[of["conversation_id"]]: of["raw"] for of in merged["ratings"].to_pylist()}
    outcomes = tables["native_rows"].to_pylist()
    return sorted(pairs), ratings, [of["reason"] or of["outcome"] for of in outcomes]


@pytest.mark.parametrize(
    ("how", "verdict", "pairs"),
    [
        ({}, "a", A_WINS),
        ({}, " B ", B_WINS),
        ({}, "model_a", A_WINS),
        ({}, "MODEL_B", B_WINS),
        ({}, "response_b", B_WINS),
        ({"first": [0], "second": [1]}, 0, A_WINS),
        ({"first": [0], "second": [1]}, 1.0, B_WINS),
        ({"first": [0], "second": [1]}, "1", B_WINS),
        ({"first": [1], "second": [0]}, 1, A_WINS),
        ({"first": [True], "second": [False]}, True, A_WINS),
        ({"first": [True], "second": [False]}, "False", B_WINS),
        ({"first": ["left one"], "second": ["right one"]}, "Left one", A_WINS),
        ({"first_is": "negative"}, -3, [("Yes.", "No.", 3.0)]),
        ({"first_is": "negative"}, "2", [("No.", "Yes.", 2.0)]),
        ({"first_is": "positive"}, 1.5, [("Yes.", "No.", 1.5)]),
    ],
    ids=str,
)
def test_a_verdict_says_which_answer_is_better(how: Row, verdict: Any, pairs: Any) -> None:
    assert made("verdict", JUDGED | how, TWO | {"winner": verdict}) == (pairs, {}, ["kept"])


@pytest.mark.parametrize(
    ("how", "verdict", "reason"),
    [
        ({}, "tie", "tie"),
        ({}, "Tie (bothbad)", "tie"),
        ({"first_is": "negative"}, 0, "tie"),
        ({"first": [1], "second": [2], "tie": [3]}, 3, "tie"),
        ({}, None, "no_verdict"),
        ({}, "c", "unknown_verdict"),
        ({}, 1, "unknown_verdict"),  # of two answers, or of 0 and 1?
        ({"first": [1], "second": [0]}, 2, "unknown_verdict"),
        ({"first_is": "negative"}, "a", "unknown_verdict"),
    ],
    ids=str,
)
def test_a_tie_is_dropped_and_no_verdict_is_guessed(how: Row, verdict: Any, reason: str) -> None:
    assert made("verdict", JUDGED | how, TWO | {"winner": verdict}) == ([], {}, [reason])


def test_a_verdict_may_be_the_name_of_the_better_column() -> None:
    row = {"q": "Tea?", "gpt": "Yes.", "llama": "No.", "better": "llama"}
    assert made("verdict", {"prompt": "q", "answers": ["gpt", "llama"], "verdict": "better"}, row)[0] == B_WINS


def test_a_swapped_copy_is_the_same_pair() -> None:
    rows = TWO | {"winner": "a"}, {"prompt": "Tea?", "a": "No.", "b": "Yes.", "winner": "b"}
    assert made("verdict", JUDGED, *rows)[0] == A_WINS


def test_messages_and_system_texts_are_read_as_everywhere() -> None:
    turns = [[{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": text}] for text in ("Yes.", "No.")]
    row = {"a": turns[0], "b": json.dumps(turns[1]), "winner": "b", "rules": "Rhyme."}
    described = {"answers": ["a", "b"], "verdict": "winner", "style": "messages", "system": "rules"}
    assert made("verdict", described, row)[0] == B_WINS
    assert answers_of(form_of("verdict", described), row)[0] == (
        "a",
        (("system", "Rhyme."), ("user", "Tea?"), ("assistant", "Yes.")),
    )


@pytest.mark.parametrize(
    ("kind", "described", "row"),
    [
        ("verdict", JUDGED, TWO | {"winner": "a"}),
        ("pairs", {"prompt": "prompt", "chosen": "a", "rejected": "b"}, TWO),
        ("lists", {"prompt": "prompt", "chosen": "a", "rejected": "b"}, TWO),
    ],
)
def test_a_preference_may_be_a_rating_as_well(kind: str, described: Row, row: Row) -> None:
    pairs, ratings, _ = made(kind, described | {"objective": "preferred"}, row)
    assert (pairs, ratings) == (A_WINS, {"Yes.": 1.0, "No.": 0.0})


@pytest.mark.parametrize(
    ("kind", "described", "row"),
    [
        ("verdict", JUDGED, TWO | {"winner": "a"}),
        ("pairs", {"prompt": "prompt", "chosen": "a", "rejected": "b"}, TWO),
        ("lists", {"prompt": "prompt", "chosen": "a", "rejected": "b"}, TWO),
    ],
)
def test_pairs_of_a_benchmark_have_subsets(kind: str, described: Row, row: Row) -> None:
    source = source_of("mine", form_of(kind, described | {"subset": "part"}), licence="", evaluation=True)
    rows = [row | {"part": "teas"}, row | {"part": None}]
    native = [NativeRow(line, of, json.dumps(of).encode(), None) for line, of in enumerate(rows, start=1)]
    tables = normalise(Rules(source, {}, SplitFractions()), native, file="rows.jsonl")
    assert tables["preferences"]["subset"].to_pylist() == ["teas"]
    assert tables["native_rows"]["reason"].to_pylist() == [None, "wrong_type"]


def subsets(described: Row, *rows: Row) -> tuple[list[tuple[str, str, str]], list[tuple[str | None, str | None]]]:
    """The pairs of lists with their subsets, and of each row why nothing is made of it."""
    columns = {"prompt": "prompt", "chosen": "good", "rejected": "bad", "subset": "part"}
    source = source_of("mine", form_of("lists", columns | described), licence="", evaluation=True)
    native = [NativeRow(line, of, json.dumps(of).encode(), None) for line, of in enumerate(rows, start=1)]
    tables = normalise(Rules(source, {}, SplitFractions()), native, file="rows.jsonl")
    merged = merge(Rules(source, {}, SplitFractions()), tables).tables
    answers = {of["conversation_id"]: of["messages"][-1]["content"] for of in merged["conversations"].to_pylist()}
    pairs = [
        (answers[of["chosen_id"]], answers[of["rejected_id"]], of["subset"]) for of in merged["preferences"].to_pylist()
    ]
    return sorted(pairs), [(of["reason"], of["detail"]) for of in tables["rejects"].to_pylist()]


def test_a_subset_may_name_its_rows() -> None:
    rows: list[Row] = [
        {"prompt": "Tea?", "good": ["1"], "bad": ["2"], "part": "Ties", "id": "ref:7"},
        {"prompt": "Tea!", "good": ["3"], "bad": ["4"], "part": "Math", "id": None},
        {"prompt": "Tea.", "good": ["5"], "bad": ["6"], "part": "Ties", "id": 8},
    ]
    assert subsets({"items": {"Ties": "id"}}, *rows) == (
        [("1", "2", "Ties/ref:7"), ("3", "4", "Math")],
        [("wrong_type", "column id: got 8; expected text")],
    )


VARIANTS: Row = {"variants": ["plain", "long"]}


def test_pairs_of_variants_are_hard_normal_or_easy() -> None:
    row: Row = {"prompt": "Tea?", "good": ["1", "2"], "bad": ["3", "4"], "part": "chat"}
    pairs = [("1", "3", "normal"), ("1", "4", "hard"), ("2", "3", "easy"), ("2", "4", "normal")]
    assert subsets(VARIANTS, row) == ([(good, bad, f"chat/{level}") for good, bad, level in pairs], [])


def test_an_answer_that_is_the_same_in_two_variants_stands_for_both() -> None:
    row: Row = {"prompt": "Tea?", "good": ["1", "1"], "bad": ["3", "4"], "part": "chat"}
    assert subsets(VARIANTS, row)[0] == [("1", "3", "chat/easy+normal"), ("1", "4", "chat/hard+normal")]
    row |= {"bad": ["3", "3"]}
    assert subsets(VARIANTS, row)[0] == [("1", "3", "chat/easy+hard+normal+normal")]


def test_a_row_without_all_variants_is_refused_and_an_empty_answer_alone() -> None:
    row: Row = {"prompt": "Tea?", "good": ["1", ""], "bad": ["3", "4"], "part": "chat"}
    pairs, rejects = subsets(VARIANTS, row, row | {"good": ["1"]}, row | {"bad": ["3", "4", "5"]})
    assert pairs == [("1", "3", "chat/normal"), ("1", "4", "chat/hard")]
    assert rejects == [
        ("empty_turn", "pair 2: chosen: turn 2 (assistant) has no text"),
        ("empty_turn", "pair 3: chosen: turn 2 (assistant) has no text"),
        ("variants_do_not_match", "column good: got 1 answers; expected 2: plain, long"),
        ("variants_do_not_match", "column bad: got 3 answers; expected 2: plain, long"),
    ]


def test_what_an_ingest_depends_on_has_only_what_is_used() -> None:
    plain = definition_of(form_of("lists", {"prompt": "prompt", "chosen": "good", "rejected": "bad"}))
    assert not {"items", "variants"} & plain.keys()
    assert plain["subset"] is None
    named = definition_of(RECIPES["rewardbench-2"].form)
    assert named["items"] == {"Ties": "id"}


BEST_OF_FOUR: Row = {"prompt": "Tea?", "good": ["1", "2"], "bad": ["3", "4", "5"]}


@pytest.mark.parametrize("write", [lambda value: value, json.dumps], ids=["lists", "JSON"])
def test_every_chosen_answer_makes_a_pair_with_every_rejected_one(write: Any) -> None:
    row = BEST_OF_FOUR | {name: write(BEST_OF_FOUR[name]) for name in ("good", "bad")}
    described = {"prompt": "prompt", "chosen": "good", "rejected": "bad", "objective": "preferred"}
    pairs, ratings, outcomes = made("lists", described, row)
    assert pairs == [(good, bad, None) for good in "12" for bad in "345"]
    assert ratings == {"1": 1.0, "2": 1.0, "3": 0.0, "4": 0.0, "5": 0.0}
    assert outcomes == ["kept"]


@pytest.mark.parametrize(
    ("how", "columns", "pairs", "ratings"),
    [
        ({}, {}, [("x", "y", None), ("x", "z", None), ("y", "z", None)], {"x": 1.0, "y": 0.5, "z": 0.0}),
        ({"ranks": "r"}, {"r": [2, 1, 2]}, [("y", "x", None), ("y", "z", None)], {"x": 0.0, "y": 1.0, "z": 0.0}),
        (
            {"scores": "s"},
            {"s": [7, "7", 2.5]},
            [("x", "z", 4.5), ("y", "z", 4.5)],
            {"x": 1.0, "y": 1.0, "z": 0.0},
        ),
    ],
)
def test_a_list_is_ordered_by_scores_ranks_or_place(how: Row, columns: Row, pairs: Any, ratings: Any) -> None:
    row = {"prompt": "Tea?", "all": ["x", "y", "z"], **columns}
    described = {"prompt": "prompt", "answers": "all", "objective": "preferred", **how}
    assert made("lists", described, row) == (pairs, ratings, ["kept"])


def test_one_bad_answer_of_a_list_leaves_the_others() -> None:
    row = {"prompt": "Tea?", "good": ["1", 7, ""], "bad": ["3"]}
    assert made("lists", {"prompt": "prompt", "chosen": "good", "rejected": "bad"}, row) == (
        [("1", "3", None)],
        {},
        ["kept"],
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"all": ["x", "y"], "s": [1, 1]}, "tie"),
        ({"all": ["x", "y"], "s": [1]}, "scores_do_not_match"),
        ({"all": ["x", "y"], "s": [1, None]}, "scores_do_not_match"),
        ({"all": 7, "s": [1]}, "wrong_type"),
        ({"all": ["x"], "s": [1]}, "no_rating"),
        ({"s": [1]}, "missing_column"),
    ],
    ids=str,
)
def test_lists_without_an_order_are_no_pairs(row: Row, reason: str) -> None:
    described = {"prompt": "prompt", "answers": "all", "scores": "s"}
    assert made("lists", described, {"prompt": "Tea?"} | row) == ([], {}, [reason])


@pytest.mark.parametrize(
    ("kind", "described"),
    [
        ("verdict", JUDGED | {"answers": ["a"]}),
        ("verdict", JUDGED | {"answers": ["a", "a"]}),
        ("verdict", JUDGED | {"first": ["a"]}),
        ("verdict", JUDGED | {"first": ["a"], "second": ["A"]}),
        ("verdict", JUDGED | {"first_is": "odd"}),
        ("verdict", JUDGED | {"first_is": "negative", "first": ["a"], "second": ["b"]}),
        ("verdict", JUDGED | {"objective": "So Good"}),
        ("verdict", {"answers": ["a", "b"], "verdict": "winner"}),
        ("lists", {"prompt": "prompt"}),
        ("lists", {"prompt": "prompt", "chosen": "a"}),
        ("lists", {"prompt": "prompt", "chosen": "a", "rejected": "b", "scores": "s"}),
        ("lists", {"prompt": "prompt", "answers": "a", "scores": "s", "ranks": "r"}),
        ("lists", {"answers": "a", "style": "transcript"}),
        ("lists", {"prompt": "prompt", "chosen": "a", "rejected": "b", "items": {"Ties": "id"}}),
        ("lists", {"prompt": "prompt", "chosen": "a", "rejected": "b", "subset": "c", "items": {"Ties": 1}}),
        ("lists", {"prompt": "prompt", "chosen": "a", "rejected": "b", "variants": ["plain", "long"]}),
        ("lists", {"prompt": "prompt", "chosen": "a", "rejected": "b", "subset": "c", "variants": ["plain"]}),
        ("lists", {"prompt": "prompt", "answers": "a", "subset": "c", "variants": ["plain", "long"]}),
    ],
    ids=str,
)
def test_wrong_descriptions_are_refused(kind: str, described: Row) -> None:
    with pytest.raises(ValueError, match="expected"):
        form_of(kind, described)


@pytest.mark.parametrize(
    ("kind", "described", "row", "reason"),
    [
        ("verdict", JUDGED, TWO | {"b": ""}, "empty_turn"),
        ("verdict", JUDGED, TWO | {"b": 7}, "wrong_type"),
        (
            "pairs",
            {"chosen": "a", "rejected": "b", "style": "messages"},
            {side: [{"role": "user", "content": side}, {"role": "assistant", "content": "!"}] for side in "ab"},
            "context_differs",
        ),
    ],
)
def test_rows_to_score_are_refused_as_an_ingest_refuses_them(kind: str, described: Row, row: Row, reason: str) -> None:
    with pytest.raises(MalformedConversation) as caught:
        answers_of(form_of(kind, described), row)
    assert caught.value.reason == reason
    assert made(kind, described, row | {"winner": "a"})[2] == [reason]

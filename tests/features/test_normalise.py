"""Conservation, identity and independence of order, over a source made for the test."""

import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from features.conversation import SplitFractions, conversation_id, single_turn
from features.ingest.native import NativeRow
from features.ingest.normalise import Normalised, normalise
from features.objectives import Scale
from features.sources.base import Drop, Pair, PairRule, Rated, Record, Refused, Reject, Row, Source

OBJECTIVE = "helpsteer-helpfulness"


def parse(row: Row, options: Any) -> Iterator[Record]:
    match row["kind"]:
        case "rated":
            yield Rated(single_turn(row["prompt"], row["answer"]), {OBJECTIVE: row["rating"]})
        case "pair":
            yield Pair(single_turn(row["prompt"], row["answer"]), single_turn(row["prompt"], row["other"]))
        case "part":
            yield Rated(single_turn(row["prompt"], row["answer"]), {OBJECTIVE: row["rating"]})
            yield Refused("bad_part", "the second half")
        case "drop":
            raise Drop("by_rule")
        case "reject":
            raise Reject("unusable", "says so")


SOURCE = Source("test", "nobody/test", "CC0", parse, scales={OBJECTIVE: Scale(0, 4)})


def native(rows: list[dict[str, Any]]) -> list[NativeRow]:
    return [NativeRow("f.jsonl", n, row, repr(sorted(row.items())), None) for n, row in enumerate(rows, start=1)]


def run(rows: list[dict[str, Any]], source: Source = SOURCE) -> Normalised:
    return normalise(source, native(rows), options={}, splits=SplitFractions())


def rated(prompt: str, answer: str, rating: float = 2, **more: Any) -> dict[str, Any]:
    return {"kind": "rated", "prompt": prompt, "answer": answer, "rating": rating} | more


def pair(prompt: str, answer: str, other: str, **more: Any) -> dict[str, Any]:
    return {"kind": "pair", "prompt": prompt, "answer": answer, "other": other} | more


CASES = [
    (rated("p", "a"), "kept", None),
    (rated("p", "a", 4, annotator=2), "kept", None),  # a second annotator's label is a rating of its own
    (rated("p", "a"), "dropped", "duplicate_row"),
    (rated("p", "b", 5), "rejected", "rating_out_of_range"),
    (rated("p", " "), "rejected", "empty_turn"),
    ({"kind": "part", "prompt": "p", "answer": "c", "rating": 1}, "kept", None),
    ({"kind": "part", "prompt": "p", "answer": "d", "rating": -1}, "rejected", "rating_out_of_range"),
    (pair("p", "a", "e"), "kept", None),
    (pair("p", "a", "e", more=1), "dropped", "duplicate_pair"),
    (pair("p", "e", "a"), "kept", None),  # a contradiction is not a duplicate
    (pair("p", "a", "a"), "dropped", "identical_pair"),
    (pair("p", "", "a"), "rejected", "empty_turn"),
    ({"kind": "drop"}, "dropped", "by_rule"),
    ({"kind": "reject"}, "rejected", "unusable"),
    ({"kind": "nothing"}, "rejected", "no_rating"),
]


def test_every_row_has_exactly_one_outcome() -> None:
    result = run([row for row, _, _ in CASES])
    rows = result.tables["native_rows"].to_pylist()
    by_line = {row["line"]: (row["outcome"], row["reason"]) for row in rows}
    assert by_line == {n: (outcome, reason) for n, (_, outcome, reason) in enumerate(CASES, start=1)}
    assert sum(sum(reasons.values()) for reasons in result.outcomes.values()) == len(CASES)


def test_what_is_refused_is_kept_with_its_reason_and_text() -> None:
    result = run([row for row, _, _ in CASES])
    rejects = result.tables["rejects"].to_pylist()
    rows = [reject for reject in rejects if reject["scope"] == "row"]
    rejected = {row["source_row"] for row in result.tables["native_rows"].to_pylist() if row["outcome"] == "rejected"}
    assert {reject["source_row"] for reject in rows} == rejected
    assert [reject["reason"] for reject in rejects if reject["scope"] == "part"] == ["bad_part"]
    assert all(reject["raw"] and reject["detail"] for reject in rejects)


def test_a_broken_line_is_a_reject() -> None:
    rows = [NativeRow("f.jsonl", 1, None, '{"a": ', "unexpected end"), *native([rated("p", "a")])]
    result = normalise(SOURCE, rows, options={}, splits=SplitFractions())
    assert result.outcomes == {"kept": {"": 1}, "rejected": {"malformed_row": 1}}
    (reject,) = result.tables["rejects"].to_pylist()
    assert (reject["raw"], reject["detail"]) == ('{"a": ', "unexpected end")


def without_places(tables: Any) -> dict[str, pa.Table]:
    return {name: table for name, table in tables.items() if name != "native_rows"}


def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    rows = [row for row, _, _ in CASES]
    shuffled = random.Random(seed).sample(rows, len(rows))
    first, second = (without_places(run(order).tables) for order in (rows, shuffled))
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].equals(second[name]), name


def test_rows_of_a_prompt_share_a_split_and_the_text_is_kept() -> None:
    rows = [rated(f"p{n % 50}", f"a{n}") for n in range(400)] + [pair(f"p{n % 50}", f"a{n}", "z") for n in range(100)]
    tables = run(rows).tables
    splits: dict[str, set[str]] = {}
    for name in ("ratings", "preferences"):
        for row in tables[name].to_pylist():
            splits.setdefault(row["prompt_id"], set()).add(row["split"])
    assert len(splits) == 50
    assert all(len(of) == 1 for of in splits.values())
    for row in tables["conversations"].to_pylist():
        messages = [(turn["role"], turn["content"]) for turn in row["messages"]]
        assert conversation_id(messages) == row["conversation_id"]


def test_a_benchmark_is_never_split_and_keeps_its_duplicates() -> None:
    source = Source("bench", "nobody/bench", "CC0", parse, evaluation=True)
    result = run([pair("p", "a", "b", id=1), pair("p", "a", "b", id=2)], source)
    assert [row["split"] for row in result.tables["preferences"].to_pylist()] == ["evaluation"] * 2


def test_ratings_give_pairs_where_the_source_says_so() -> None:
    source = Source(
        "test", "-", "-", parse, {OBJECTIVE: Scale(0, 4)}, lambda options: PairRule("prompt_id", (OBJECTIVE,))
    )
    result = run([rated("p", "a", 4), rated("p", "b", 1), rated("p", "c", 1)], source)
    margins = [row["margin"] for row in result.tables["preferences"].to_pylist()]
    assert margins == [3, 3]
    assert result.pairs_dropped == {"tie": 1, "duplicate_pair": 0}


@pytest.mark.parametrize("table", ["ratings", "preferences", "conversations"])
def test_keys_are_unique(table: str) -> None:
    keys = {
        "ratings": ("dataset", "source_row", "conversation_id", "objective"),
        "preferences": ("pair_id",),
        "conversations": ("conversation_id",),
    }[table]
    rows = run([row for row, _, _ in CASES]).tables[table].to_pylist()
    assert len({tuple(row[key] for key in keys) for row in rows}) == len(rows) > 0

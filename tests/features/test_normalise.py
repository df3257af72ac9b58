"""Conservation, identity and independence of order and batches, over sources made for the test."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pytest

from armorm.features.conversation import SplitFractions, conversation_id, position
from armorm.features.ingest.merge import merge, merge_rejects, native_rows
from armorm.features.ingest.native import NativeRow
from armorm.features.ingest.normalise import Rules, normalise
from armorm.features.objectives import Scale
from armorm.features.sources.base import Options, PairRule, Pairs, Rated, Rows, Source
from armorm.features.sources.forms import single_turns

HELPFUL, CORRECT = "helpsteer-helpfulness", "helpsteer-correctness"
SCALES = {HELPFUL: Scale(0, 4), CORRECT: Scale(0, 4)}


def parse_rated(rows: Rows, options: Options) -> Iterator[Rated]:
    conversations = single_turns(rows.text("prompt"), rows.text("answer"))
    rows.drop_where((value == "drop" for value in rows.values("what")), "by_rule")
    rows.reject_where((value == "reject" for value in rows.values("what")), "unusable", lambda row: "says so")
    ratings = {HELPFUL: rows.rating("rating"), CORRECT: rows.rating("correct", absent=(None,))}
    yield Rated(rows, conversations, ratings)


def parse_pairs(rows: Rows, options: Options) -> Iterator[Pairs]:
    prompts = rows.text("prompt")
    sides = [single_turns(prompts, rows.text(column)) for column in ("answer", "other")]
    yield Pairs(rows, *sides, rank=rows.number("rank") if options.get("limit") else None)


RATED = Source("rated", "nobody/test", "CC0", parse_rated, scales=SCALES)
PAIRS = Source("pairs", "nobody/test", "CC0", parse_pairs, pairs=True)


def rated(prompt: str, answer: str, rating: Any = 2, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "answer": answer, "rating": rating, "correct": None} | more


def pair(prompt: str, answer: str, other: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "answer": answer, "other": other} | more


RATED_CASES = [
    (rated("p", "a"), "kept", None),
    (rated("p", "a", 4, annotator=2), "kept", None),  # a second annotator's label is a rating of its own
    (rated("p", "a"), "dropped", "duplicate_row"),
    (rated("p", "b", 5), "rejected", "rating_out_of_range"),
    (rated("p", "b", 5, correct=1), "kept", None),
    (rated("p", "b", "many"), "rejected", "rating_not_a_number"),
    (rated("p", " "), "rejected", "empty_turn"),
    (rated("p", "d", what="drop"), "dropped", "by_rule"),
    (rated("p", "d", what="reject"), "rejected", "unusable"),
    ({"prompt": "p", "answer": "a"}, "rejected", "missing_column"),
    ({"prompt": "p", "answer": 7}, "rejected", "wrong_type"),
]
PAIR_CASES = [
    (pair("p", "a", "e"), "kept", None),
    (pair("p", "e", "a"), "kept", None),  # a contradiction is not a duplicate
    (pair("p", "a", "a"), "dropped", "identical_pair"),
    (pair("p", "", "a"), "rejected", "empty_turn"),
    (pair("q", "x", "y", more=1), "kept", None),
    (pair("q", "x", "y", more=1), "dropped", "duplicate_row"),
]


@dataclass(frozen=True)
class Result:
    tables: Mapping[str, pa.Table]
    pairs_dropped: Mapping[str, int]

    def rows(self, table: str) -> list[dict[str, Any]]:
        return list(self.tables[table].to_pylist())

    @property
    def outcomes(self) -> Counter[tuple[str, str | None]]:
        return Counter((row["outcome"], row["reason"]) for row in self.rows("native_rows"))


def native(rows: Sequence[dict[str, Any]]) -> list[NativeRow]:
    return [NativeRow(n, row, orjson.dumps(row, option=orjson.OPT_SORT_KEYS), None) for n, row in enumerate(rows, 1)]


def run(
    rows: Sequence[dict[str, Any] | NativeRow], source: Source = RATED, *, batch_rows: int = 1000, **rules: Any
) -> Result:
    """Normalises in batches and merges, as an ingest does it."""
    of_all = native([row for row in rows if isinstance(row, dict)]) + [
        row for row in rows if isinstance(row, NativeRow)
    ]
    how = Rules(source, rules.pop("options", {}), SplitFractions(), **rules)
    batches = [of_all[start : start + batch_rows] for start in range(0, len(of_all), batch_rows)]
    given = [normalise(how, batch, file="f.jsonl") for batch in batches]
    tables = {name: pa.concat_tables([of[name] for of in given]).combine_chunks() for name in given[0]}
    merged = merge(how, tables)
    outcomes = tables["native_rows"].append_column("file", [["f.jsonl"] * len(of_all)])
    rest = {
        "rejects": merge_rejects(tables["rejects"]),
        "native_rows": native_rows(source.name, outcomes, merged.lost_rows),
    }
    return Result({**merged.tables, **rest}, merged.pairs_dropped)


@pytest.mark.parametrize(("source", "cases"), [(RATED, RATED_CASES), (PAIRS, PAIR_CASES)])
def test_every_row_has_exactly_one_outcome(source: Source, cases: list[tuple[dict[str, Any], str, str | None]]) -> None:
    rows = run([row for row, _, _ in cases], source).rows("native_rows")
    by_line = {row["line"]: (row["outcome"], row["reason"]) for row in rows}
    assert by_line == {n: (outcome, reason) for n, (_, outcome, reason) in enumerate(cases, start=1)}


def test_what_is_refused_is_kept_with_its_reason_and_text() -> None:
    result = run([row for row, _, _ in RATED_CASES])
    rejects = result.rows("rejects")
    rows = [reject for reject in rejects if reject["scope"] == "row"]
    rejected = {row["source_row"] for row in result.rows("native_rows") if row["outcome"] == "rejected"}
    assert {reject["source_row"] for reject in rows} == rejected
    assert [reject["reason"] for reject in rejects if reject["scope"] == "part"] == ["rating_out_of_range"]
    assert all(reject["raw"] and reject["detail"] for reject in rejects)


def test_a_broken_line_is_a_reject() -> None:
    result = run([rated("p", "a"), NativeRow(2, None, b'{"a": ', "unexpected end")])
    assert result.outcomes == {("kept", None): 1, ("rejected", "malformed_row"): 1}
    (reject,) = result.rows("rejects")
    assert (reject["raw"], reject["detail"]) == ('{"a": ', "unexpected end")


def random_rows(seed: int, n_rows: int) -> list[dict[str, Any]]:
    """Rows of a few prompts and answers, so that many of them repeat or contradict each other."""
    rng = random.Random(seed)
    return [
        {
            "prompt": rng.choice("pqr"),
            "answer": rng.choice(["a", "b", "c", ""]),
            "other": rng.choice("abc"),
            "rating": rng.choice([0, 1, 4, 9, None, "2"]),
            "correct": rng.choice([None, 3]),
            "rank": rng.choice([1, 2, 3]),
        }
        for _ in range(n_rows)
    ]


def limit(options: Options) -> int:
    return int(options["limit"])


SOURCES = {
    "ratings": RATED,
    "ratings and their pairs": replace(RATED, pair_rule=lambda options: PairRule("prompt_id", (HELPFUL,))),
    "pairs": PAIRS,
    "limited pairs": replace(PAIRS, pairs_per_prompt=limit),
    "benchmark": replace(PAIRS, evaluation=True),
}


@pytest.mark.parametrize("name", SOURCES)
def test_order_and_batches_change_nothing(seed: int, name: str) -> None:
    rows = random_rows(seed, 200)
    shuffled = random.Random(seed).sample(rows, len(rows))
    options = {"limit": "2"}
    expected = run(rows, SOURCES[name], options=options)
    for order, batch_rows in ((shuffled, 1000), (rows, 7), (shuffled, 1)):
        result = run(order, SOURCES[name], options=options, batch_rows=batch_rows)
        assert result.outcomes == expected.outcomes
        assert result.pairs_dropped == expected.pairs_dropped
        for table in expected.tables.keys() - {"native_rows"}:
            assert result.tables[table].equals(expected.tables[table]), table


@pytest.mark.parametrize("name", SOURCES)
def test_the_result_is_sound(seed: int, name: str) -> None:
    """Outcomes are conserved, keys unique, and conversations are those that ratings and pairs speak of."""
    rows = random_rows(seed, 300)
    result = run(rows, SOURCES[name], options={"limit": "2"})
    assert sum(result.outcomes.values()) == len(rows)
    used = {row["conversation_id"] for row in result.rows("ratings")}
    used |= {row[side] for row in result.rows("preferences") for side in ("chosen_id", "rejected_id")}
    assert {row["conversation_id"] for row in result.rows("conversations")} == used
    keys = {
        "ratings": ("dataset", "source_row", "conversation_id", "objective"),
        "preferences": ("pair_id",),
        "conversations": ("conversation_id",),
    }
    for table, key in keys.items():
        found = [tuple(row[column] for column in key) for row in result.rows(table)]
        assert len(set(found)) == len(found)
    kept = {row["source_row"] for row in result.rows("native_rows") if row["outcome"] == "kept"}
    given = {row["source_row"] for row in result.rows("ratings")}
    given |= {part for row in result.rows("preferences") for part in row["source_row"].split("+")}
    assert kept == given


def test_rows_of_a_prompt_share_a_split_and_the_text_is_kept() -> None:
    ratings = run([rated(f"p{n % 50}", f"a{n}") for n in range(400)])
    pairs = run([pair(f"p{n % 50}", f"a{n}", "z") for n in range(100)], PAIRS)
    splits: dict[str, set[str]] = {}
    for row in [*ratings.rows("ratings"), *pairs.rows("preferences")]:
        splits.setdefault(row["prompt_id"], set()).add(row["split"])
    assert len(splits) == 50
    assert all(len(of) == 1 for of in splits.values())
    for row in ratings.rows("conversations"):
        messages = tuple((turn["role"], turn["content"]) for turn in row["messages"])
        assert conversation_id(messages) == row["conversation_id"]
        assert (row["n_turns"], row["n_chars"]) == (2, sum(len(content) for _, content in messages))


def test_a_benchmark_is_never_split_and_keeps_its_duplicates() -> None:
    result = run([pair("p", "a", "b", id=1), pair("p", "a", "b", id=2)], replace(PAIRS, evaluation=True))
    assert [row["split"] for row in result.rows("preferences")] == ["evaluation"] * 2


def test_of_equal_pairs_one_stays() -> None:
    result = run([pair("p", "a", "b", id=1), pair("p", "a", "b", id=2), pair("p", "b", "a")], PAIRS)
    assert result.outcomes == {("kept", None): 2, ("dropped", "duplicate_pair"): 1}
    assert result.pairs_dropped == {"duplicate_pair": 1}


def test_the_pairs_of_highest_rank_stay_where_their_number_is_limited() -> None:
    rows = [pair("p", "a", other, rank=rank) for rank, other in enumerate("bcdef")] + [pair("q", "a", "b", rank=0)]
    result = run(rows, SOURCES["limited pairs"], options={"limit": "2"})
    assert result.outcomes == {("kept", None): 3, ("dropped", "beyond_pairs_per_prompt"): 3}
    kept = [row["line"] for row in result.rows("native_rows") if row["outcome"] == "kept"]
    assert sorted(kept) == [4, 5, 6]
    assert len(result.rows("conversations")) == 3 + 2  # those of dropped pairs are not needed


def test_ratings_give_pairs_where_the_source_says_so() -> None:
    result = run([rated("p", "a", 4), rated("p", "b", 1), rated("p", "c", 1)], SOURCES["ratings and their pairs"])
    assert [row["margin"] for row in result.rows("preferences")] == [3, 3]
    assert result.pairs_dropped == {"tie": 1}


def test_a_share_keeps_all_rows_of_some_prompts() -> None:
    rows = [rated(f"p{n % 100}", f"a{n}") for n in range(300)]
    whole, part = run(rows), run(rows, share=0.3)
    prompts = {row["prompt_id"] for row in whole.rows("ratings")}
    kept = {prompt for prompt in prompts if position(prompt, "share") < 0.3}
    assert 15 < len(kept) < 45
    assert {row["prompt_id"] for row in part.rows("ratings")} == kept
    assert part.outcomes == {("kept", None): 3 * len(kept), ("dropped", "outside_share"): 300 - 3 * len(kept)}


def test_the_split_of_all_rows_can_be_set() -> None:
    assert {row["split"] for row in run([rated("p", "a"), rated("q", "a")], split="test").rows("ratings")} == {"test"}


def test_all_rows_may_be_unusable() -> None:
    result = run([{"prompt": 1}])
    assert {name: len(table) for name, table in result.tables.items()} == {
        "conversations": 0,
        "ratings": 0,
        "preferences": 0,
        "rejects": 1,
        "native_rows": 1,
    }


def test_values_follow_from_raw_ratings() -> None:
    ratings = pl.DataFrame(run([rated("p", f"a{raw}", raw) for raw in range(5)]).tables["ratings"])
    assert ratings.sort("raw")["value"].to_list() == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])

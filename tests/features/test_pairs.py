"""Pairs from ratings, checked by hand and against a plain double loop."""

from itertools import combinations

import numpy as np
import polars as pl

from armorm.features.ingest.normalise import RAW
from armorm.features.ingest.pairs import pairs_from_ratings
from armorm.features.sources.base import PairRule

RULE = PairRule("prompt_id", ("helpful", "correct"))


def ratings(rows: list[tuple[str, str, str, float]]) -> pl.DataFrame:
    """(prompt, conversation, objective, raw)."""
    frame = pl.DataFrame(rows, schema=["prompt_id", "conversation_id", "objective", "raw"], orient="row")
    wide = frame.with_columns(
        (pl.lit(RAW) + pl.col("objective")).alias("objective"), pl.col("raw").cast(pl.Float64)
    ).pivot("objective", index=["prompt_id", "conversation_id"], values="raw")
    absent = {f"{RAW}{name}": pl.lit(None, pl.Float64) for name in RULE.objectives if f"{RAW}{name}" not in wide}
    return wide.with_columns(source_row=pl.lit("row-") + pl.col("conversation_id"), split=pl.lit("train"), **absent)


def as_tuples(pairs: pl.DataFrame) -> set[tuple[str, str, float]]:
    return {(row["chosen_id"], row["rejected_id"], row["margin"]) for row in pairs.iter_rows(named=True)}


def test_the_mean_of_the_present_ratings_ranks() -> None:
    made = pairs_from_ratings(
        ratings(
            [
                ("p", "a", "helpful", 4),
                ("p", "a", "correct", 2),
                ("p", "b", "helpful", 2),  # the mean of what is there
                ("p", "c", "correct", 3),
                ("p", "c", "verbose", 0),  # not in the rule
                ("q", "d", "helpful", 0),  # alone with its prompt
            ]
        ),
        RULE,
    )
    assert as_tuples(made.pairs) == {("a", "b", 1.0), ("c", "b", 1.0)}
    assert made.dropped == {"tie": 1, "duplicate_pair": 0}
    assert set(made.pairs["source_row"]) == {"row-a+row-b", "row-c+row-b"}


def test_a_pair_that_two_rows_give_counts_once() -> None:
    frame = ratings([("p", "a", "helpful", 4), ("p", "b", "helpful", 2)])
    twice = pl.concat([frame.with_columns(source_row=pl.lit(row)) for row in ("1", "2")])
    made = pairs_from_ratings(twice, PairRule("source_row", ("helpful",)))
    assert len(made.pairs) == 1
    assert made.dropped == {"tie": 0, "duplicate_pair": 1}
    assert made.pairs["source_row"].to_list() == ["1"]


def test_it_equals_a_plain_double_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        (f"p{p}", f"c{p}-{c}", objective, float(rng.integers(0, 5)))
        for p in range(30)
        for c in range(rng.integers(1, 5))
        for objective in ("helpful", "correct")
    ]
    scores: dict[str, dict[str, list[float]]] = {}
    for prompt, conversation, _, raw in rows:
        scores.setdefault(prompt, {}).setdefault(conversation, []).append(raw)
    expected = set()
    for by_conversation in scores.values():
        for a, b in combinations(by_conversation, 2):
            difference = float(np.mean(by_conversation[a]) - np.mean(by_conversation[b]))
            if difference:
                expected.add((a, b, difference) if difference > 0 else (b, a, -difference))
    assert as_tuples(pairs_from_ratings(ratings(rows), RULE).pairs) == expected


def test_means_that_differ_by_rounding_alone_are_tied() -> None:
    rows = [
        ("p", "a", "helpful", 0.1),
        ("p", "a", "correct", 0.2),
        ("p", "b", "helpful", 0.3),
        ("p", "b", "correct", 0.0),
    ]
    assert pairs_from_ratings(ratings(rows), RULE).dropped["tie"] == 1

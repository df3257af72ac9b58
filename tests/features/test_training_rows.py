"""The digest of a set of rows: anybody can compute it, no order changes it, and no two sets share it."""

import hashlib
from itertools import combinations
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armorm.features.lineage import training_rows
from armorm.features.lineage.training_rows import KEYS, queried_row_set, row_set

PAIRS = KEYS["gate"]


def frame(rows: list[tuple[str, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, dict.fromkeys(PAIRS, pl.String), orient="row")


def test_it_is_that_of_the_sorted_lines() -> None:
    rows = [("b", "2", "x", "train"), ("a", "\u00e9", "y", "train"), ("B", "1", "z\t\r\\", "train")]
    text = "B\t1\tz\\t\\r\\\\\ttrain\n" + "a\t\u00e9\ty\ttrain\n" + "b\t2\tx\ttrain\n"
    found = row_set("gate", frame(rows))
    assert (found.n_rows, found.sha256) == (3, hashlib.sha256(text.encode()).hexdigest())


@given(st.lists(st.tuples(*[st.text("ab\t\n\r\\", max_size=2)] * 4), max_size=4), st.randoms())
def test_order_does_not_count_and_columns_may_be_more(rows: list[tuple[str, ...]], random: Any) -> None:
    shuffled = random.sample(rows, len(rows))
    other = frame(shuffled).select(*reversed(PAIRS)).with_columns(more=pl.lit(1))
    assert row_set("gate", other) == row_set("gate", frame(rows))


@given(st.lists(st.tuples(*[st.text("ab\u00e9\t\n\r\\'", max_size=2)] * 4), max_size=8, unique=True))
def test_a_query_gives_the_same_in_blocks_of_its_rows(rows: list[tuple[str, ...]]) -> None:
    with pytest.MonkeyPatch.context() as patch, duckdb.connect() as connection:
        patch.setattr(training_rows, "BLOCK_ROWS", 2)
        connection.register("rows_twice", frame(rows * 2).to_arrow())
        assert queried_row_set("gate", connection, "rows_twice") == row_set("gate", frame(rows))


def test_no_other_set_has_the_same_digest() -> None:
    """Among them those whose texts, put together carelessly, would be the same."""
    sets = [
        [],
        [("a", "b", "c", "d")],
        [("a", "b", "c", "d")] * 2,
        [("a\tb", "", "c", "d")],
        [("a", "b\tc", "", "d")],
        [("a", "b", "c", "d\na\tb\tc\td")],
        [("a\\tb", "", "c", "d")],
        [("", "ab", "c", "d")],
    ]
    for one, other in combinations(sets, 2):
        assert row_set("gate", frame(one)) != row_set("gate", frame(other)), (one, other)


def test_a_key_is_whole() -> None:
    with pytest.raises(ValueError, match=r"\bgate\b.*\bnull\b"):
        row_set("gate", frame([("a", "b", "c", "d")]).with_columns(split=pl.lit(None, pl.String)))

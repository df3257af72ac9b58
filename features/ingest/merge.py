"""From what batches gave to the canonical tables of a dataset: whatever shows only across rows. Pure.

Works on one range of prompts at a time, so that no more than that has to be in memory: all that a native row gives has
one prompt, and so have all duplicates of it and all pairs that it is part of.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
import polars as pl
import pyarrow as pa

from armorm.features.ingest.normalise import RAW, Rules, Tables
from armorm.features.ingest.pairs import pairs_from_ratings
from armorm.features.sources.base import Source
from armorm.features.tables import SCHEMAS

BEYOND_LIMIT: Final = "beyond_pairs_per_prompt"
DUPLICATE_PAIR: Final = "duplicate_pair"
DUPLICATE_ROW: Final = "duplicate_row"

RATED_IDS: Final = ["source_row", "conversation_id", "prompt_id", "split"]
RATED_KEY: Final = ["prompt_id", "conversation_id", "source_row"]
PAIR_KEY: Final = ["source_row", "chosen_id", "rejected_id"]


@dataclass(frozen=True, slots=True)
class Merged:
    """The tables of a range of prompts."""

    tables: Tables
    """`conversations`, `ratings` and `preferences`, sorted and without duplicates."""
    pairs_dropped: Mapping[str, int]
    """Pairs that were left out, by reason."""
    lost_rows: Mapping[str, str]
    """Source rows of which nothing is left, with the reason."""


def merge(rules: Rules, tables: Tables) -> Merged:
    """Drop repeated rows and pairs, make pairs of ratings, limit pairs, and keep the conversations in use."""
    rated = _frame(tables["ratings"]).unique(RATED_KEY).sort(RATED_KEY)
    pairs = _frame(tables["preferences"]).unique(PAIR_KEY).sort(PAIR_KEY)
    dropped: dict[str, pl.DataFrame] = {}
    counts: dict[str, int] = {}
    if not rules.evaluation:
        pairs, dropped[DUPLICATE_PAIR] = _first_of(pairs, ["chosen_id", "rejected_id"], limit=1)
    if rules.source.pairs_per_prompt:
        limit = rules.source.pairs_per_prompt(rules.options)
        by_rank = pairs.sort(["rank", "source_row"], descending=[True, False], nulls_last=True)
        pairs, dropped[BEYOND_LIMIT] = _first_of(by_rank, ["prompt_id"], limit=limit)
    if rules.source.pair_rule:
        made = pairs_from_ratings(rated, rules.source.pair_rule(rules.options))
        pairs = pl.concat([pairs, made.pairs], how="diagonal")
        counts = dict(made.dropped)
    for reason, frame in dropped.items():
        counts[reason] = counts.get(reason, 0) + len(frame)
    lost = {row: reason for reason, frame in dropped.items() for row in frame["source_row"]}
    left = {*rated["source_row"], *pairs["source_row"]} if lost else set()
    return Merged(
        {
            "conversations": _in_use(tables["conversations"], rated, pairs),
            "ratings": _ratings(rules.source, rated),
            "preferences": _preferences(rules.source, pairs),
        },
        {reason: count for reason, count in counts.items() if count},
        {row: reason for row, reason in lost.items() if row not in left},
    )


def merge_rejects(table: pa.Table) -> pa.Table:
    """Return `rejects` sorted and without repeated ones."""
    return _table("rejects", _frame(table).unique(), ["source_row", "scope", "reason", "detail"])


def native_rows(dataset: str, outcomes: pa.Table, lost_rows: Mapping[str, str]) -> pa.Table:
    """Return the table `native_rows`: of rows that repeat each other the first one counts, and lost rows are dropped.

    Args:
        outcomes: of all rows of all files, with the column `file`.
        lost_rows: source row to why nothing of it is left.
    """
    lost = pl.DataFrame(
        {"source_row": list(lost_rows), "lost": list(lost_rows.values())}, {"source_row": pl.String, "lost": pl.String}
    )
    first = pl.col("source_row").is_first_distinct()
    frame = (
        _frame(outcomes)
        .sort("file", "line")
        .join(lost, on="source_row", how="left", maintain_order="left")
        .with_columns(reason=pl.when(~first).then(pl.lit(DUPLICATE_ROW)).otherwise(pl.coalesce("lost", "reason")))
        .with_columns(
            dataset=pl.lit(dataset),
            outcome=pl.when(~first | pl.col("lost").is_not_null()).then(pl.lit("dropped")).otherwise("outcome"),
        )
    )
    return _table("native_rows", frame, [])


def _first_of(pairs: pl.DataFrame, key: Sequence[str], *, limit: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the first pairs of each group, and the others."""
    place = pl.int_range(pl.len()).over(key)
    return pairs.filter(place < limit), pairs.filter(place >= limit)


def _ratings(source: Source, rated: pl.DataFrame) -> pa.Table:
    """Return the table `ratings`: one row a rating, by objective, then as `rated` is sorted."""
    of_each = []
    for objective, scale in sorted(source.scales.items()):
        column = f"{RAW}{objective}"
        frame = rated.filter(pl.col(column).is_not_null())
        raw = frame[column].to_numpy()
        value = pl.Series(scale.to_value(raw), dtype=pl.Float64)
        of_each.append(frame.select(*RATED_IDS, objective=pl.lit(objective), raw=column, value=value))
    frame = pl.concat(of_each) if of_each else _frame(SCHEMAS["ratings"].empty_table())
    return _table("ratings", frame.with_columns(dataset=pl.lit(source.name)), [])


def _preferences(source: Source, pairs: pl.DataFrame) -> pa.Table:
    """Return the table `preferences`; `pair_id` is the hash of dataset, source row and both sides."""
    ordered = pairs.sort("prompt_id", "chosen_id", "rejected_id", "source_row")
    keys = zip(*(ordered[name] for name in PAIR_KEY), strict=True)
    ids = [hashlib.sha256(orjson.dumps((source.name, *key))).hexdigest()[:32] for key in keys]
    named = ordered.with_columns(dataset=pl.lit(source.name), pair_id=pl.Series(ids, dtype=pl.String))
    return _table("preferences", named, [])


def _in_use(conversations: pa.Table, rated: pl.DataFrame, pairs: pl.DataFrame) -> pa.Table:
    """Return each conversation that a rating or a pair speaks of, once."""
    used = pl.concat([rated["conversation_id"], pairs["chosen_id"], pairs["rejected_id"]]).unique().to_frame("id")
    places = (
        _frame(conversations.select(["prompt_id", "conversation_id"]))
        .with_row_index()
        .unique("conversation_id")
        .join(used, left_on="conversation_id", right_on="id", how="semi")
        .sort("prompt_id", "conversation_id")
    )
    return conversations.take(places["index"].to_arrow())


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _table(name: str, frame: pl.DataFrame, keys: Sequence[str]) -> pa.Table:
    schema = SCHEMAS[name]
    ordered = frame.sort(keys, nulls_last=True) if keys else frame
    return ordered.select(schema.names).to_arrow().cast(schema)

"""From native rows to canonical tables. Pure: rows in, tables and counts out.

Conservation holds by construction: every native row gets exactly one outcome, `kept`, `rejected` or
`dropped` (by a stated rule), with a reason, in the table `native_rows`. A part of a row that cannot be used
(one rating, one completion) is refused on its own, with scope `part` in `rejects`, while the row is kept.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa

from features.conversation import (
    Conversation,
    MalformedConversation,
    Split,
    SplitFractions,
    check_conversation,
    conversation_id,
    prompt_id,
)
from features.ingest.native import NativeRow, source_row_id
from features.ingest.pairs import pairs_from_ratings
from features.sources.base import Drop, Options, Pair, Rated, Record, Refused, Reject, Source, check_pair
from features.store import content_id
from features.tables import make_table

Cells = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Normalised:
    """The canonical tables of one dataset, by name, and the counts that prove conservation."""

    tables: Mapping[str, pa.Table]
    outcomes: Mapping[str, Mapping[str, int]]
    """Outcome to reason to number of native rows; the reason of a kept row is ''."""
    pairs_dropped: Mapping[str, int]
    """Pairs made of ratings that were left out, by reason."""

    @property
    def kept(self) -> int:
        """Native rows that gave at least one rating or pair."""
        return sum(self.outcomes.get("kept", {}).values())


def normalise(source: Source, rows: Iterable[NativeRow], *, options: Options, splits: SplitFractions) -> Normalised:
    """Reads every row by the source's rules and builds the canonical tables.

    The tables depend on the set of rows alone, not on their order or on the file format, apart from
    `native_rows`, which says where each row lies.
    """
    collected = _Collected(source, options, splits)
    for row in rows:
        collected.take(row)
    cells = collected.finish()
    outcomes: dict[str, Counter[str]] = {}
    for cell in cells["native_rows"]:
        outcomes.setdefault(cell["outcome"], Counter())[cell["reason"] or ""] += 1
    tables = {name: make_table(name, rows) for name, rows in cells.items()}
    pairs_dropped: dict[str, int] = {}
    if source.pair_rule:
        made = pairs_from_ratings(_frame(tables["ratings"]), source.pair_rule(options))
        pairs_dropped = made.dropped
        tables["preferences"] = make_table(
            "preferences", [_preference(source.name, cells) for cells in made.pairs.iter_rows(named=True)]
        )
    return Normalised(tables, {name: dict(sorted(of.items())) for name, of in sorted(outcomes.items())}, pairs_dropped)


@dataclass(slots=True)
class _Collected:
    """What the rows read so far have given."""

    source: Source
    options: Options
    splits: SplitFractions
    conversations: dict[str, Cells] = field(default_factory=dict)
    ratings: list[Cells] = field(default_factory=list)
    preferences: list[Cells] = field(default_factory=list)
    rejects: list[Cells] = field(default_factory=list)
    native_rows: list[Cells] = field(default_factory=list)
    first_of: dict[str, Cells] = field(default_factory=dict)
    """Source row to the first native row of that content."""

    def take(self, row: NativeRow) -> None:
        """Adds what one row gives, and notes what became of it."""
        source_row = source_row_id(row)
        where = {"dataset": self.source.name, "source_row": source_row, "file": row.file, "line": row.line}
        if source_row in self.first_of:
            cells = where | {"outcome": "dropped", "reason": "duplicate_row"}
        else:
            outcome, reason = self._outcome(row, source_row)
            cells = self.first_of[source_row] = where | {"outcome": outcome, "reason": reason}
        self.native_rows.append(cells)

    def finish(self) -> dict[str, list[Cells]]:
        """The cells of every table, after duplicate pairs have been dropped."""
        if not self.source.evaluation:
            self._drop_duplicate_pairs()
        return {
            "conversations": list(self.conversations.values()),
            "ratings": self.ratings,
            "preferences": self.preferences,
            "rejects": self.rejects,
            "native_rows": self.native_rows,
        }

    def _drop_duplicate_pairs(self) -> None:
        """Of rows that differ and give the same pair, the first in order of `source_row` is kept."""
        kept: dict[tuple[str, str], Cells] = {}
        for pair in sorted(self.preferences, key=lambda pair: pair["source_row"]):
            if kept.setdefault((pair["chosen_id"], pair["rejected_id"]), pair) is not pair:
                self.first_of[pair["source_row"]] |= {"outcome": "dropped", "reason": "duplicate_pair"}
        self.preferences = list(kept.values())

    def _outcome(self, row: NativeRow, source_row: str) -> tuple[str, str | None]:
        """`kept`, `rejected` or `dropped`, with the reason of the latter two."""
        try:
            records = list(self._records(row))
        except Drop as drop:
            return "dropped", drop.reason
        except (Reject, MalformedConversation) as fault:
            records = [Refused(fault.reason, fault.detail)]
        refusals = [record for record in records if isinstance(record, Refused)]
        kept = len(refusals) < len(records)
        if not records:
            refusals = [Refused("no_rating", "the row holds no rating and no pair")]
        for record in records:
            self._add(record, source_row)
        for refused in refusals:
            self._reject(row, source_row, refused, scope="part" if kept else "row")
        return ("kept", None) if kept else ("rejected", refusals[0].reason)

    def _records(self, row: NativeRow) -> Iterator[Record]:
        """What the source reads in the row, checked."""
        if row.data is None:
            raise Reject("malformed_row", row.problem or "not a JSON object")
        seen: set[Conversation] = set()
        for record in self.source.parse(row.data, self.options):
            match record:
                case Rated():
                    yield from _checked(record, self.source, seen)
                case Pair():
                    yield check_pair(record)
                case Refused():
                    yield record

    def _add(self, record: Record, source_row: str) -> None:
        match record:
            case Rated():
                self._add_rated(record, source_row)
            case Pair():
                self._add_pair(record, source_row)

    def _add_rated(self, rated: Rated, source_row: str) -> None:
        row = {"dataset": self.source.name, "source_row": source_row} | self._ids(rated.messages)
        for objective, raw in rated.ratings.items():
            value = self.source.scales[objective].to_value(raw)
            self.ratings.append(row | {"objective": objective, "raw": raw, "value": value})

    def _add_pair(self, pair: Pair, source_row: str) -> None:
        chosen, rejected = self._ids(pair.chosen), self._ids(pair.rejected)
        cells = {"source_row": source_row, "prompt_id": chosen["prompt_id"], "split": chosen["split"]}
        cells |= {"chosen_id": chosen["conversation_id"], "rejected_id": rejected["conversation_id"]}
        self.preferences.append(_preference(self.source.name, cells | {"margin": pair.margin, "subset": pair.subset}))

    def _ids(self, messages: Conversation) -> Cells:
        """Keeps the conversation and gives its ids and split."""
        id, prompt = conversation_id(messages), prompt_id(messages)
        if id not in self.conversations:
            self.conversations[id] = {
                "conversation_id": id,
                "prompt_id": prompt,
                "messages": [{"role": role, "content": content} for role, content in messages],
                "n_turns": len(messages),
                "n_chars": sum(len(content) for _, content in messages),
            }
        split: Split = "evaluation" if self.source.evaluation else self.splits.of(prompt)
        return {"conversation_id": id, "prompt_id": prompt, "split": split}

    def _reject(self, row: NativeRow, source_row: str, refused: Refused, *, scope: str) -> None:
        cells = {"dataset": self.source.name, "source_row": source_row, "scope": scope, "raw": row.raw}
        self.rejects.append(cells | {"reason": refused.reason, "detail": refused.detail})


def _checked(rated: Rated, source: Source, seen: set[Conversation]) -> Iterator[Rated | Refused]:
    """The ratings that are on their scale, and a refusal for each part that cannot be used."""
    try:
        check_conversation(rated.messages)
    except MalformedConversation as malformed:
        yield Refused(malformed.reason, malformed.detail)
        return
    if rated.messages in seen:
        yield Refused("repeated_completion", "the row rates the same conversation twice; the first one counts")
        return
    seen.add(rated.messages)
    good = {objective: raw for objective, raw in rated.ratings.items() if raw in source.scales[objective]}
    for objective in rated.ratings.keys() - good.keys():
        raw, scale = rated.ratings[objective], source.scales[objective]
        yield Refused("rating_out_of_range", f"{objective}: got {raw:g}; expected {scale}")
    if good:
        yield Rated(rated.messages, good)


def _preference(dataset: str, cells: Cells) -> Cells:
    pair_id = content_id([dataset, cells["source_row"], cells["chosen_id"], cells["rejected_id"]])
    return {"dataset": dataset, "pair_id": pair_id, "subset": None} | cells


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame

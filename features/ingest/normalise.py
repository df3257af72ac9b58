"""From a batch of native rows to rows of the canonical tables. Pure, and blind to all other batches.

Every native row gets exactly one outcome, `kept`, `rejected` or `dropped` (by a stated rule), with a reason. A part of
a row that cannot be used (one rating, one completion) is refused on its own, with scope `part` in `rejects`, while
the row is kept. What shows only across batches (duplicates, pairs that ratings make) is up to `ingest.merge`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from armorm.features.conversation import (
    Conversation,
    MalformedConversation,
    SplitFractions,
    check_conversation,
    conversation_id,
    conversation_ids,
    position,
)
from armorm.features.ingest.forgotten import REASON, Forgotten
from armorm.features.ingest.native import NativeRow, source_row_id
from armorm.features.objectives import Scale
from armorm.features.sources.base import Fault, Numbers, Options, Pairs, Rated, Record, Refused, Rows, Source
from armorm.features.tables import MESSAGES, SCHEMAS, schema_of

Tables = Mapping[str, pa.Table]

CANDIDATES: Final = pa.schema(
    [*(field for field in SCHEMAS["preferences"] if field.name not in ("dataset", "pair_id")), ("rank", pa.float64())]
)
"""`preferences` before duplicates and limits, with what decides which pairs of a prompt stay."""

OUTCOMES: Final = schema_of("source_row line:int outcome reason")
"""What became of each native row, before duplicates."""


RAW: Final = "raw:"
"""Before the name of an objective: the column of its raw ratings."""


def rated_schema(source: Source) -> pa.Schema:
    """Return the schema of all ratings that a native row gives a conversation: one column for each objective."""
    ids = [(name, pa.string()) for name in ("source_row", "conversation_id", "prompt_id", "split")]
    return pa.schema([*ids, *((f"{RAW}{objective}", pa.float64()) for objective in sorted(source.scales))])


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules by which a dataset's rows are read."""

    source: Source
    options: Options
    splits: SplitFractions
    share: float = 1.0
    """Share of the prompts that are kept, chosen by a hash: the same prompts in all datasets."""
    split: str | None = None
    """The split of all rows, where it is not to follow from each prompt's hash."""
    forgotten: Forgotten = field(default_factory=Forgotten)
    """Rows and prompts that nothing is kept of."""

    @property
    def evaluation(self) -> bool:
        """Whether the rows are only ever for evaluation."""
        return self.source.evaluation or self.split == "evaluation"

    def split_of(self, prompt: str) -> str:
        """Return the split of a prompt's rows."""
        return "evaluation" if self.evaluation else self.split or self.splits.of(prompt)


def normalise(rules: Rules, native: Sequence[NativeRow], *, file: str) -> Tables:
    """Return what a batch of rows of one file gives to each table.

    `ratings` are as `rated_schema` says, `preferences` are `CANDIDATES`, `native_rows` are `OUTCOMES`.

    Nothing but the line in `native_rows` depends on where a row lies. Rows come in the order given and may repeat.
    """
    rows = Rows([row.data or {} for row in native], file=file)
    for number, row in enumerate(native):
        if row.problem is not None:
            rows.reject(number, "malformed_row", row.problem)
    records = [_checked(record, rules.source.scales) for record in rules.source.parse(rows, rules.options)]
    name = f"{Path(file).name}:".encode() if rules.source.named_files else b""
    batch = _Batch(rules, rows, [source_row_id(name + row.raw) for row in native])
    if rules.forgotten:
        batch.drop_forgotten(records)
    if rules.share < 1:
        batch.drop_outside_share(records)
    rated = [batch.rated(record) for record in records if isinstance(record, Rated)]
    preferences = [batch.preferences(record) for record in records if isinstance(record, Pairs)]
    return {
        "conversations": batch.conversations(),
        "ratings": pa.concat_tables([rated_schema(rules.source).empty_table(), *rated]),
        "preferences": pa.concat_tables([CANDIDATES.empty_table(), *preferences]),
        **batch.outcomes(native, records),
    }


def _checked(record: Record, scales: Mapping[str, Scale]) -> Record:
    """Return the record without ratings off their scale; malformed conversations and pairs become faults."""
    rows = record.rows
    if isinstance(record, Rated):
        _check_conversations(rows, record.conversations)
        on_scale = {name: _on_scale(rows, name, raws, scales[name]) for name, raws in record.ratings.items()}
        return Rated(rows, record.conversations, on_scale)
    _check_conversations(rows, record.chosen, "chosen: ")
    _check_conversations(rows, record.rejected, "rejected: ")
    pairs = list(zip(record.chosen, record.rejected, strict=True))
    differs = (chosen[:-1] != rejected[:-1] for chosen, rejected in pairs)
    rows.reject_where(differs, "context_differs", lambda _: "chosen and rejected do not answer the same prompt")
    rows.drop_where((chosen == rejected for chosen, rejected in pairs), "identical_pair")
    return record


def _check_conversations(rows: Rows, conversations: Sequence[Conversation], side: str = "") -> None:
    for row, messages in enumerate(conversations):
        if row not in rows.faults:
            try:
                check_conversation(messages)
            except MalformedConversation as malformed:
                rows.reject(row, malformed.reason, f"{side}{malformed.detail}")


def _on_scale(rows: Rows, objective: str, raws: Numbers, scale: Scale) -> Numbers:
    if all(raw in scale for raw in {*raws} if raw is not None):
        return raws
    off = [row for row, raw in enumerate(raws) if raw is not None and raw not in scale]
    for row in off:
        if row not in rows.faults:
            rows.refuse(row, "rating_out_of_range", f"{objective}: got {raws[row]:g}; expected {scale}")
    return [None if row in off else raw for row, raw in enumerate(raws)]


@dataclass(slots=True)
class _Batch:
    """What is known of a batch while its records become tables."""

    rules: Rules
    rows: Rows
    source_rows: Sequence[str]
    prompts: dict[Conversation, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    used: dict[str, tuple[str, Conversation]] = field(default_factory=dict)
    """Conversation to its prompt's id and its messages."""
    kept: set[int] = field(default_factory=set)
    """Native rows that gave a rating or a pair."""

    def drop_forgotten(self, records: Sequence[Record]) -> None:
        """Drop rows that are to be forgotten, whatever else is wrong with them: a reject would keep their text."""
        rows = {row for row, id in enumerate(self.source_rows) if id in self.rules.forgotten.rows}
        for record in records if self.rules.forgotten.prompts else ():
            sides = (record.conversations,) if isinstance(record, Rated) else (record.chosen, record.rejected)
            for row, conversations in enumerate(zip(*sides, strict=True)):
                if any(self._is_forgotten(messages) for messages in conversations):
                    rows.add(record.rows.place[row][0])
        for row in rows:
            self.rows.faults[row] = Fault("dropped", REASON)

    def drop_outside_share(self, records: Sequence[Record]) -> None:
        """Drop the native rows whose prompt is not in the share that is wanted."""
        for record in records:
            conversations = record.conversations if isinstance(record, Rated) else record.chosen
            for row in self._sound(record.rows):
                if position(self._prompt_id(conversations[row]), "share") >= self.rules.share:
                    self.rows.drop(record.rows.place[row][0], "outside_share")

    def rated(self, rated: Rated) -> pa.Table:
        """Return rows of `rated_schema`."""
        rows, columns = rated.rows, list(rated.ratings.values())
        nothing = (None,) * len(columns)
        has_rating = [ratings != nothing for ratings in zip(*columns, strict=True)]
        here = [row for row in self._sound(rows) if has_rating[row]]
        ids = dict(zip(here, self._use([rated.conversations[row] for row in here]), strict=True))
        if rows.label:
            self._refuse_repeated(rows, ids)
        raws = {f"{RAW}{name}": [column[row] for row in ids] for name, column in rated.ratings.items()}
        schema = rated_schema(self.rules.source)
        return self._table(
            schema,
            rows,
            list(ids),
            conversation_id=list(ids.values()),
            prompt_id=[self.used[id][0] for id in ids.values()],
            **{name: raws.get(name, [None] * len(ids)) for name in schema.names if name.startswith(RAW)},
        )

    def preferences(self, pairs: Pairs) -> pa.Table:
        """Return rows of `CANDIDATES`."""
        here = self._sound(pairs.rows)
        chosen = self._use([pairs.chosen[row] for row in here])

        def of_each(column: Sequence[Any] | None) -> list[Any]:
            return [column[row] if column else None for row in here]

        return self._table(
            CANDIDATES,
            pairs.rows,
            here,
            prompt_id=[self.used[id][0] for id in chosen],
            chosen_id=chosen,
            rejected_id=self._use([pairs.rejected[row] for row in here]),
            margin=of_each(pairs.margin),
            subset=of_each(pairs.subset),
            rank=of_each(pairs.rank),
        )

    def conversations(self) -> pa.Table:
        """Return the conversations that ratings and pairs speak of."""
        prompts, conversations = zip(*self.used.values(), strict=True) if self.used else ((), ())
        turns = [turn for messages in conversations for turn in messages]
        roles, contents = zip(*turns, strict=True) if turns else ((), ())
        n_turns = np.fromiter(map(len, conversations), np.int32, len(conversations))
        ends = n_turns.cumsum(dtype=np.int32)
        texts = pa.array(contents, pa.string())
        n_chars = np.add.reduceat(pc.utf8_length(texts).to_numpy(), ends - n_turns) if turns else ends
        parts = pa.StructArray.from_arrays([pa.array(roles, pa.string()), texts], fields=list(MESSAGES.value_type))
        messages = pa.ListArray.from_arrays(np.concatenate([[0], ends]).astype(np.int32), parts)
        columns = [list(self.used), prompts, messages, n_turns, n_chars]
        return pa.table(columns, schema=SCHEMAS["conversations"])

    def outcomes(self, native: Sequence[NativeRow], records: Sequence[Record]) -> Tables:
        """Return the tables `rejects` and `native_rows`: what became of each row."""
        refused_of: dict[int, list[Refused]] = {}
        for refused in sorted([*self.rows.refused, *_faults_of_parts(records)], key=lambda of: (of.row, of.part)):
            refused_of.setdefault(refused.row, []).append(refused)
        outcome: list[str] = ["kept"] * len(native)
        reason: list[str | None] = [None] * len(native)
        rejects: list[tuple[str, ...]] = []
        for row in sorted({*range(len(native))} - self.kept | self.rows.faults.keys() | refused_of.keys()):
            parts, scope = refused_of.get(row, []), "part"
            if row not in self.kept:
                nothing = Fault("rejected", parts[0].reason if parts else "no_rating", "it holds no rating and no pair")
                fault, scope = self.rows.faults.get(row, nothing), "row"
                outcome[row], reason[row] = fault.outcome, fault.reason
                if fault is not nothing or not parts:
                    parts = [Refused(row, 0, fault.reason, fault.detail)] if fault.outcome == "rejected" else []
            raw = native[row].raw.decode() if parts else ""
            rejects += [(self.source_rows[row], scope, refused.reason, refused.detail, raw) for refused in parts]
        lines = [row.line for row in native]
        return {
            "native_rows": pa.table([self.source_rows, lines, outcome, reason], schema=OUTCOMES),
            "rejects": _rejects(self.rules.source.name, rejects),
        }

    def _sound(self, rows: Rows) -> list[int]:
        """Return rows without a fault of their own or of the native row that they are part of."""
        if not rows.faults and not self.rows.faults:
            return list(range(len(rows)))
        return [
            row
            for row, (native_row, _) in enumerate(rows.place)
            if row not in rows.faults and native_row not in self.rows.faults
        ]

    def _refuse_repeated(self, rows: Rows, ids: dict[int, str]) -> None:
        """Refuse all parts of a native row but the first that rate the same conversation."""
        seen = set()
        for row, id in list(ids.items()):
            rating = rows.place[row][0], id
            if rating in seen:
                rows.refuse(row, "repeated_completion", "the row rates the same conversation twice; the first counts")
                del ids[row]
            seen.add(rating)

    def _use(self, conversations: Sequence[Conversation]) -> list[str]:
        """Return the conversations' ids; they are noted as needed."""
        ids = conversation_ids(conversations)
        for id, messages in zip(ids, conversations, strict=True):
            if id not in self.used:
                self.used[id] = self._prompt_id(messages), messages
        return ids

    def _is_forgotten(self, messages: Conversation) -> bool:
        try:
            return self._prompt_id(messages) in self.rules.forgotten.prompts
        except orjson.JSONEncodeError:  # text that is no Unicode has no id, and was never kept but as a reject
            return False

    def _prompt_id(self, messages: Conversation) -> str:
        prompt = messages[:-1]
        if prompt not in self.prompts:
            self.prompts[prompt] = conversation_id(prompt)
        return self.prompts[prompt]

    def _table(self, schema: pa.Schema, rows: Rows, here: Sequence[int], **columns: Any) -> pa.Table:
        """Return the given columns, and those that say whose they are."""
        native_rows = [rows.place[row][0] for row in here]
        self.kept.update(native_rows)
        columns["source_row"] = [self.source_rows[row] for row in native_rows]
        columns["split"] = [self._split(prompt) for prompt in columns["prompt_id"]]
        return pa.table([columns[name] for name in schema.names], schema=schema)

    def _split(self, prompt: str) -> str:
        if prompt not in self.splits:
            self.splits[prompt] = self.rules.split_of(prompt)
        return self.splits[prompt]


def _faults_of_parts(records: Sequence[Record]) -> Iterator[Refused]:
    """Yield the faults of parts, which are no faults of their rows."""
    for rows in {id(record.rows): record.rows for record in records if record.rows.label}.values():
        for row, fault in sorted(rows.faults.items()):
            if fault.outcome == "rejected":
                native_row, part = rows.place[row]
                yield Refused(native_row, part, fault.reason, f"{rows.label} {part}: {fault.detail}")


def _rejects(dataset: str, rejects: Sequence[tuple[str, ...]]) -> pa.Table:
    columns = zip(*rejects, strict=True) if rejects else [()] * 5
    return pa.table([pa.repeat(dataset, len(rejects)), *columns], schema=SCHEMAS["rejects"])

"""What would be made of a dataset, row by row, before anything is committed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from armorm.features.conversation import SplitFractions
from armorm.features.ingest.dataset import DatasetFiles, dataset_files
from armorm.features.ingest.files import relative_name
from armorm.features.ingest.merge import DUPLICATE_ROW, merge, native_rows
from armorm.features.ingest.native import NativeRow, read_rows
from armorm.features.ingest.normalise import Rules, normalise
from armorm.features.sources.proposal import columns_of

Row = Mapping[str, Any]

SHOWN_CHARS: Final = 60


@dataclass(frozen=True, slots=True)
class PreviewedRow:
    """A native row and all that comes of it."""

    file: str
    line: int
    outcome: str
    reason: str
    details: tuple[str, ...]
    """Why it, or parts of it, were refused."""
    ratings: tuple[Row, ...]
    """Rows of `ratings`."""
    pairs: tuple[Row, ...]
    """Rows of `preferences`, those too that ratings of several rows make."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The first rows of a dataset's files, and the conversations that they speak of."""

    rows: tuple[PreviewedRow, ...]
    conversations: Mapping[str, Row]
    """Rows of `conversations` by id."""
    columns: Mapping[str, str]
    """What each column of the native rows holds, as far as it was read."""
    notes: tuple[str, ...]
    """Which files below the path are not read, and why."""

    @property
    def line(self) -> str:
        """How many rows have which outcome, for a person."""
        counts = Counter(f"{row.outcome} {row.reason}".strip() for row in self.rows)
        return ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()) or "no rows"

    def told(self, row: PreviewedRow) -> str:
        """Return what comes of a row, for a person: a line a conversation, pair or refusal, texts cut short."""
        raws: dict[str, list[str]] = {}
        for rating in row.ratings:
            raws.setdefault(rating["conversation_id"], []).append(f"{rating['objective']} {rating['raw']:g}")
        rated = [f"{self._text(id)}: {', '.join(ratings)}" for id, ratings in raws.items()]
        pairs = [
            f"{self._text(pair['chosen_id'])} > {self._answer(pair['rejected_id'])}"
            + ("" if pair["margin"] is None else f" (by {pair['margin']:g})")
            for pair in row.pairs
        ]
        return "\n".join([*rated, *pairs, *(f"refused: {detail}" for detail in row.details)])

    def _text(self, id: str) -> str:
        *prompt, _ = self.conversations[id]["messages"]
        turns = " ".join(f"[{turn['role']}] {_short(turn['content'])}" for turn in prompt)
        return f"{turns} [assistant] {self._answer(id)}"

    def _answer(self, id: str) -> str:
        return _short(self.conversations[id]["messages"][-1]["content"])


def preview(dataset: DatasetFiles, splits: SplitFractions, *, n_rows: int) -> Preview:
    """Read the first `n_rows` of every file, as an ingest would.

    Duplicates, limits and pairs of ratings are those among these rows alone.

    Raises:
        NativeFileError: a file is missing or broken beyond one row.
    """
    rules = Rules(dataset.source, dataset.options, splits, dataset.share, dataset.split)
    rows: list[PreviewedRow] = []
    conversations: dict[str, Row] = {}
    data: list[Row] = []
    found = dataset_files(dataset)
    for file in found.read:
        name = relative_name(file, dataset.path)
        native = list(islice(read_rows(file), n_rows))
        data += [row.data for row in native if row.data is not None]
        tables = normalise(rules, native, file=name)
        merged = merge(rules, tables)
        outcomes = tables["native_rows"].append_column("file", [[name] * len(tables["native_rows"])])
        rejects = tables["rejects"].to_pylist()
        made = {table: merged.tables[table].to_pylist() for table in ("ratings", "preferences")}
        conversations |= {of["conversation_id"]: of for of in merged.tables["conversations"].to_pylist()}
        for row in native_rows(rules.source.name, outcomes, merged.lost_rows).to_pylist():
            id = row["source_row"]
            is_first = row["reason"] != DUPLICATE_ROW
            rows.append(
                PreviewedRow(
                    name,
                    row["line"],
                    row["outcome"],
                    row["reason"] or "",
                    tuple(dict.fromkeys(of["detail"] for of in rejects if of["source_row"] == id)),
                    tuple(of for of in made["ratings"] if is_first and of["source_row"] == id),
                    tuple(of for of in made["preferences"] if is_first and id in of["source_row"].split("+")),
                )
            )
    columns = {name: column.told for name, column in columns_of(data).items()}
    return Preview(tuple(rows), conversations, columns, tuple(found.notes))


def count(dataset: DatasetFiles, splits: SplitFractions, rows: Sequence[NativeRow]) -> Counter[str]:
    """Return how many ratings, pairs and prompts some rows of a dataset give, as an ingest of them would."""
    rules = Rules(dataset.source, dataset.options, splits, dataset.share, dataset.split)
    merged = merge(rules, normalise(rules, rows, file="")).tables
    prompts = {*merged["conversations"]["prompt_id"].to_pylist()}
    return Counter(ratings=len(merged["ratings"]), pairs=len(merged["preferences"]), prompts=len(prompts))


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= SHOWN_CHARS else f"{words[: SHOWN_CHARS - 2]}.."

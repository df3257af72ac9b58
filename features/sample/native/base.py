"""What a dataset of the sample is made of. Leaf of `armorm.features.sample.native`."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from armorm.features.conversation import Conversation, Message
from armorm.features.sample.world.world import World

Row = dict[str, Any]
"""A native row, or new values of some of its columns."""

Files = Mapping[str, Sequence[Row]]
"""Path of a native file, below the sample's folder, to its rows."""

Format = Literal["lines", "array", "parquet"]
"""What files hold, which their names do not always tell: some `.json` hold an array and some hold lines."""

Status = Literal["kept", "in part", "rejected", "dropped"]
"""What becomes of a row by itself, whatever the other rows are; `in part` is kept without a rating or a completion."""

PairIds = tuple[str, str]
"""The ids of the preferred conversation and of the other."""

ABSENT: Final = object()
"""The new value of a column that is taken away."""


@dataclass(frozen=True, slots=True)
class Defect:
    """A defect that real rows have: a change of one clean row. No row has two."""

    name: str
    rate: float
    """Share of the rows that are kept; at least one row is spoilt, however few there are."""
    changes: Row | Callable[[Row], Row | str]
    """What is changed, which may follow from the row; or the text of a line that is written instead."""
    status: Status = "kept"
    """What becomes of the spoilt row."""
    reason: str = ""
    """Why the row, or the part, is not kept; the defect's name where nothing else is said."""
    beside: bool = False
    """Whether the clean row stays, before the spoilt one."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What rows give that are usable one by one."""

    ratings: Counter[str] = field(default_factory=Counter)
    """Objective to number of ratings."""
    pairs: Sequence[PairIds] = ()
    """Every preference."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Rows that a rule over all rows leaves out, by reason."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset: its clean rows, the defects that real rows of it have, and what is to come of them."""

    name: str
    format: Format
    files: Callable[[World], Files]
    truth: Callable[[Sequence[Row]], Truth]
    """What the rows that are kept give."""
    defects: tuple[Defect, ...]
    """The defects of its own, beside those that any file has."""
    leaks: Callable[[World], tuple[Defect, ...]] = lambda world: ()
    """Defects made of a benchmark's prompts."""
    left_out: Callable[[str, Row], str] = lambda file, row: ""
    """Why a rule of the dataset leaves out a clean row of a file, if it does; those stay clean."""


def in_first(column: str, **values: Any) -> Callable[[Row], Row]:
    """Return other values in the first object of a list."""
    return lambda row: {column: [row[column][0] | values, *row[column][1:]]}


def exchanged(row: Row, *columns: tuple[str, str]) -> Row:
    """Return each of two columns with the other's value."""
    return {name: row[other] for pair in columns for name, other in (pair, pair[::-1])}


def as_messages(turns: Iterable[Message]) -> list[Row]:
    """Return turns in the form of chat datasets."""
    return [{"content": content, "role": role} for role, content in turns]


def as_turns(messages: Iterable[Row]) -> Conversation:
    """Return messages as turns: the inverse of `as_messages`."""
    return tuple((message["role"], message["content"]) for message in messages)

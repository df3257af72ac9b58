"""What a dataset's source file is made of. Leaf of `armorm.features.sources`.

A source reads a batch of native rows column by column (`Rows`) and gives records: columns of rated conversations
(`Rated`) and of preference pairs (`Pairs`). What it cannot use it rejects with a reason, what a stated rule leaves
out it drops. Ranges of ratings and the form of conversations are checked for all sources in `armorm.features.ingest`.
"""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from armorm.features.conversation import Conversation, MalformedConversation
from armorm.features.objectives import Scale
from armorm.features.sources.reading import read_turns

Options = Mapping[str, str]
"""A dataset's own settings, complete with defaults."""

Numbers = Sequence[float | None]
"""A column of raw ratings; None where there is none."""

T = TypeVar("T")

MISSING: Any = object()
"""What a row has in a column that is not there."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The reason why a whole row is left out: `rejected` as unusable, or `dropped` by a stated rule."""

    outcome: Literal["rejected", "dropped"]
    reason: str
    """A stable code."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """One part of a native row (a rating, a completion) that cannot be used while the rest can."""

    row: int
    part: int
    reason: str
    detail: str


class Rows:
    """Native rows of one file, or parts of them, to be read column by column.

    Reading a column checks every row. A row with a fault goes on with an empty value of the column's type, so that
    rules need no special cases, and nothing made of it is kept. The first fault of a row counts.
    """

    def __init__(self, cells: Sequence[Mapping[str, Any]], *, file: str = "") -> None:
        self.cells = cells
        self.file = file
        """The native file that all of the rows are from."""
        self.faults: dict[int, Fault] = {}
        self.refused: list[Refused] = []
        """Parts that were refused, also those of rows made by `parts`."""
        self.place: Sequence[tuple[int, int]] = [(row, 0) for row in range(len(cells))]
        """The native row that each row is (part of), and its place among the parts."""
        self.label = ""
        """What a part is called in details, e.g. `completion`; the rows themselves have none."""

    def __len__(self) -> int:
        return len(self.cells)

    def text(self, column: str, *, default: str | None = None) -> list[str]:
        """Return strings, unaltered; a `default` stands for null and for an absent column."""
        return self._read(column, str, "text", empty="", default=default)

    def boolean(self, column: str, *, default: bool | None = None) -> list[bool]:
        """Return booleans; a `default` stands for null and for an absent column."""
        return self._read(column, bool, "true or false", empty=False, default=default)

    def array(self, column: str, *, default: list[Any] | None = None) -> list[list[Any]]:
        """Return lists of anything; a `default` stands for null and for an absent column."""
        return self._read(column, list, "a list", empty=[], default=default)

    def values(self, column: str) -> list[Any]:
        """Return the column's values; None where the column is absent."""
        return [cell.get(column) for cell in self.cells]

    def number(self, column: str) -> list[float]:
        """Return finite numbers, also those given as digits in a string."""
        numbers = []
        for row, value in enumerate(self.required(column)):
            number = as_number(value)
            if number is None:
                self.reject(row, "rating_not_a_number", f"column {column}: got {shown(value)}; expected a number")
            numbers.append(number or 0.0)
        return numbers

    def zero_or_one(self, column: str) -> list[int]:
        """Return labels that name one of two: 0 or 1."""
        labels = []
        for row, value in enumerate(self.required(column)):
            is_label = value in (0, 1) and type(value) is not bool
            if not is_label:
                self.reject(row, "label_not_0_or_1", f"column {column}: got {shown(value)}; expected 0 or 1")
            labels.append(int(value) if is_label else 0)
        return labels

    def messages(self, column: str) -> list[Conversation]:
        """Return lists of `{role, content}` as conversations."""
        return self.conversations([self.array(column)], [column], read_turns)

    def prompt(self, column: str) -> list[Conversation]:
        """Return prompts, each a text, which is a user's turn, or a list of `{role, content}`."""
        return self.conversations([self.required(column)], [column], _prompt)

    def conversations(
        self, columns: Sequence[Sequence[Any]], names: Sequence[str], read: Callable[..., Conversation]
    ) -> list[Conversation]:
        """Return what `read` makes of the values in some columns; a row that it refuses gets a fault."""
        conversations: list[Conversation] = []
        for row, values in enumerate(zip(*columns, strict=True)):
            conversation: Conversation = ()
            if row not in self.faults:
                try:
                    conversation = read(*values)
                except MalformedConversation as malformed:
                    self.reject(row, "wrong_type", f"column {', '.join(names)}: {malformed.detail}")
            conversations.append(conversation)
        return conversations

    def struct(self, column: str, *, default: Mapping[str, Any] | None = None) -> "Rows":
        """Return nested objects as rows, one for each row; a fault in one is the row's. A `default` as for text."""
        nested = Rows(self._read(column, dict, "an object", empty={}, default=default), file=self.file)
        nested.faults, nested.refused, nested.place, nested.label = self.faults, self.refused, self.place, self.label
        return nested

    def parts(self, lists: Sequence[Sequence[Any]], label: str) -> "Rows":
        """Return the objects in each row's list as rows of their own; a fault in one refuses that part alone."""
        cells = [part for row in lists for part in row]
        parts = Rows([part if isinstance(part, Mapping) else {} for part in cells], file=self.file)
        parts.place = [(row, number) for row, of_row in enumerate(lists) for number in range(len(of_row))]
        parts.refused, parts.label = self.refused, label
        for row, cell in enumerate(cells):
            if not isinstance(cell, Mapping):
                parts._wrong_type(row, label, cell, "an object")
        return parts

    def of_whole(self, column: Sequence[T]) -> list[T]:
        """Return a column of the native rows, repeated for each part."""
        return [column[row] for row, _ in self.place]

    def rating(self, *path: str, absent: Sequence[Any] = (), booleans: bool = False) -> list[float | None]:
        """Return raw ratings in a column, or deeper in nested objects; a bad one is refused and its row stays.

        Args:
            path: the column, and names in the nested objects below it.
            absent: values that say that there is no rating, which is no fault.
            booleans: whether true and false are ratings, 1 and 0.
        """
        values: list[Any] = list(self.cells)
        for name in path:
            values = [value.get(name, MISSING) if type(value) is dict else MISSING for value in values]
        if {*map(type, values)} <= {int, float} and all(abs(value) <= sys.float_info.max for value in values):
            return [*map(float, values)]
        ratings = []
        for row, value in enumerate(values):
            number = _as_boolean(value) if booleans else as_number(value)
            if number is None and value not in absent and row not in self.faults:
                reason = "missing_column" if value is MISSING else "rating_not_a_number"
                got = "nothing" if value is MISSING else shown(value)
                self.refuse(row, reason, f"{'.'.join(path)}: got {got}; expected a number")
            ratings.append(number)
        return ratings

    def reject(self, row: int, reason: str, detail: str) -> None:
        """Reject a row: it cannot be used."""
        self.faults.setdefault(row, Fault("rejected", reason, detail))

    def drop(self, row: int, reason: str) -> None:
        """Drop a row: a rule of the dataset leaves it out."""
        self.faults.setdefault(row, Fault("dropped", reason))

    def refuse(self, row: int, reason: str, detail: str) -> None:
        """Refuse a part of a row: it cannot be used."""
        native_row, part = self.place[row]
        self.refused.append(
            Refused(native_row, part, reason, f"{self.label} {part}: {detail}" if self.label else detail)
        )

    def reject_where(self, wrong: Iterable[bool], reason: str, detail: Callable[[int], str]) -> None:
        """Reject every row that is wrong; `detail` says of a row, by its number, what is."""
        for row, is_wrong in enumerate(wrong):
            if is_wrong and row not in self.faults:
                self.reject(row, reason, detail(row))

    def drop_where(self, left_out: Iterable[bool], reason: str) -> None:
        """Drop every row that the rule called `reason` leaves out."""
        for row, is_left_out in enumerate(left_out):
            if is_left_out:
                self.drop(row, reason)

    def _read(self, column: str, of: type, expected: str, *, empty: Any, default: Any) -> list[Any]:
        values = self.required(column) if default is None else self.values(column)
        if {*map(type, values)} <= {of}:
            return values
        for row, value in enumerate(values):
            if value is None and default is not None:
                values[row] = default
            elif type(value) is not of:
                self._wrong_type(row, column, value, expected)
                values[row] = empty
        return values

    def required(self, column: str) -> list[Any]:
        """Return the column's values; a row without the column has a fault."""
        try:
            return [cell[column] for cell in self.cells]
        except KeyError:
            for row, cell in enumerate(self.cells):
                if column not in cell:
                    has = ", ".join(sorted(cell)) or "none"
                    self.reject(row, "missing_column", f"no column {column}; the row has {has}")
            return self.values(column)

    def _wrong_type(self, row: int, column: str, value: Any, expected: str) -> None:
        self.reject(row, "wrong_type", f"column {column}: got {shown(value)}; expected {expected}")


@dataclass(frozen=True, slots=True)
class Rated:
    """A conversation of each row, with all raw ratings that the row gives it, by objective on the native scale."""

    rows: Rows
    conversations: Sequence[Conversation]
    ratings: Mapping[str, Numbers]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two conversations of each row with the same prompt, the first preferred."""

    rows: Rows
    chosen: Sequence[Conversation]
    rejected: Sequence[Conversation]
    margin: Numbers | None = None
    """How much better the first is, in the dataset's own units."""
    subset: Sequence[str] | None = None
    rank: Sequence[float] | None = None
    """Which pairs of a prompt stay where their number is limited: the highest; without it, any, by a hash."""


Record = Rated | Pairs


@dataclass(frozen=True, slots=True)
class PairRule:
    """The rule by which ratings become preferences: all unordered pairs of a group whose mean ratings differ."""

    group_by: Literal["prompt_id", "source_row"]
    objectives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Option:
    """A setting of a dataset, for where the upstream rule is not known for certain."""

    meaning: str
    """What it changes, and why it is open."""
    choices: tuple[str, ...] = ()
    """Allowed values, the default first; without any, it is a number."""
    number: float = 0.0
    """The default of a number."""
    whole: bool = False
    """Whether the number counts something: it is whole, and 1 or more; any other is 0 or more."""

    @property
    def default(self) -> str:
        """What holds where nothing is set."""
        return self.choices[0] if self.choices else f"{self.number:g}"

    @property
    def allowed(self) -> str:
        """The allowed values, for people."""
        return " or ".join(self.choices) or ("a whole number of 1 or more" if self.whole else "a number of 0 or more")

    def admits(self, number: float) -> bool:
        """Return whether the number is allowed."""
        return not self.choices and (number >= 1 and number.is_integer() if self.whole else number >= 0)


@dataclass(frozen=True, slots=True)
class Source:
    """One upstream dataset: what it is, and how its rows are read.

    All that a native row gives has the same prompt.
    """

    name: str
    upstream: str
    """Where it is published, e.g. `nvidia/HelpSteer`."""
    licence: str
    parse: Callable[[Rows, Options], Iterable[Record]]
    scales: Mapping[str, Scale] = field(default_factory=dict)
    """The objectives it rates, each with the scale of the raw ratings in this dataset."""
    pairs: bool = False
    """Whether its rows are, or its ratings make, preferences."""
    pair_rule: Callable[[Options], PairRule] | None = None
    """How ratings make preferences, for rated datasets whose ratings do."""
    pairs_per_prompt: Callable[[Options], int] | None = None
    """How many pairs of one prompt are kept; the others are dropped as `beyond_pairs_per_prompt`."""
    options: Mapping[str, Option] = field(default_factory=dict)
    evaluation: bool = False
    """True for a benchmark: its rows are never trained on."""
    named_files: bool = False
    """Whether a file's name says something of its rows, and so is part of what they are."""
    files: tuple[str, ...] = ()
    """Which files of the upstream repository are read, as patterns; all data files where there are none."""


def as_number(value: Any) -> float | None:
    """Return a finite number given as one or as ASCII digits in a string; None for anything else."""
    if type(value) is str and ("_" in value or not value.isascii()):
        return None  # `float` would take 1_0 for 10, and digits of any script
    if type(value) is float or type(value) is str or type(value) is int:
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None
    return None


def _as_boolean(value: Any) -> float | None:
    """Return 1 and 0 for true and false, also where a table has them as text; else a number."""
    word = value.lower() if type(value) is str else value
    return float(word in (True, "true")) if type(word) is bool or word in ("true", "false") else as_number(value)


def _prompt(value: Any) -> Conversation:
    return (("user", value),) if type(value) is str else read_turns(value)


def shown(value: Any) -> str:
    """Return a value for a detail, cut short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

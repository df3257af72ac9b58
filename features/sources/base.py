"""What a dataset's source file is made of. Leaf of `features.sources`.

A source turns one native row into records: rated conversations, preference pairs, or refused parts.
It raises `Reject` for a row that cannot be used and `Drop` for one that a stated rule leaves out.
Ranges of ratings and the form of conversations are checked for all sources in `features.ingest.normalise`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from features.conversation import Conversation, MalformedConversation, check_conversation
from features.objectives import Scale

Row = Mapping[str, Any]
"""One native row, as JSON values."""

Options = Mapping[str, str]
"""A dataset's own settings, complete with defaults."""


@dataclass(frozen=True, slots=True)
class Rated:
    """A conversation with raw ratings by objective, on the native scale; a missing rating is absent."""

    messages: Conversation
    ratings: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two conversations with the same prompt, the first preferred; `margin` in the dataset's own units."""

    chosen: Conversation
    rejected: Conversation
    margin: float | None = None
    subset: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """One part of a row (a rating, a completion) that cannot be used while the rest can."""

    reason: str
    detail: str


Record = Rated | Pair | Refused


class Reject(Exception):
    """The whole row cannot be used. `reason` is a stable code, `detail` a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Drop(Exception):
    """The whole row is left out by a stated rule of the dataset, named by `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PairRule:
    """How ratings become preferences: all unordered pairs in a group whose mean ratings differ."""

    group_by: Literal["prompt_id", "source_row"]
    objectives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """One upstream dataset: what it is, and how one of its rows is read."""

    name: str
    upstream: str
    """Where it is published, e.g. `nvidia/HelpSteer`."""
    licence: str
    parse: Callable[[Row, Options], Iterable[Record]]
    scales: Mapping[str, Scale] = field(default_factory=dict)
    """The objectives it rates, each with the scale of the raw ratings in this dataset."""
    pair_rule: Callable[[Options], PairRule] | None = None
    """For rated datasets whose ratings also make preferences."""
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Settings where the upstream rule is not known for certain: allowed values, the default first."""
    evaluation: bool = False
    """True for a benchmark: its rows are never trained on."""


def text(row: Row, column: str) -> str:
    """The string in `column`, unaltered; `Reject` when it is missing or no string."""
    value = required(row, column)
    if not isinstance(value, str):
        raise Reject("wrong_type", f"column {column}: got {_shown(value)}; expected text")
    return value


def number(value: Any, column: str) -> float:
    """A rating given as a finite number or as digits in a string; `Reject` when it is neither."""
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            result = float(value)
            if math.isfinite(result):
                return result
    raise Reject("rating_not_a_number", f"column {column}: got {_shown(value)}; expected a number")


def boolean(row: Row, column: str) -> bool:
    """The boolean in `column`; `Reject` when it is missing or no boolean."""
    value = required(row, column)
    if not isinstance(value, bool):
        raise Reject("wrong_type", f"column {column}: got {_shown(value)}; expected true or false")
    return value


def struct(value: Any, column: str) -> Row:
    """A nested object; `Reject` when it is anything else."""
    if not isinstance(value, Mapping):
        raise Reject("wrong_type", f"column {column}: got {_shown(value)}; expected an object")
    return value


def array(value: Any, column: str) -> list[Any]:
    """A nested list; `Reject` when it is anything else."""
    if not isinstance(value, list):
        raise Reject("wrong_type", f"column {column}: got {_shown(value)}; expected a list")
    return value


@contextmanager
def part(name: str, records: list[Record]) -> Iterator[None]:
    """Refuses only the part of the row that the block reads: its fault becomes a `Refused` in `records`."""
    try:
        yield
    except (Reject, MalformedConversation) as fault:
        records.append(Refused(fault.reason, f"{name}: {fault.detail}"))


def check_pair(pair: Pair) -> Pair:
    """The pair itself: two well-formed conversations with one prompt and different answers.

    Raises:
        Reject: a side is malformed (`check_conversation`'s reasons), or `context_differs`.
        Drop: `identical_pair`.
    """
    for side, messages in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        try:
            check_conversation(messages)
        except MalformedConversation as malformed:
            raise Reject(malformed.reason, f"{side}: {malformed.detail}") from malformed
    if pair.chosen[:-1] != pair.rejected[:-1]:
        raise Reject("context_differs", "chosen and rejected do not answer the same prompt")
    if pair.chosen == pair.rejected:
        raise Drop("identical_pair")
    return pair


def required(row: Row, column: str) -> Any:
    """The value in `column`, of whatever type; `Reject` when there is no such column."""
    if column not in row:
        raise Reject("missing_column", f"no column {column}; the row has {', '.join(sorted(row)) or 'none'}")
    return row[column]


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."

"""Defects that real datasets have, planted at a stated rate where the sample knows of them.

A defect turns one clean row into the rows that stand in its place, the spoilt one last. No row has two, and each
says what is to become of the row.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from numpy.random import Generator

Row = dict[str, Any]
"""A native row."""

Line = Row | str
"""A row, or the text of a line that is no row."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a row by itself, whatever the other rows are."""

    status: Literal["kept", "rejected", "dropped"] = "kept"
    reason: str = ""
    parts: tuple[str, ...] = ()
    """The reasons why ratings or completions of a kept row are refused."""


KEPT: Final = Outcome()


def rejected(reason: str) -> Outcome:
    """Return the outcome of a row that cannot be used."""
    return Outcome("rejected", reason)


def dropped(reason: str) -> Outcome:
    """Return the outcome of a row that a stated rule leaves out."""
    return Outcome("dropped", reason)


def in_part(refused: str) -> Outcome:
    """Return the outcome of a row that is kept without one part."""
    return Outcome(parts=(refused,))


@dataclass(frozen=True, slots=True)
class Defect:
    """One way in which rows are spoilt."""

    name: str
    rate: float
    """Share of the rows that are kept; at least one row is spoilt, however few there are."""
    spoil: Callable[[Row], tuple[Line, ...]]
    outcome: Outcome = KEPT
    """The outcome of the spoilt row."""


@dataclass(frozen=True, slots=True)
class Planted:
    """One defect in one row: `row` counts the file's rows from 0."""

    defect: str
    file: str
    row: int


@dataclass(frozen=True, slots=True)
class NativeLine:
    """A line as written, and what is to become of it."""

    line: Line
    outcome: Outcome = KEPT


def plant(
    rng: Generator, files: Mapping[str, Sequence[NativeLine]], defects: Sequence[Defect]
) -> tuple[dict[str, list[NativeLine]], list[Planted]]:
    """Return the files with each defect in its share of the rows that are kept, and where each one is."""
    sound = [(file, n) for file, lines in files.items() for n, line in enumerate(lines) if line.outcome == KEPT]
    counts = [max(1, round(defect.rate * len(sound))) for defect in defects]
    victims = iter(rng.permutation(len(sound)).tolist())
    spoilt = {sound[next(victims)]: defect for defect, count in zip(defects, counts, strict=True) for _ in range(count)}
    planted = []
    into: dict[str, list[NativeLine]] = {file: [] for file in files}
    for file, lines in files.items():
        for n, native in enumerate(lines):
            defect = spoilt.get((file, n))
            if defect is None or isinstance(native.line, str):
                into[file].append(native)
                continue
            *others, last = defect.spoil(native.line)
            into[file] += [*map(NativeLine, others), NativeLine(last, defect.outcome)]
            planted.append(Planted(defect.name, file, len(into[file]) - 1))
    return into, planted


def twice(row: Row) -> tuple[Line, ...]:
    """Return the row and an exact copy."""
    return row, dict(row)


def torn(row: Row) -> tuple[Line, ...]:
    """Return a line of JSON that breaks off half-way."""
    line = json.dumps(row)
    return (line[: len(line) // 2],)


def without(column: str) -> Callable[[Row], tuple[Line, ...]]:
    """Return the row without one column."""
    return lambda row: ({name: value for name, value in row.items() if name != column},)


def altered(column: str, value: Callable[[Row], Any]) -> Callable[[Row], tuple[Line, ...]]:
    """Return the row with another value in one column, which may follow from the row."""
    return lambda row: (row | {column: value(row)},)


def with_value(column: str, value: Any) -> Callable[[Row], tuple[Line, ...]]:
    """Return the row with a given value in one column."""
    return altered(column, lambda _: value)


def copied(column: str, other: str) -> Callable[[Row], tuple[Line, ...]]:
    """Return the row with another column's value in one column."""
    return altered(column, lambda row: row[other])


def in_first(column: str, **values: Any) -> Callable[[Row], tuple[Line, ...]]:
    """Return the row with other values in the first object of a list."""
    return altered(column, lambda row: [row[column][0] | values, *row[column][1:]])


def again(change: Callable[[Row], Row]) -> Callable[[Row], tuple[Line, ...]]:
    """Return the row, and one that tells the same in other words."""
    return lambda row: (row, row | change(row))


MALFORMED: Final = Defect("malformed_line", 0.002, torn, rejected("malformed_row"))
DUPLICATE: Final = Defect("duplicate_row", 0.004, twice, dropped("duplicate_row"))
"""What any file can have."""

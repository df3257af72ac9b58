"""Defects that real datasets have, planted at a stated rate where the sample knows of them.

A defect changes one clean row; some need the clean row beside the spoilt one. No row has two, and each says what is to
become of the row.
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

Changes = Mapping[str, Any]
"""New values of some columns of a row."""

Status = Literal["kept", "in part", "rejected", "dropped"]
"""What becomes of a row by itself, whatever the other rows are; `in part` is kept without a rating or a completion."""

ABSENT: Final = object()
"""The new value of a column that is taken away."""


@dataclass(frozen=True, slots=True)
class Defect:
    """One way in which rows are spoilt."""

    name: str
    rate: float
    """Share of the rows that are kept; at least one row is spoilt, however few there are."""
    changes: Changes | Callable[[Row], Changes | str]
    """What is changed, which may follow from the row; or the text of a line that is written instead."""
    status: Status = "kept"
    """What becomes of the spoilt row."""
    reason: str = ""
    """Why the row, or the part, is not kept; the defect's name where nothing else is said."""
    beside: bool = False
    """Whether the clean row stays, before the spoilt one."""

    def spoilt(self, row: Row) -> "NativeLine":
        """Return the row with its changes, and what is to become of it."""
        changes = self.changes(row) if callable(self.changes) else self.changes
        if not isinstance(changes, str):
            changes = {name: value for name, value in {**row, **changes}.items() if value is not ABSENT}
        return NativeLine(changes, self.status, "" if self.status == "kept" else self.reason or self.name)


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
    status: Status = "kept"
    reason: str = ""


def plant(
    rng: Generator, files: Mapping[str, Sequence[NativeLine]], defects: Sequence[Defect]
) -> tuple[dict[str, list[NativeLine]], list[Planted]]:
    """Return the files with each defect in its share of the rows that are kept, and where each one is."""
    sound = [(file, n) for file, lines in files.items() for n, line in enumerate(lines) if line.status == "kept"]
    counts = [max(1, round(defect.rate * len(sound))) for defect in defects]
    victims = iter(rng.permutation(len(sound)).tolist())
    spoilt = {sound[next(victims)]: defect for defect, count in zip(defects, counts, strict=True) for _ in range(count)}
    planted = []
    into: dict[str, list[NativeLine]] = {file: [] for file in files}
    for file, lines in files.items():
        for n, native in enumerate(lines):
            defect = spoilt.get((file, n))
            if defect is None or defect.beside:
                into[file].append(native)
            if defect is not None and isinstance(native.line, dict):
                planted.append(Planted(defect.name, file, len(into[file])))
                into[file].append(defect.spoilt(native.line))
    return into, planted


def in_first(column: str, **values: Any) -> Callable[[Row], Changes]:
    """Return other values in the first object of a list."""
    return lambda row: {column: [row[column][0] | values, *row[column][1:]]}


def exchanged(row: Row, *columns: tuple[str, str]) -> dict[str, Any]:
    """Return each of two columns with the other's value."""
    return {name: row[other] for pair in columns for name, other in (pair, pair[::-1])}


def _torn(row: Row) -> str:
    """Return a line of JSON that breaks off half-way."""
    line = json.dumps(row)
    return line[: len(line) // 2]


MALFORMED: Final = Defect("malformed_line", 0.002, _torn, "rejected", "malformed_row")
"""What any file of lines can have."""
DUPLICATE: Final = Defect("duplicate_row", 0.004, {}, "dropped", beside=True)
"""What any file can have."""

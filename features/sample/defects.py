"""Defects that real datasets have, planted at a stated rate where the sample knows of them.

A defect turns one clean row into the rows that stand in its place, the spoilt one last. No row has two.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator

Row = dict[str, Any]
"""A native row."""

Line = Row | str
"""A row, or the text of a line that is no row."""


@dataclass(frozen=True, slots=True)
class Defect:
    """One way in which rows are spoilt."""

    name: str
    rate: float
    """Share of rows; at least one row is spoilt, however few there are."""
    spoil: Callable[[Row], tuple[Line, ...]]


@dataclass(frozen=True, slots=True)
class Planted:
    """One defect in one row: `row` counts the file's rows from 0."""

    defect: str
    file: str
    row: int


def plant(
    rng: Generator, files: Mapping[str, Sequence[Row]], defects: Sequence[Defect]
) -> tuple[dict[str, list[Line]], list[Planted]]:
    """The files with each defect in its share of all rows, and where each one is."""
    n_rows = sum(map(len, files.values()))
    counts = [max(1, round(defect.rate * n_rows)) for defect in defects]
    victims = rng.permutation(n_rows)[: sum(counts)]
    chosen = iter(victims.tolist())
    spoilt = {next(chosen): defect for defect, count in zip(defects, counts, strict=True) for _ in range(count)}
    lines: dict[str, list[Line]] = {}
    planted, number = [], 0
    for file, rows in files.items():
        into = lines.setdefault(file, [])
        for row in rows:
            if defect := spoilt.get(number):
                into.extend(defect.spoil(row))
                planted.append(Planted(defect.name, file, len(into) - 1))
            else:
                into.append(row)
            number += 1
    return lines, planted


def twice(row: Row) -> tuple[Line, ...]:
    """The row and an exact copy."""
    return row, dict(row)


def torn(row: Row) -> tuple[Line, ...]:
    """A line of JSON that breaks off half-way."""
    line = json.dumps(row)
    return (line[: len(line) // 2],)


def without(column: str) -> Callable[[Row], tuple[Line, ...]]:
    """The row without one column."""
    return lambda row: ({name: value for name, value in row.items() if name != column},)


def altered(column: str, value: Callable[[Row], Any]) -> Callable[[Row], tuple[Line, ...]]:
    """The row with another value in one column, which may follow from the row."""
    return lambda row: (row | {column: value(row)},)


def holding(column: str, value: Any) -> Callable[[Row], tuple[Line, ...]]:
    """The row with a given value in one column."""
    return altered(column, lambda _: value)

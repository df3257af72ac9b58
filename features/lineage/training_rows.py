"""Which rows a stage was trained on, as one number that anybody can compute again.

The keys of the rows, a line each, its fields escaped and joined by tabs, the lines sorted by their bytes: the digest is
the SHA-256 of that text, as `LC_ALL=C sort -u | sha256sum` gives it.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "regression": ("dataset", "source_row", "conversation_id", "objective", "split"),
    "decorrelation": ("dataset", "source_row", "conversation_id"),
    "gate": ("dataset", "source_row", "pair_id", "split"),
}
"""Set of rows to the columns of its key: ratings that weights and alphas come from, reference responses, pairs."""

ESCAPES: Final = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
"""Escapes of tab-separated values, in this order, so that no tab or line break in a name ends a field."""

SEPARATOR: Final = "\t"

BLOCK_ROWS: Final = 65_536


@dataclass(frozen=True, slots=True)
class RowSet:
    """A set of rows, by number and digest."""

    n_rows: int
    sha256: str


def row_set(name: str, rows: pl.DataFrame) -> RowSet:
    """Return the digest of rows, in whatever order they come.

    Args:
        name: which of `KEYS`.
        rows: has the columns of the key, as text; others do not count.

    Raises:
        ValueError: a key has a part that is null.
    """
    parts = rows.select(KEYS[name])
    fields = [_escaped(parts[column]) for column in KEYS[name]]
    lines = pl.select(pl.concat_str(fields, separator=SEPARATOR)).to_series().sort()
    return _digest(name, (lines[start : start + BLOCK_ROWS] for start in range(0, len(lines), BLOCK_ROWS)))


def queried_row_set(name: str, connection: "DuckDBPyConnection", source: str) -> RowSet:
    """Return what `row_set` does of the rows of `FROM source`, each once, without having all of them in memory."""
    line = f" || chr({ord(SEPARATOR)}) || ".join(map(_escaped_sql, KEYS[name]))
    cursor = connection.execute(f"SELECT DISTINCT {line} AS line FROM {source} ORDER BY line")
    return _digest(name, iter(lambda: [line for (line,) in cursor.fetchmany(BLOCK_ROWS)], []))


def _digest(name: str, blocks: Iterable[Iterable[str | None]]) -> RowSet:
    n_rows, digest = 0, hashlib.sha256()
    for block in blocks:
        for line in block:
            if line is None:
                raise ValueError(f"got {name} rows whose key is null in part; expected all of it; check the tables")
            digest.update(f"{line}\n".encode())
            n_rows += 1
    return RowSet(n_rows, digest.hexdigest())


def _escaped_sql(column: str) -> str:
    """Return `_escaped` of a column as an SQL expression."""
    return reduce(lambda of, sign: f"replace({of}, chr({ord(sign)}), '{ESCAPES[sign]}')", ESCAPES, column)


def _escaped(field: pl.Series) -> pl.Series:
    """Return the ids with what JSON escapes; the very same list if there is nothing to escape, as a copy is large."""
    if not field.str.contains_any(list(ESCAPES)).any():
        return field
    for sign, escape in ESCAPES.items():
        field = field.str.replace_all(sign, escape, literal=True)
    return field

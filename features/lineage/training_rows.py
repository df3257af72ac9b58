"""Which rows a stage was trained on, as one number that anybody can compute again.

The keys of the rows, a line each, its fields escaped and joined by tabs, the lines sorted by their bytes: the digest is
the SHA-256 of that text, as `LC_ALL=C sort -u | sha256sum` gives it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "regression": ("dataset", "source_row", "conversation_id", "objective", "split"),
    "decorrelation": ("dataset", "source_row", "conversation_id"),
    "gate": ("dataset", "source_row", "pair_id", "split"),
}
"""Set of rows to the columns of its key: ratings that weights and alphas come from, reference responses, pairs."""

ESCAPES: Final = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
"""Escapes of tab-separated values, in this order, so that no tab or line break in a name ends a field."""

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
    if any(parts.null_count().row(0)):
        raise ValueError(f"got {name} rows whose key is null in part; expected all of it; check the tables")
    fields = [_escaped(parts[column]) for column in KEYS[name]]
    lines = pl.select(pl.concat_str(fields, separator="\t")).to_series().sort()
    digest = hashlib.sha256()
    for start in range(0, len(lines), BLOCK_ROWS):
        digest.update("".join(f"{line}\n" for line in lines[start : start + BLOCK_ROWS]).encode())
    return RowSet(len(lines), digest.hexdigest())


def _escaped(field: pl.Series) -> pl.Series:
    """Return the ids with what JSON escapes; the very same list if there is nothing to escape, as a copy is large."""
    if not field.str.contains_any(list(ESCAPES)).any():
        return field
    for sign, escape in ESCAPES.items():
        field = field.str.replace_all(sign, escape, literal=True)
    return field

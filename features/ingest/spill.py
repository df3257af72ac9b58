"""Between reading and merging: what each batch gave lies on disk, so that memory holds one batch, or one part.

A part is a range of ids (of prompts, or of rejected rows) by their first two hex digits. The ranges follow from the set
of distinct ids and their sizes alone, so that neither the order of rows nor the size of batches shows in the result.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa

from armorm.features.ingest.normalise import Tables

PART_CHARS: Final = 64_000_000
"""Characters of text from which on a part is closed."""

KEYS: Final = {
    "conversations": "prompt_id",
    "ratings": "prompt_id",
    "preferences": "prompt_id",
    "rejects": "source_row",
}
"""Each table with the id that its parts are ranges of, and that it is sorted by while it lies on disk."""

PREFIXES: Final = [f"{number:02x}" for number in range(256)]


@dataclass(frozen=True, slots=True)
class Range:
    """Ids from `first` on, up to but not including `end`."""

    first: str
    end: str

    def of(self, table: pa.Table, key: str) -> pa.Table:
        """Return the rows whose id is in the range, of a table that is sorted by it."""
        ids = table.column(key)
        first, end = (bisect_left(ids, id, key=pa.StringScalar.as_py) for id in (self.first, self.end))
        return table.slice(first, end - first)


def write_spill(folder: Path, number: int, tables: Tables) -> None:
    """Keep the tables of one batch, each sorted so that a range of ids is in one piece."""
    for name, table in tables.items():
        if len(table):
            ordered = table.sort_by(KEYS[name])
            with pa.OSFile(str(_path(folder, name, number)), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
                out.write_table(ordered)


def read_spill(folder: Path, name: str, schema: pa.Schema, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the tables of that name of all batches, memory-mapped, in order of the batches; at least an empty one."""
    yield schema.empty_table().select(columns or schema.names)
    for path in sorted(folder.glob(f"*.{name}.arrow")):
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
        yield table.select(columns or schema.names)


def read_range(folder: Path, name: str, schema: pa.Schema, ids: Range) -> pa.Table:
    """Return the rows of all batches whose id is in the range, in memory."""
    return pa.concat_tables([ids.of(table, KEYS[name]) for table in read_spill(folder, name, schema)]).combine_chunks()


def ranges(ids: pl.DataFrame) -> list[Range]:
    """Cut ids into ranges of at least `PART_CHARS`; there is always one, and the last may be smaller.

    Args:
        ids: distinct ones in column `id`, and how long their text is in `n_chars`.
    """
    weights = dict(ids.group_by(pl.col("id").str.slice(0, 2)).agg(pl.col("n_chars").sum()).iter_rows())
    starts, weight = [PREFIXES[0]], 0
    for prefix, following in pairwise(PREFIXES):
        weight += weights.get(prefix, 0)
        if weight >= PART_CHARS:
            starts.append(following)
            weight = 0
    return [Range(first, end) for first, end in zip(starts, [*starts[1:], "g"], strict=True)]


def _path(folder: Path, name: str, number: int) -> Path:
    return folder / f"{number:08d}.{name}.arrow"

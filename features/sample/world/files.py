"""Native files: lines of JSON (plain or gzipped), a JSON array, Parquet. The same rows give the same bytes.

A dataset names its writer, since a file's name does not always tell: some `.json` hold an array and some hold lines.
"""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from armorm.features.sample.world.defects import Line

Writer = Callable[[Path, Sequence[Line]], None]


def write_json_lines(path: Path, lines: Sequence[Line]) -> None:
    """Write one line a row, gzipped if the name ends in `.gz`; text is written as it is."""
    content = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def write_json_array(path: Path, lines: Sequence[Line]) -> None:
    """Write one array of all rows."""
    path.write_bytes(json.dumps(lines, ensure_ascii=False).encode())


def write_parquet(path: Path, lines: Sequence[Line]) -> None:
    """Write a table, in which a column that a row lacks is null."""
    rows = [line for line in lines if not isinstance(line, str)]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    pq.write_table(pa.table({column: [row.get(column) for row in rows] for column in columns}), path)

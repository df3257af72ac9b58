"""Native files: lines of JSON (plain or gzipped), a JSON array, Parquet. The same rows give the same bytes."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.sample.defects import Line


def write_native(path: Path, lines: Sequence[Line]) -> None:
    """Writes rows in the format that the file's name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".parquet"):
        _write_parquet(path, lines)
    elif path.name.endswith(".json"):
        path.write_bytes(json.dumps(lines, ensure_ascii=False).encode())
    else:
        content = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines).encode()
        path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def _write_parquet(path: Path, lines: Sequence[Line]) -> None:
    """A column that a row lacks is null there: a table has no missing columns."""
    rows = [line for line in lines if not isinstance(line, str)]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    pq.write_table(pa.table({column: [row.get(column) for row in rows] for column in columns}), path)

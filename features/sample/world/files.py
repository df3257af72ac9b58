"""Native files: lines of JSON (plain or gzipped), a JSON array, Parquet. The same rows give the same bytes.

A dataset names its format, since a file's name does not always tell: some `.json` hold an array and some hold lines.
"""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from armorm.features.sample.world.defects import Line

Format = Literal["lines", "array", "parquet"]


def write(path: Path, format: Format, lines: Sequence[Line]) -> None:
    """Write rows: lines gzipped if the name ends in `.gz`, and a column that a row of a table lacks as null."""
    if format == "parquet":
        rows = [line for line in lines if not isinstance(line, str)]
        columns = dict.fromkeys(column for row in rows for column in row)
        pq.write_table(pa.table({column: [row.get(column) for row in rows] for column in columns}), path)
    elif format == "array":
        path.write_bytes(json.dumps(lines, ensure_ascii=False).encode())
    else:
        content = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines).encode()
        path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)

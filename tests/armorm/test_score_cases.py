"""Small files with their right answer in `cases/score.json`: what is read of each, or by which facts it is refused."""

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from armorm.features.errors import NativeFileError
from armorm.features.ingest.requests import count_requests, read_requests

Case = dict[str, Any]

CASES: list[Case] = json.loads((Path(__file__).parents[1] / "cases" / "score.json").read_text(encoding="utf-8"))


def zstd(content: bytes) -> bytes:
    return pa.compress(content, "zstd", asbytes=True)


PACKED = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd}


def write(folder: Path, case: Case) -> Path:
    """The file of a case: its text in an encoding, or its rows in the format that the name says."""
    path, rows = folder / case["file"], case.get("rows", [])
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".arrow":
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
    else:
        text = case.get("text", "".join(f"{json.dumps(row)}\n" for row in rows))
        path.write_bytes(PACKED.get(path.suffix, bytes)(text.encode(case.get("encoding", "utf-8"))))
    return path


@pytest.mark.parametrize("case", CASES, ids=[case["file"] for case in CASES])
def test_a_file_gives_its_right_answer(case: Case, tmp_path: Path) -> None:
    file, notes = write(tmp_path, case), list[str]()
    if facts := case.get("refuses"):
        with pytest.raises(NativeFileError) as caught:
            count_requests(file)
        assert [fact for fact in facts if fact not in str(caught.value)] == []
        return
    expected = [(line, side, tuple(map(tuple, turns))) for line, side, turns in case["reads"]]
    assert count_requests(file, on_note=notes.append) == len(expected)
    assert [(of.line, of.side, of.messages) for of in read_requests(file)] == expected
    assert len(notes) == case.get("notes", 0)

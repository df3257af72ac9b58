"""Native files: which there are, their checksums, and their rows, read one at a time in bounded memory.

JSON Lines and JSON arrays, each also gzipped, and Parquet. A row that is no JSON object is still a row, with the
`problem` that it has; only a file that cannot be read any further is an error.
"""

import codecs
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import NativeFileError
from features.store import objects

SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".parquet")

_EXPECTED = f"expected {', '.join(SUFFIXES)}"
_BATCH_ROWS = 256
_CHUNK = 1 << 18
_MAX_ELEMENT = 1 << 26  # characters; what has no end by then is broken
_SCANNER = json.JSONDecoder(parse_int=str)  # `int` refuses 4,300 digits
_BEFORE_FIRST = re.compile(r"[ \t\r\n]*\[[ \t\r\n]*")
_BEFORE_NEXT = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_AFTER = re.compile(r"[ \t\r\n]*[,\]]")
_BROKEN = (
    OSError,  # gzip.BadGzipFile is one
    EOFError,
    zlib.error,
    pa.ArrowException,
    orjson.JSONEncodeError,
    ValueError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class NativeRow:
    """One row as it was published, with the place where it lies."""

    file: str
    """Relative to the folder that the dataset is configured with."""
    line: int
    """From 1: the line of a JSONL file, the element of an array, the row of a Parquet file."""
    data: dict[str, Any] | None
    """The row, or None where there is a problem."""
    raw: str
    """The row as canonical JSON; where there is a problem, its text, undecodable bytes as backslash escapes."""
    problem: str | None
    """Why there is no `data`."""


def find_files(path: Path) -> list[Path]:
    """The file itself, or every data file in the folder and below it, sorted; hidden ones are left out.

    Raises:
        NativeFileError: there is none.
    """
    if path.is_dir():
        named = sorted(file for file in path.rglob("*") if _is_data(file.relative_to(path)))
        files = [file for file in named if file.is_file() or not file.exists()]  # a dangling link is an error later
        if not files:
            raise NativeFileError(path, f"got a folder without data files; {_EXPECTED}; put the dataset's files there")
        return files
    if not path.exists():
        raise NativeFileError(path, "got no such file or folder; expected the dataset's files; correct the path")
    if not _is_data(Path(path.name)):
        raise NativeFileError(path, f"got a file of another format; {_EXPECTED}; convert or rename it")
    return [path]


def file_sha256(path: Path) -> str:
    """The SHA-256 of the file's bytes, in hex.

    Raises:
        NativeFileError: it cannot be read.
    """
    try:
        return objects.file_sha256(path)
    except OSError as error:
        raise NativeFileError(path, f"got {error}; expected a readable file; correct its permissions") from error


def read_rows(path: Path, *, root: Path | None = None) -> Iterator[NativeRow]:
    """Every row of one file, in order; `root` is the configured path, which the rows' `file` is relative to.

    Raises:
        NativeFileError: the file cannot be read, or not to its end.
    """
    name = path.name if root in (None, path) else path.relative_to(root).as_posix()
    line = 0
    try:
        for line, text in _texts(path):
            yield _native_row(name, line, text)
    except _BROKEN as error:
        damage = " ".join(str(error).split()) or type(error).__name__
        raise NativeFileError(
            path, f"got {damage} after row {line}; expected an undamaged file; fetch it again or repair it"
        ) from error


def source_row_id(row: NativeRow) -> str:
    """32 hex digits of the SHA-256 of the row's canonical JSON, or of its text where there is a problem.

    The same row has the same id in any file, place, format and order of keys. Two things a format may change are
    part of the row, though: 3 is not 3.0, and a null (Parquet fills absent fields with it) is not an absent key.
    """
    return hashlib.sha256(row.raw.encode(errors="backslashreplace")).hexdigest()[:32]


def _is_data(name: Path) -> bool:
    return name.name.lower().endswith(SUFFIXES) and not any(part.startswith(".") for part in name.parts)


def _texts(path: Path) -> Iterator[tuple[int, bytes]]:
    """The JSON text of each row, with its number."""
    if path.name.lower().endswith(".parquet"):
        return _parquet_rows(path)
    return _elements(path) if _first_byte(path) == b"[" else _lines(path)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with _open(path) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, line.rstrip(b"\r\n")


def _elements(path: Path) -> Iterator[tuple[int, bytes]]:
    """Cuts an array into its elements, which are decoded as lines are: only the array itself must be sound.

    Not with ijson: its C backends replace a lone surrogate by "?", silently, its Python backend keeps the whole file.
    """
    number, buffer = 0, ""
    with _open(path) as stream, TextIOWrapper(stream, "utf-8", errors="surrogateescape", newline="") as text:
        while len(buffer) < _MAX_ELEMENT and (more := text.read(max(_CHUNK, len(buffer)))):
            buffer, end = buffer + more, 0
            while (start := _value_start(buffer, end, first=not number)) and (found := _value_end(buffer, start)):
                number, end = number + 1, found
                yield number, buffer[start:end].encode(errors="surrogateescape")
            buffer = buffer[end:]
    if (buffer if number else buffer.replace("[", "", 1)).strip() != "]":
        raise ValueError(f"neither a whole JSON value nor the end of the array as element {number + 1}")


def _value_start(buffer: str, position: int, *, first: bool) -> int:
    """Where the next element begins, after a bracket or a comma; 0 when there is none (yet)."""
    opening = (_BEFORE_FIRST if first else _BEFORE_NEXT).match(buffer, position)
    return opening.end() if opening else 0


def _value_end(buffer: str, start: int) -> int:
    """Where the element ends; 0 when it is not whole, be it broken or still to be read."""
    try:
        _, end = _SCANNER.raw_decode(buffer, start)
    except json.JSONDecodeError:
        return 0
    return end if _AFTER.match(buffer, end) else 0


def _parquet_rows(path: Path) -> Iterator[tuple[int, bytes]]:
    with pq.ParquetFile(path, buffer_size=_CHUNK, page_checksum_verification=True) as table:
        batches = table.iter_batches(_BATCH_ROWS)
        rows = (row for batch in batches for row in batch.to_pylist())
        yield from enumerate((orjson.dumps(row, default=str) for row in rows), start=1)


def _first_byte(path: Path) -> bytes:
    """The first byte that is no space: a bracket means an array, whatever the suffix says."""
    with _open(path) as stream:
        while (byte := stream.read(1)).isspace():
            pass
        return byte


@contextmanager
def _open(path: Path) -> Iterator[gzip.GzipFile | BufferedReader]:
    """The file's bytes, decompressed, after a byte order mark if it begins with one."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as stream:
        if stream.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            stream.seek(0)
        yield stream


def _native_row(file: str, line: int, text: bytes) -> NativeRow:
    try:
        data = orjson.loads(text)
        canonical = orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode()
        problem = None if isinstance(data, dict) else f"got {canonical[:40]}; expected an object"
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        problem = f"got {error}; expected valid JSON"
    if problem:
        return NativeRow(file, line, None, text.decode(errors="backslashreplace"), problem)
    return NativeRow(file, line, data, canonical, None)

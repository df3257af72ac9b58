"""Native files: their checksums, and their rows, in chunks of bounded size.

JSON Lines, JSON arrays and one JSON object, each also as .gz, .xz or .zst, Parquet, Arrow, and CSV or TSV, whose
columns are text. Reading a file only cuts it into chunks; `decode` makes rows of one, in whatever process they are
wanted. A row that is no JSON object is still a row, with the `problem` that it has; only a file that cannot be read any
further is an error.
"""

import codecs
import gzip
import hashlib
import json
import lzma
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedReader, RawIOBase
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from armorm.features.errors import NativeFileError
from armorm.features.ingest.files import COLUMNAR, SEPARATORS, relative_name
from armorm.features.store import hashes

_CHUNK = 1 << 22  # bytes of text that are decoded at once
_ARROW_FILE: Final = b"ARROW1"  # what Arrow's file format begins with, and a stream does not
_BATCH_ROWS: Final = 128
_BUFFER: Final = 1 << 18  # bytes of a Parquet column that are read at once
_MAX_ROW = 1 << 26  # bytes; what has no end by then is broken, and so is so much white space between rows
_SCANNER: Final = json.JSONDecoder(parse_int=str)  # `int` refuses 4,300 digits
_MAX_VALUES: Final = 1 << 22  # commas and brackets of a row, each of which may take a hundred bytes once it is read
_MAX_LINES: Final = 1 << 16  # rows of a chunk
_NO_NUMBERS: Final = {"NaN": None, "Infinity": "inf", "-Infinity": "-inf"}
_NOT_JSON: Final = (b"NaN", b"Infinity")
_BLANK: Final = b" \t\r\n"
_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_SEPARATOR: Final = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*")
_TEXT_SEPARATOR: Final = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_NEXT_OBJECT: Final = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*\{")
_AFTER: Final = re.compile(r"[ \t\r\n]*[,\]]")
_GUESSES: Final = 3  # where an array may be cut, before each element is looked for
_BROKEN: Final = (
    OSError,  # gzip.BadGzipFile is one
    EOFError,
    lzma.LZMAError,
    zlib.error,
    pa.ArrowException,
    orjson.JSONEncodeError,
    ValueError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class RowChunk:
    """Some rows of one file, still encoded."""

    file: str
    """Relative to the folder that the dataset is configured with."""
    first: int
    """Number of the first row, from 1: a line of JSONL, an element of an array, a row of Parquet."""
    n_rows: int
    texts: Sequence[bytes] | bytes
    """The JSON of each row; or of many, as the inside of a JSON array."""
    n_bytes: int
    """How much of the file has been read up to here."""


class NativeRow(NamedTuple):
    """One row as it was published."""

    line: int
    data: dict[str, Any] | None
    """The row, or None where there is a problem."""
    raw: bytes
    """The row as canonical JSON; where there is a problem, its text, undecodable bytes as backslash escapes."""
    problem: str | None
    """Why there is no data."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of the file's bytes, in hex.

    Raises:
        NativeFileError: it cannot be read.
    """
    try:
        return hashes.file_sha256(path)
    except OSError as error:
        raise NativeFileError(path, f"got {error}; expected a readable file; correct its permissions") from error


def table_columns(path: Path) -> list[str]:
    """Return the columns of a CSV or TSV file, which are all text; none of other files.

    Raises:
        NativeFileError: it has no header, or is no UTF-8.
    """
    if path.suffix.lower() not in SEPARATORS:
        return []
    try:
        with path.open("rb") as file:
            _refuse_other_encodings(path, file.read(4))
        with _open_table(path, csv.ConvertOptions()) as table:
            return list(table.schema.names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if not isinstance(error, OSError):
            _refuse_other_bytes(path)
        raise NativeFileError(path, f"got {error}; expected a header and rows; correct the file") from error


def read_chunks(path: Path, *, root: Path | None = None) -> Iterator[RowChunk]:
    """Yield all rows of one file, in order; `root` is the configured path, which the chunks' `file` is relative to.

    Raises:
        NativeFileError: the file cannot be read, or not to its end.
    """
    name = relative_name(path, root or path)
    suffix = path.suffix.lower()
    cut = _cut_columnar if suffix in COLUMNAR else _cut_table if suffix in SEPARATORS else _cut_text
    done = 0
    try:
        for chunk in cut(path, name):
            done = chunk.first + chunk.n_rows - 1
            yield chunk
    except _BROKEN as error:
        damage = " ".join(str(error).split()) or type(error).__name__
        raise NativeFileError(
            path, f"got {damage} after row {done}; expected an undamaged file; fetch it again or repair it"
        ) from error


def decode(chunk: RowChunk) -> list[NativeRow]:
    """Return the chunk's rows; blank lines are none."""
    try:
        if isinstance(chunk.texts, bytes):
            numbered = list(enumerate(orjson.loads(b"[" + chunk.texts + b"]"), start=chunk.first))
        else:
            numbered = [(line, _loads(text)) for line, text in _not_blank(chunk.texts, chunk.first)]
        lines, values = zip(*numbered, strict=True) if numbered else ((), ())
        if {*map(type, values)} <= {dict}:
            raws = [orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for value in values]
            return [*map(NativeRow, lines, values, raws, repeat(None))]
    except (ValueError, RecursionError, orjson.JSONEncodeError):
        pass  # some row has a problem, so each is looked at by itself
    texts = _whole_elements(chunk.texts + b"]")[1] if isinstance(chunk.texts, bytes) else chunk.texts
    return [_decoded(line, text) for line, text in _not_blank(texts, chunk.first)]


def _not_blank(texts: Iterable[bytes], first: int) -> Iterator[tuple[int, bytes]]:
    return ((line, text) for line, text in enumerate(texts, start=first) if text and not text.isspace())


def read_rows(path: Path, *, root: Path | None = None) -> Iterator[NativeRow]:
    """Yield every row of one file, one at a time.

    Raises:
        NativeFileError: the file cannot be read, or not to its end.
    """
    for chunk in read_chunks(path, root=root):
        yield from decode(chunk)


def source_row_id(raw: bytes) -> str:
    """Return 32 hex digits of the SHA-256 of the row's canonical JSON, or of its text where there is a problem.

    The same row has the same id in any file, place, format and order of keys. Two things a format may change are
    part of the row, though: 3 is not 3.0, and a null (Parquet fills absent fields with it) is not an absent key.
    """
    return hashlib.sha256(raw).hexdigest()[:32]


@contextmanager
def _open(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Open a file for its bytes, decompressed, and the file itself."""
    with path.open("rb") as file:
        stream = _decompressed(file, path.suffix.lower())
        yield stream, file


def _decompressed(file: BinaryIO, suffix: str) -> BinaryIO:
    match suffix:
        case ".gz":
            return cast(BinaryIO, gzip.GzipFile(fileobj=file))
        case ".xz":
            return cast(BinaryIO, BufferedReader(_Xz(file), _BUFFER))
        case ".zst":
            return cast(BinaryIO, pa.CompressedInputStream(file, "zstd"))
        case _:
            return file


class _Xz(RawIOBase):
    """The decompressed bytes of an xz file. `lzma.LZMAFile` takes damage after the first stream for the file's end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = lzma.LZMADecompressor()

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        data = b""
        while not data:
            given = b""
            if self._decoder.eof:
                given = self._decoder.unused_data.lstrip(b"\0") or self._file.read(_BUFFER).lstrip(b"\0")
                if not given:
                    return 0
                self._decoder = lzma.LZMADecompressor()
            elif self._decoder.needs_input and not (given := self._file.read(_BUFFER)):
                raise EOFError("the end of a compressed stream that is cut off")
            data = self._decoder.decompress(given, len(into))
        into[: len(data)] = data
        return len(data)


def _cut_text(path: Path, name: str) -> Iterator[RowChunk]:
    """Cut JSON. If the first byte that is no space is a bracket, it is an array, whatever the suffix says."""
    with _open(path) as (stream, file):
        start = stream.read(_CHUNK)
        _refuse_other_encodings(path, start)
        start, line, n_blank = start.removeprefix(codecs.BOM_UTF8), 1, 0
        while not start.strip(_BLANK) and (more := stream.read(_CHUNK)):
            n_blank = _not_too_blank(n_blank + len(start))
            line, start = line + start.count(b"\n"), more
        is_array = start.lstrip(_BLANK).startswith(b"[")
        if not is_array and _breaks_off(start.lstrip(_BLANK).partition(b"\n")[0]):
            while len(start) <= _MAX_ROW and (more := stream.read(_CHUNK)):
                start += more
            if _is_object(start):
                yield RowChunk(name, line, 1, [start], file.tell())
                return
        for first, n_rows, texts in _cut_elements(start, stream) if is_array else _cut_lines(start, stream, line):
            yield RowChunk(name, first, n_rows, texts, file.tell())


def _refuse_other_encodings(path: Path, start: bytes) -> None:
    """Refuse a file that begins as UTF-16 or UTF-32 does, with a byte order mark or with zeros beside a letter."""
    n_zeros = start[:4].count(0)
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)) or n_zeros == 3:
        encoding = "UTF-32"
    elif start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or 0 in start[:2]:
        encoding = "UTF-16"
    else:
        return
    raise NativeFileError(path, f"got {encoding} at line 1, byte 1; expected UTF-8; save the file as UTF-8")


def _refuse_other_bytes(path: Path) -> None:
    """Name the first byte that is no UTF-8, which Arrow does not."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(partial(file.readline, _MAX_ROW), b""), start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                at = error.start
                raise NativeFileError(
                    path,
                    f"got {line[at]:#04x} at line {number}, byte {at + 1}; expected UTF-8; save the file as UTF-8",
                ) from error


def _not_too_blank(n_bytes: int) -> int:
    """Return the number of blank bytes unless it is too large: a small compressed file may hold endless white space."""
    if n_bytes > _MAX_ROW:
        raise ValueError(f"white space of more than {_MAX_ROW} bytes, where there is no row")
    return n_bytes


def _breaks_off(line: bytes) -> bool:
    """Return whether it is the beginning of an object, which may go on in the next line."""
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return line.startswith(b"{") and error.pos >= len(line.rstrip(_BLANK))
    return False


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(_loads(text), dict)
    except ValueError:
        return False


Cut = tuple[int, int, Sequence[bytes] | bytes]
"""First row, number of rows, their texts."""


def _cut_lines(buffer: bytes, stream: BinaryIO, line: int) -> Iterator[Cut]:
    """Cut lines. Blank lines at both ends of a chunk are left out at once: there may be millions."""
    n_blank = 0
    while True:
        more = stream.read(_CHUNK)
        buffer += more
        end = buffer.rfind(b"\n") + 1 if more else len(buffer)
        block, buffer = buffer[:end], buffer[end:]
        blank = len(block) - len(block.lstrip(_BLANK))
        if blank == len(block):
            n_blank = _not_too_blank(n_blank + len(block))
        else:
            first = block.rfind(b"\n", 0, blank) + 1
            last = block.find(b"\n", len(block.rstrip(_BLANK)))
            lines = block[first : last if last >= 0 else None].split(b"\n")
            line_of_first = line + block.count(b"\n", 0, first)
            for start in range(0, len(lines), _MAX_LINES):
                some = lines[start : start + _MAX_LINES]
                yield line_of_first + start, len(some), some
            n_blank = len(block) - last if last >= 0 else 0
        line += block.count(b"\n")
        if len(buffer) > _MAX_ROW:
            raise ValueError(f"a line of more than {_MAX_ROW} bytes")
        if not more:
            return


def _cut_elements(buffer: bytes, stream: BinaryIO) -> Iterator[Cut]:
    """Cut an array between its elements, which are decoded as lines are: only the array itself must be sound.

    Not with ijson: its C backends replace a lone surrogate by "?", silently, its Python backend keeps the whole file.
    """
    buffer, number = buffer.replace(b"[", b"", 1), 0
    while True:
        more = stream.read(min(max(_CHUNK, len(buffer)), max(_CHUNK, _MAX_ROW - len(buffer))))
        buffer += more
        separator = _SEPARATOR.match(buffer) if number else _SPACE.match(buffer)
        n_rows = 0
        if separator:
            elements = buffer[separator.end() :]
            if len(elements) > 2 * _CHUNK:  # of one that is not whole yet
                _refuse_too_many_values(elements)
            n_rows, texts, rest = _whole_objects(elements) or _whole_elements(elements)
        if n_rows:
            if isinstance(texts, bytes):
                yield number + 1, n_rows, texts
            else:
                for start in range(0, n_rows, _MAX_LINES):
                    some = texts[start : start + _MAX_LINES]
                    yield number + 1 + start, len(some), some
            number, buffer = number + n_rows, rest
        elif not more or len(buffer) > _MAX_ROW:
            break
    if more or buffer.strip() != b"]":
        raise ValueError(f"neither a whole JSON value nor the end of the array as element {number + 1}")


def _whole_objects(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    """Return elements up to the last place that looks like one between two objects: number, text, and the rest.

    That they parse as an array proves that the place is no part of a text; where they do not, there is more to do.
    """
    end = len(buffer)
    for _ in range(_GUESSES):
        while (end := buffer.rfind(b"}", 0, end)) >= 0 and not _NEXT_OBJECT.match(buffer, end + 1):
            pass
        if end < 0:
            return None
        text = buffer[: end + 1]
        try:
            elements = orjson.loads(b"[" + text + b"]")
        except orjson.JSONDecodeError:
            continue
        is_plain = len(elements) <= _MAX_LINES and {*map(type, elements)} == {dict}
        return (len(elements), text, buffer[end + 1 :]) if is_plain else None
    return None


def _whole_elements(buffer: bytes) -> tuple[int, Sequence[bytes], bytes]:
    """Return elements one by one, for what is broken, or odd, or the last."""
    text, start, end = buffer.decode(errors="surrogateescape"), 0, 0
    texts: list[bytes] = []
    while found := _value_end(text, start):
        texts.append(text[start:found].encode(errors="surrogateescape"))
        end = found
        separator = _TEXT_SEPARATOR.match(text, end)
        if not separator:
            break
        start = separator.end()
    return len(texts), texts, text[end:].encode(errors="surrogateescape")


def _value_end(text: str, start: int) -> int:
    """Return where the element ends; 0 if it is not whole, be it broken or still to be read."""
    try:
        _, end = _SCANNER.raw_decode(text, start)
    except json.JSONDecodeError:
        return 0
    return end if _AFTER.match(text, end) else 0


def _cut_table(path: Path, name: str) -> Iterator[RowChunk]:
    """Cut CSV or TSV: every column is text as it stands, so that nothing is guessed; an empty cell is null."""
    names = table_columns(path)
    _refuse_repeated(names)
    text = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    done, size = 0, path.stat().st_size
    try:
        with _open_table(path, text) as table:
            for batch in table:
                texts = [orjson.dumps(row) for row in batch.to_pylist()]
                if texts:
                    done += len(texts)
                    yield RowChunk(name, done - len(texts) + 1, len(texts), texts, size)
    except pa.ArrowInvalid:
        _refuse_other_bytes(path)
        raise


def _open_table(path: Path, convert: csv.ConvertOptions) -> csv.CSVStreamingReader:
    return csv.open_csv(
        path,
        csv.ReadOptions(use_threads=False, block_size=_CHUNK),
        csv.ParseOptions(delimiter=SEPARATORS[path.suffix.lower()], newlines_in_values=True),
        convert,
    )


def _cut_columnar(path: Path, name: str) -> Iterator[RowChunk]:
    """Cut Parquet and Arrow."""
    batches = _parquet_batches if path.suffix.lower() == ".parquet" else _arrow_batches
    done, n_bytes = 0, 0
    texts: list[bytes] = []
    for batch, n_bytes in batches(path):
        texts += [orjson.dumps(row, default=_as_json) for row in _rows(batch)]
        if sum(map(len, texts)) >= _CHUNK:
            done += len(texts)
            yield RowChunk(name, done - len(texts) + 1, len(texts), texts, n_bytes)
            texts = []
    if texts:
        yield RowChunk(name, done + 1, len(texts), texts, n_bytes)


Batch = tuple[pa.RecordBatch, int]
"""Rows, and how much of the file has been read with them."""


def _parquet_batches(path: Path) -> Iterator[Batch]:
    size, done = path.stat().st_size, 0
    with pq.ParquetFile(path, buffer_size=_BUFFER, page_checksum_verification=True) as table:
        for batch in table.iter_batches(_BATCH_ROWS):
            done += batch.num_rows
            yield batch, size * done // table.metadata.num_rows


def _arrow_batches(path: Path) -> Iterator[Batch]:
    """Yield the rows of an Arrow file in either format: `datasets` saves streams."""
    with path.open("rb") as file:
        is_stream = file.read(len(_ARROW_FILE)) != _ARROW_FILE
        file.seek(0)
        with pa.ipc.open_stream(file) if is_stream else pa.ipc.open_file(file) as table:
            whole = table if is_stream else map(table.get_batch, range(table.num_record_batches))
            for batch in whole:
                for start in range(0, batch.num_rows, _BATCH_ROWS):
                    yield batch.slice(start, _BATCH_ROWS), file.tell()


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows in which infinite numbers are text, which no column takes for a rating: JSON would make them null."""
    _refuse_repeated(batch.schema.names)
    rows: list[dict[str, Any]] = batch.to_pylist()
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_floating(column.type) and pc.any(pc.is_inf(column)).as_py():
            for row in rows:
                if row[name] is not None and math.isinf(row[name]):
                    row[name] = str(row[name])
    return rows


def _refuse_repeated(columns: Sequence[str]) -> None:
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        raise ValueError(f"column {twice[0]} twice")


def _as_json(value: Any) -> Any:
    """Return a value that JSON has no type for as text; bytes are decoded as UTF-8, or written as hex digits."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"bytes": value.hex()}


def _decoded(line: int, text: bytes) -> NativeRow:
    try:
        data = _loads(text)
        canonical = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
        if isinstance(data, dict):
            return NativeRow(line, data, canonical, None)
        problem = f"got {canonical.decode()[:40]}; expected an object"
    except (ValueError, RecursionError, orjson.JSONEncodeError) as error:
        problem = _problem(text, error)
    return NativeRow(line, None, text.strip(b"\r\n").decode(errors="backslashreplace").encode(), problem)


def _loads(text: bytes) -> Any:
    """Return JSON; with NaN, which Python and pandas write, as Parquet's is read: null, and infinity no number.

    Raises:
        ValueError: it is none.
    """
    _refuse_too_many_values(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if not any(word in text for word in _NOT_JSON):
            raise
    return json.loads(text.decode(), parse_constant=_NO_NUMBERS.get, parse_int=orjson.loads)


def _refuse_too_many_values(text: bytes) -> None:
    """Refuse a row of too many values: each takes far more memory than in the file, as text and white space do not."""
    if len(text) > _MAX_VALUES and sum(map(text.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise ValueError(f"a row of more than {_MAX_VALUES} values")


def _problem(text: bytes, error: Exception) -> str:
    """Return what is wrong with a row, and at which of its bytes, from 1."""
    try:
        decoded = text.decode()
    except UnicodeDecodeError as undecodable:
        at = undecodable.start
        return f"got {text[at]:#04x} at byte {at + 1}; expected UTF-8"
    if isinstance(error, json.JSONDecodeError):
        at = len(decoded[: error.pos].encode())
        what = "an end" if at >= len(text.rstrip()) else error.msg
        return f"got {what} at byte {at + 1}; expected valid JSON"
    return f"got {error}; expected valid JSON"

"""Native files: every format gives the same rows, and damage is named."""

import gzip
import hashlib
import json
import lzma
import os
import re
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armorm.features.errors import NativeFileError
from armorm.features.ingest import native
from armorm.features.ingest.files import SUFFIXES, survey
from armorm.features.ingest.native import NativeRow, file_sha256, read_chunks, read_rows, source_row_id

ROWS: list[dict[str, Any]] = [
    {"prompt": "Why?", "rating": 3, "score": 8.5, "safe": True, "tags": ["a", "b"], "nested": {"x": None, "y": "é😀"}},
    {
        "prompt": "Line\u2028break\n",
        "rating": 0,
        "score": 1.0,
        "safe": False,
        "tags": [],
        "nested": {"x": None, "y": ""},
    },
]


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_array(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows, indent=2, ensure_ascii=False).encode()


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, write_page_checksum=True)
    return path


def write(path: Path, content: bytes) -> Path:
    path.write_bytes({".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)(content))
    return path


def read(path: Path) -> list[NativeRow]:
    return list(read_rows(path))


FORMATS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "rows.jsonl": as_jsonl,
    "rows.jsonl.gz": as_jsonl,
    "rows.json": as_array,
    "rows.json.gz": as_array,
    "rows.jsonl.xz": as_jsonl,
    "rows.json.xz": as_array,
    "lines.json": as_jsonl,
    "array.jsonl": as_array,
}


# Formats


@pytest.mark.parametrize("name", [*FORMATS, "rows.parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".parquet"):
        write_parquet(path, ROWS)
    else:
        write(path, FORMATS[name](ROWS))
    rows = read(path)
    assert [row.data for row in rows] == ROWS
    assert [(row.line, row.problem) for row in rows] == [(1, None), (2, None)]
    assert [json.loads(row.raw) for row in rows] == ROWS
    assert [source_row_id(row.raw) for row in rows] == [
        source_row_id(row.raw) for row in read(write(tmp_path / "a.jsonl", as_jsonl(ROWS)))
    ]


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_byte_order_mark_and_leading_space_are_no_part_of_the_first_row(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, b"\xef\xbb\xbf \r\n" + FORMATS[name](ROWS))
    assert [row.data for row in read(path)] == ROWS


def test_blank_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'{"a": 1}\r\n\n  \n{"a": 2}')
    assert [(row.line, row.data) for row in read(path)] == [(1, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str) -> None:
    assert read(write(tmp_path / name, b"")) == []
    assert read(write(tmp_path / name, b"[]")) == []


def test_files_are_named_relative_to_the_configured_path(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "train"
    folder.mkdir(parents=True)
    path = write(folder / "a.jsonl", b'{"a": 1}')
    assert [next(read_chunks(path, root=root)).file for root in (tmp_path, folder, path)] == [
        "data/train/a.jsonl",
        "a.jsonl",
        "a.jsonl",
    ]


@pytest.mark.parametrize("name", ["big.jsonl", "big.json", "big.jsonl.gz"])
def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(native, "_CHUNK", 1 << 16)
    rows = [{"text": f"{i}" * 2000} for i in range(4000)]
    path = write(tmp_path / name, FORMATS[name.replace("big", "rows")](rows))
    del rows
    tracemalloc.start()
    assert sum(1 for _ in read_rows(path)) == 4000
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 3_000_000  # of about 30 MB


def test_rows_come_before_the_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", as_jsonl(ROWS) * 1000 + b"broken")
    assert len(list(islice(read_rows(path), 3))) == 3


# Rows with a problem


@pytest.mark.parametrize(
    ("line", "raw"),
    [
        (b'{"a": 1', '{"a": 1'),
        (b'{"a": "\xff"}', '{"a": "\\xff"}'),
        (b'{"a": "\xed\xa0\x80"}', '{"a": "\\xed\\xa0\\x80"}'),
        (rb'{"a": "\ud800"}', r'{"a": "\ud800"}'),
        (b"[1, 2]", "[1, 2]"),
        (b"null", "null"),
        (b'"text"', '"text"'),
        (b'{"a": ' * 400 + b"1" + b"}" * 400, '{"a": ' * 400 + "1" + "}" * 400),
        (b"\x00", "\x00"),
    ],
)
def test_a_malformed_line_is_a_row_with_a_problem(tmp_path: Path, line: bytes, raw: str) -> None:
    path = write(tmp_path / "a.jsonl", b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    first, broken, last = read(path)
    assert (first.data, last.data) == ({"a": 1}, {"a": 3})
    assert (broken.line, broken.data, broken.raw.decode()) == (2, None, raw)
    assert broken.problem
    assert "; expected " in broken.problem
    assert len(source_row_id(broken.raw)) == 32


@pytest.mark.parametrize(
    ("element", "raw"),
    [
        (b"7", "7"),
        (b'["a"]', '["a"]'),
        (b'{"a": "\xff"}', '{"a": "\\xff"}'),
        (b'{"a": "\xed\xa0\x80"}', '{"a": "\\xed\\xa0\\x80"}'),
        (rb'{"a": "\ud800"}', r'{"a": "\ud800"}'),
        (b'{"a": ' * 400 + b"1" + b"}" * 400, '{"a": ' * 400 + "1" + "}" * 400),
    ],
)
def test_an_unusable_element_is_a_row_with_a_problem(tmp_path: Path, element: bytes, raw: str) -> None:
    first, broken, last = read(write(tmp_path / "a.json", b'[{"a": 1}, ' + element + b' ,\n{"a": 3}]'))
    assert (first.data, last.data) == ({"a": 1}, {"a": 3})
    assert (broken.line, broken.data, broken.raw.decode()) == (2, None, raw)
    assert broken.problem
    _, line = read(write(tmp_path / "a.jsonl", b"{}\n" + element + b"\n"))
    assert source_row_id(line.raw) == source_row_id(broken.raw)


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_elements_are_whole_wherever_the_chunks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = write(tmp_path / name, as_array([*ROWS, {"n": -12.5e3}]).replace(b'"n"', b'"]}, \\" {"') + b" \n")
    expected = read(path)
    assert len(expected) == 3
    for chunk in range(1, 40):
        monkeypatch.setattr(native, "_CHUNK", chunk)
        assert read(path) == expected


def test_a_bare_number_is_not_cut_by_the_end_of_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.json", b"[12.5e3, 1234, true]")
    for chunk in range(1, 20):
        monkeypatch.setattr(native, "_CHUNK", chunk)
        assert [row.raw for row in read(path)] == [b"12.5e3", b"1234", b"true"]


def test_an_element_without_end_is_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_CHUNK", 100)
    monkeypatch.setattr(native, "_MAX_ROW", 1000)
    path = write(tmp_path / "a.json", b'[{"a": 1}, {"a": "' + b"x" * 100_000 + b'"}]')
    with pytest.raises(NativeFileError, match=r"\belement 2\b.*\brow 1\b"):
        read(path)


def test_odd_types_of_parquet_become_json_values(tmp_path: Path) -> None:
    row = {"at": datetime(2024, 1, 2), "bytes": b"\xff", "price": Decimal("1.5"), "nan": float("nan")}
    (found,) = read(write_parquet(tmp_path / "a.parquet", [row]))
    assert found.data == {"at": "2024-01-02T00:00:00", "bytes": {"bytes": "ff"}, "price": "1.5", "nan": None}
    assert json.loads(found.raw) == found.data


def test_text_without_an_encoding_is_utf8(tmp_path: Path) -> None:
    (found,) = read(write_parquet(tmp_path / "a.parquet", [{"text": "é".encode(), "turns": [{"content": b"x"}]}]))
    assert found.data == {"text": "é", "turns": [{"content": "x"}]}


def test_infinity_in_parquet_is_no_null(tmp_path: Path) -> None:
    rows = read(write_parquet(tmp_path / "a.parquet", [{"x": 1.5}, {"x": float("-inf")}]))
    assert [row.data for row in rows] == [{"x": 1.5}, {"x": "-inf"}]


def test_repeated_text_in_parquet_is_cut_by_what_it_takes_in_memory(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{"text": "x" * 100_000}] * 1000)
    assert max(sum(map(len, chunk.texts)) for chunk in read_chunks(path) if not isinstance(chunk.texts, bytes)) < 2e7


@pytest.mark.parametrize("padding", [b"", b"\0" * 8])
def test_several_compressed_streams_are_one_file(tmp_path: Path, padding: bytes) -> None:
    for name, compress in (("a.jsonl.gz", gzip.compress), ("a.jsonl.xz", lzma.compress)):
        first, second = compress(b'{"a": 1}\n'), compress(b'{"a": 2}\n')
        path = tmp_path / name
        path.write_bytes(first + padding + second)
        assert [row.data for row in read(path)] == [{"a": 1}, {"a": 2}]
        path.write_bytes(first + padding + bytes([second[0] ^ 1]) + second[1:])
        with pytest.raises(NativeFileError, match=r"\brow \d"):
            read(path)


def test_blanks_are_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_CHUNK", 100)
    monkeypatch.setattr(native, "_MAX_ROW", 1000)
    for blanks in (b" " * 100_000, b"\n" * 100_000, b"{}" + b"\r\n" * 100_000, b"[" + b"\n" * 100_000):
        with pytest.raises(NativeFileError):
            read(write(tmp_path / "a.jsonl", blanks + b"{}"))


# Files that cannot be read any further


def damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 40]) + content[middle + 40 :]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz", "a.jsonl.xz"])
@pytest.mark.parametrize("damage", [damaged, lambda content: content[:-20], lambda content: b"not compressed"])
def test_a_damaged_archive_is_an_error(tmp_path: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    rows = [{"text": hashlib.sha256(bytes([i % 256])).hexdigest() * 20} for i in range(300)]
    path = write(tmp_path / name, FORMATS[name.replace("a.", "rows.")](rows))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(NativeFileError, match=r"\brow \d+;") as e:
        read(path)
    assert e.value.path == path


@pytest.mark.parametrize(
    "array",
    [
        b'[{"a": 1}, {"a": 2},',
        b'[{"a": 1}, {"a": 2}, }',
        b'[{"a": 1}, {"a": 2}] x',
        b'[{"a": 1}, {"a": 2}, {"a": 01}]',
        b'[{"a": 1}, {"a": 2}, {"a": 3} {"a": 4}]',
        b'[{"a": 1}, {"a": 2},]',
    ],
)
def test_a_broken_array_is_an_error_that_names_the_last_good_element(tmp_path: Path, array: bytes) -> None:
    path = write(tmp_path / "a.json", array)
    rows = read_rows(path)
    with pytest.raises(NativeFileError, match=r"\ba\.json: .*\brow 2;"):
        list(rows)


@pytest.mark.parametrize("damage", [damaged, lambda content: content[:-20], lambda content: b""])
def test_a_broken_parquet_file_is_an_error(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{"text": hashlib.sha256(bytes([i])).hexdigest()} for i in range(200)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(NativeFileError, match=r"\ba\.parquet: .*\brow 0;"):
        read(path)


@given(content=st.binary(max_size=60), name=st.sampled_from(["a.jsonl", "a.json", "a.json.gz", "a.parquet"]))
def test_any_bytes_give_rows_or_a_file_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    with suppress(NativeFileError):
        for row in read_rows(path):
            assert (row.data is None) == (row.problem is not None)
            assert row.raw.decode()


# Ids


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(row=st.dictionaries(st.text(max_size=4), values, max_size=4), data=st.data())
def test_ids_do_not_depend_on_format_or_order(
    tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any], data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    shuffled = dict(data.draw(st.permutations(list(row.items()))))
    line, element = folder / "line.jsonl", folder / "element.json"
    line.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    element.write_text(json.dumps([{"other": 1}, shuffled]), encoding="utf-8")
    of_line, of_element = read(line)[0], read(element)[1]
    assert source_row_id(of_line.raw) == source_row_id(of_element.raw)
    assert of_line.data == of_element.data == row
    assert source_row_id(of_line.raw) == hashlib.sha256(of_line.raw).hexdigest()[:32]


def test_ids_tell_contents_apart(tmp_path: Path) -> None:
    lines = [b'{"a": 1}', b'{"a": 1.0}', b'{"a": "1"}', b'{"a": true}', b'{"a": 1, "b": null}', b"{a: 1}", b"{}"]
    ids = [source_row_id(row.raw) for row in read(write(tmp_path / "a.jsonl", b"\n".join(lines)))]
    assert len(set(ids)) == len(lines)
    assert all(len(id) == 32 and int(id, 16) >= 0 for id in ids)


# Finding and hashing files


def test_a_folder_gives_its_data_files_sorted(tmp_path: Path) -> None:
    for name in [
        "b/train.jsonl.gz",
        "a/TEST.JSON",
        "c.parquet",
        "README.md",
        ".cache/x.json",
        "a/.hidden.jsonl",
        "x.jsonl.zip",
    ]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.json").mkdir()
    assert [str(file.relative_to(tmp_path)) for file in survey(tmp_path).read] == [
        "a/TEST.JSON",
        "b/train.jsonl.gz",
        "c.parquet",
    ]
    assert survey(tmp_path / "c.parquet").read == (tmp_path / "c.parquet",)
    assert survey(tmp_path).left == {
        ".cache/x.json": "hidden",
        "README.md": "of another format",
        "a/.hidden.jsonl": "hidden",
        "x.jsonl.zip": "of another format",
    }


def test_a_table_beside_other_files_is_named_and_read_when_it_is_asked_for(tmp_path: Path) -> None:
    for name in ("rows.jsonl", "about.csv"):
        (tmp_path / name).touch()
    found = survey(tmp_path)
    assert ([file.name for file in found.read], [*found.left]) == (["rows.jsonl"], ["about.csv"])
    found = survey(tmp_path, ["*.csv"])
    assert ([file.name for file in found.read], [*found.left]) == (["about.csv"], ["rows.jsonl"])


def write_arrow(path: Path, rows: list[dict[str, Any]], *, stream: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=200)


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_gives_rows_as_parquet_does(tmp_path: Path, stream: bool) -> None:
    rows = [{"n": n, "turns": [{"role": "user", "content": f"{n}?"}], "score": n / 3} for n in range(500)]
    rows[7]["score"], rows[8]["score"] = float("inf"), float("nan")
    write_arrow(tmp_path / "a.arrow", rows, stream=stream)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert read(tmp_path / "a.arrow") == read(tmp_path / "a.parquet")
    assert len(read(tmp_path / "a.arrow")) == 500


def test_a_damaged_arrow_file_is_a_named_error(tmp_path: Path) -> None:
    write_arrow(tmp_path / "a.arrow", [{"n": n} for n in range(500)])
    content = (tmp_path / "a.arrow").read_bytes()
    write(tmp_path / "a.arrow", content[: len(content) // 2])
    with pytest.raises(NativeFileError):
        read(tmp_path / "a.arrow")


def test_a_folder_that_datasets_saved_is_its_rows_alone(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_arrow(tmp_path / split / "data-00000-of-00001.arrow", [{"split": split}])
        write(tmp_path / split / "dataset_info.json", b'{"features": {}}')
        write(tmp_path / split / "state.json", b'{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    write(tmp_path / "dataset_dict.json", b'{"splits": ["train", "test"]}')
    write_arrow(tmp_path / "train" / "data-00001-of-00002.arrow", [{"split": "left over"}])
    found = survey(tmp_path)
    assert [row.data for file in found.read for row in read(file)] == [{"split": "test"}, {"split": "train"}]
    assert {*found.left} == {
        "dataset_dict.json",
        "train/data-00001-of-00002.arrow",
        *(f"{split}/{name}" for split in ("train", "test") for name in ("dataset_info.json", "state.json")),
    }


def test_a_state_that_is_no_note_of_datasets_is_data(tmp_path: Path) -> None:
    write(tmp_path / "state.json", b'{"capital": "Quito"}')
    assert [file.name for file in survey(tmp_path).read] == ["state.json"]


@pytest.mark.parametrize("name", ["twice.parquet", "twice.arrow"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    table = pa.table([pa.array(["a"]), pa.array(["b"])], names=["n", "n"])
    if name == "twice.parquet":
        pq.write_table(table, tmp_path / name)
    else:
        with pa.ipc.new_stream(tmp_path / name, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(NativeFileError, match="column n twice"):
        read(tmp_path / name)


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    for name in ("data/a.jsonl", "other/b.jsonl"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "data/link").symlink_to(tmp_path / "other")
    (tmp_path / "other/back").symlink_to(tmp_path / "data")
    assert [file.name for file in survey(tmp_path / "data").read] == ["a.jsonl", "b.jsonl"]


def test_a_name_that_is_no_text_is_shown_with_escapes(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.jsonl")
    try:
        path = write(tmp_path / name, b'{"a": 1}')
    except OSError:
        pytest.skip("this file system takes no such name")
    assert next(read_chunks(path)).file == "\\xff.jsonl"


def test_a_link_to_nowhere_is_an_error_and_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "gone")
    (path,) = survey(tmp_path).read
    for of in (file_sha256, read):
        with pytest.raises(NativeFileError) as caught:
            of(path)
        assert caught.value.path == path
        assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_paths_without_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    allowed = re.escape(", ".join(SUFFIXES))
    for name, facts in (("", allowed), ("notes.txt", allowed), ("gone", rf"^(?!.*{allowed})")):
        with pytest.raises(NativeFileError, match=facts) as caught:
            survey(tmp_path / name)
        assert caught.value.path == tmp_path / name


def test_the_checksum_is_of_the_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b"abc")
    assert file_sha256(path) == hashlib.sha256(b"abc").hexdigest()

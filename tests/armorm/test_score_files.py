"""Files of conversations as people have them: what `armorm score` reads of each kind, and by which facts it refuses.

What own data can hold, too, has the same ids when it is ingested.
"""

import gzip
import json
import lzma
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from armorm import RewardModel
from armorm.features.conversation import Conversation, SplitFractions, conversation_id
from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.errors import MalformedRows, NativeFileError
from armorm.features.ingest import native
from armorm.features.ingest.dataset import DatasetFiles
from armorm.features.ingest.files import SUFFIXES
from armorm.features.ingest.preview import Preview, preview
from armorm.features.ingest.requests import LISTED, count_requests, read_requests
from armorm.features.sources.described import form_of
from armorm.features.sources.own import source_of
from armorm.scoring.files import score_file
from tests.armorm.exported import Exported, export

Row = dict[str, Any]
Read = list[tuple[int, str, Conversation]]
"""Line, side and conversation of each request."""

U, A, B, S = (
    ("user", "What do moths eat?"),
    ("assistant", "Some eat wool."),
    ("assistant", "Lamps."),
    ("system", "Rhyme."),
)
QUESTION, GOOD, BAD, RULE = U[1], A[1], B[1], S[1]


def turns(*messages: tuple[str, str]) -> list[Row]:
    return [{"role": role, "content": content} for role, content in messages]


ASKED, MESSAGES, OTHER, RULED = turns(U), turns(U, A), turns(U, B), turns(S, U, A)
TEXTS: Row = {"prompt": QUESTION, "response": GOOD}
PAIR: Row = {"prompt": QUESTION, "chosen": GOOD, "rejected": BAD}
ONE: Read = [(1, "conversation", (U, A))]
BOTH: Read = [(1, "chosen", (U, A)), (1, "rejected", (U, B))]


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def file_of(folder: Path, *rows: Any) -> Path:
    file = folder / "in.jsonl"
    file.write_bytes(lines(*rows))
    return file


def requests(file: Path) -> Read:
    """What the command reads: it counts first, then scores what it reads again."""
    read = [(request.line, request.side, request.messages) for request in read_requests(file)]
    assert count_requests(file) == len(read)
    return read


def refused(file: Path) -> tuple[str, ...]:
    """What is said of each bad line; all of them name the file, and the last one says that nothing was scored."""
    with pytest.raises(MalformedRows) as caught:
        count_requests(file)
    assert caught.value.path == file
    assert all(str(file) in row for row in caught.value.rows)
    assert "nothing was scored" in caught.value.rows[-1]
    return caught.value.rows


def has(said: str, *facts: str) -> None:
    """Each fact stands there as a word of its own."""
    for fact in facts:
        assert re.search(rf"(?<!\w){re.escape(fact)}(?!\w)", said), f"{fact!r} is not in {said!r}"


# Files: the same conversations in every one


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


MIXED = [{"messages": MESSAGES}, TEXTS, PAIR, {"chosen": MESSAGES, "rejected": OTHER}]
ALL: Read = [
    (1, "conversation", (U, A)),
    (2, "conversation", (U, A)),
    *[(line, side, (U, answer)) for line in (3, 4) for side, answer in (("chosen", A), ("rejected", B))],
]
FILES: dict[str, Callable[[list[Row]], bytes]] = {
    "lines.jsonl": lambda rows: lines(*rows),
    "no_end_of_line.jsonl": lambda rows: lines(*rows).rstrip(b"\n"),
    "bom_crlf.jsonl": lambda rows: b"\xef\xbb\xbf" + lines(*rows).replace(b"\n", b"\r\n"),
    "array.json": lambda rows: json.dumps(rows, indent=2).encode(),
    "array_on_a_line.jsonl": lambda rows: json.dumps(rows).encode(),
    "packed.jsonl.gz": lambda rows: gzip.compress(lines(*rows)),
    "packed.jsonl.xz": lambda rows: lzma.compress(lines(*rows)),
    "packed.jsonl.zst": lambda rows: zstd(lines(*rows)),
    "lines.ndjson": lambda rows: lines(*rows),
    "packed.ndjson.zst": lambda rows: zstd(lines(*rows)),
    "packed.json.zst": lambda rows: zstd(json.dumps(rows).encode()),
    "LOUD.JSONL": lambda rows: lines(*rows),
}


@pytest.mark.parametrize("name", FILES)
def test_every_file_gives_the_same_conversations(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(FILES[name](MIXED))
    assert requests(file) == ALL


def test_lines_are_counted_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_CHUNK", 300)
    monkeypatch.setattr(native, "_MAX_LINES", 3)
    file = file_of(tmp_path, *[{"prompt": f"{n}?", "response": GOOD} for n in range(200)])
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    assert [(line, messages[0][1]) for line, _, messages in requests(file)] == [(n + 1, f"{n}?") for n in range(200)]


def test_a_nul_in_a_text_is_text(tmp_path: Path) -> None:
    file = file_of(tmp_path, {"prompt": "Wool\0?", "response": GOOD})
    assert requests(file) == [(1, "conversation", (("user", "Wool\0?"), A))]


@pytest.mark.parametrize("name", ["one.json", "one.jsonl"])
def test_one_object_over_many_lines_is_one_row(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps({"messages": MESSAGES}, indent=4))
    assert requests(tmp_path / name) == ONE


@pytest.mark.parametrize(("name", "between"), [("t.csv", ","), ("t.tsv", "\t")])
def test_tables_are_text_and_say_so(tmp_path: Path, name: str, between: str) -> None:
    rows = [("prompt", "response", "year"), (f'"{QUESTION}"', GOOD, "1987"), (QUESTION, f'"{GOOD}\nSome do not."', "")]
    (tmp_path / name).write_text("".join(between.join(row) + "\n" for row in rows))
    longer = ("assistant", f"{GOOD}\nSome do not.")
    assert requests(tmp_path / name) == [*ONE, (2, "conversation", (U, longer))]
    notes: list[str] = []
    count_requests(tmp_path / name, on_note=notes.append)
    (note,) = notes
    has(note, name, "text", "prompt", "response", "year")


def test_a_folder_is_all_its_files(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl"):
        (tmp_path / name).write_bytes(lines(TEXTS | {"prompt": f"{name}?"}))
    assert [messages[0][1] for _, _, messages in requests(tmp_path)] == ["a.jsonl?", "b.jsonl?"]


# Rows: which columns make a conversation

ROWS: dict[str, tuple[Row, Read]] = {
    "messages": ({"messages": MESSAGES}, ONE),
    "texts": (TEXTS, ONE),
    "text pair": (PAIR, BOTH),
    "pair of messages": ({"chosen": MESSAGES, "rejected": OTHER}, BOTH),
    "trl text": ({"prompt": QUESTION, "completion": GOOD}, ONE),
    "trl messages": ({"prompt": ASKED, "completion": turns(A)}, ONE),
    "trl pair": ({"prompt": ASKED, "chosen": turns(A), "rejected": turns(B)}, BOTH),
    "trl label": ({"prompt": QUESTION, "completion": GOOD, "label": True}, ONE),
    "prompt of a system turn": (
        {"prompt": turns(S), "chosen": MESSAGES, "rejected": OTHER},
        [(1, side, (S, *messages)) for _, side, messages in BOTH],
    ),
    "prompt that the answer begins with": ({"prompt": ASKED, "chosen": MESSAGES, "rejected": OTHER}, BOTH),
    "text that the answer begins with": ({"prompt": QUESTION, "response": MESSAGES}, ONE),
    "system text": ({"system": RULE, **TEXTS}, [(1, "conversation", (S, U, A))]),
    "system text beside messages": ({"system": RULE, "messages": MESSAGES}, [(1, "conversation", (S, U, A))]),
    "system text once": ({"system": RULE, "messages": RULED}, [(1, "conversation", (S, U, A))]),
    "empty system text": ({"system": "", **TEXTS}, ONE),
    "system turn": ({"messages": RULED}, [(1, "conversation", (S, U, A))]),
    "empty system turn": ({"messages": turns(("system", ""), U, A)}, ONE),
    "developer turn": (
        {"messages": turns(("developer", RULE), U, A)},
        [(1, "conversation", (("developer", RULE), U, A))],
    ),
    "null columns": ({"prompt": None, "response": None, "chosen": None, "messages": MESSAGES}, ONE),
    "NaN columns": ({"messages": MESSAGES, "prompt": float("nan"), "stars": float("nan")}, ONE),
    "other columns": ({**PAIR, "id": 7, "chosen_model": "m", "rejected_model": "n", "subset": "insects"}, BOTH),
    "tools column": ({"messages": MESSAGES, "tools": [{"type": "function"}]}, ONE),
    "ShareGPT": (
        {"id": "q1", "conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": GOOD}]},
        ONE,
    ),
    "ShareGPT with a system text": (
        {"system": RULE, "conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": GOOD}]},
        [(1, "conversation", (S, U, A))],
    ),
    "conversations with roles": ({"conversations": MESSAGES}, ONE),
    "human and gpt": ({"messages": turns(("human", QUESTION), ("gpt", GOOD))}, ONE),
    "parts": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "What do "}, {"type": "text", "text": "moths eat?"}],
                },
                {"role": "assistant", "content": [{"type": "text", "text": GOOD}]},
            ]
        },
        ONE,
    ),
    "JSON": ({"messages": json.dumps(MESSAGES)}, ONE),
    "JSON of a pair": (
        {"prompt": QUESTION, "chosen": json.dumps(MESSAGES), "rejected": json.dumps(OTHER, indent=1)},
        BOTH,
    ),
    "JSON of a prompt": ({"prompt": json.dumps(ASKED), "response": GOOD}, ONE),
    "JSON that is no messages": (
        {"prompt": "[1, 2]", "response": '[{"role": 3}]'},
        [(1, "conversation", (("user", "[1, 2]"), ("assistant", '[{"role": 3}]')))],
    ),
    "an object of lists": (
        {"messages": {"role": ["user", "assistant"], "content": [QUESTION, GOOD]}},
        ONE,
    ),
    "an object of ShareGPT's lists": (
        {"conversations": {"from": ["human", "gpt"], "value": [QUESTION, GOOD]}},
        ONE,
    ),
    "names and calls of null": (
        {"messages": [ASKED[0] | {"name": None}, turns(A)[0] | {"tool_calls": None, "function_call": None}]},
        ONE,
    ),
}


@pytest.mark.parametrize(("row", "expected"), ROWS.values(), ids=ROWS)
def test_a_row_is_read_by_what_it_has(tmp_path: Path, row: Row, expected: Read) -> None:
    assert requests(file_of(tmp_path, row)) == expected


def test_rows_of_own_data_are_read_as_the_configuration_describes_them(tmp_path: Path) -> None:
    judged = form_of("verdict", {"prompt": "q", "answers": ["m1", "m2"], "verdict": "best", "system": "rules"})
    rated = form_of("ratings", {"prompt": "q", "response": "a", "objectives": {"stars": {"lo": 1, "hi": 5}}})
    file = file_of(tmp_path, {"q": QUESTION, "m1": BAD, "m2": GOOD, "rules": RULE}, {"q": QUESTION, "a": GOOD}, TEXTS)
    assert [(of.line, of.side, of.messages) for of in read_requests(file, (judged, rated))] == [
        (1, "m1", (S, U, B)),
        (1, "m2", (S, U, A)),
        (2, "conversation", (U, A)),
        (3, "conversation", (U, A)),
    ]
    assert count_requests(file, (judged, rated)) == 4
    with pytest.raises(MalformedRows):
        count_requests(file)


@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet"])
def test_columns_that_pandas_fills_with_nulls_are_absent(tmp_path: Path, name: str) -> None:
    columns = dict.fromkeys(("messages", "prompt", "response", "chosen", "rejected"))
    rows = [columns | row for row in ({"messages": RULED}, TEXTS, PAIR)]
    file = tmp_path / name
    if file.suffix == ".parquet":
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(file)
    else:
        file.write_bytes(lines(*rows))
    assert requests(file) == [
        (1, "conversation", (S, U, A)),
        (2, "conversation", (U, A)),
        (3, "chosen", (U, A)),
        (3, "rejected", (U, B)),
    ]


def test_structs_of_parquet_are_messages_whatever_fields_of_others_they_carry(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"messages": [*ASKED, {"role": "assistant", "content": GOOD, "tool_calls": None}]},
        {"messages": [{"role": None, "content": None, "from": "human", "value": QUESTION}, *turns(A)]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    assert [messages for _, _, messages in requests(tmp_path / "in.parquet")] == [(U, A), (U, A)]


@pytest.mark.parametrize(
    ("row", "used", "unused"),
    [
        (PAIR | {"messages": MESSAGES}, ("chosen", "rejected"), ("messages",)),
        ({"chosen": MESSAGES, "rejected": OTHER, "messages": MESSAGES}, ("chosen", "rejected"), ("messages",)),
        (
            {"prompt": "moths", "chosen": MESSAGES, "rejected": OTHER, "messages": MESSAGES},
            ("chosen", "rejected"),
            ("messages", "prompt"),
        ),
        (TEXTS | {"messages": MESSAGES}, ("messages",), ("prompt", "response")),
    ],
    ids=str,
)
def test_what_wins_over_other_columns_is_said_once(
    tmp_path: Path, row: Row, used: Sequence[str], unused: Sequence[str]
) -> None:
    file, notes = file_of(tmp_path, row, row, row), list[str]()
    count_requests(file, on_note=notes.append)
    (note,) = notes
    before, after = note.split(";")
    has(before, *used)
    has(after, *unused)
    assert [(side, messages) for line, side, messages in requests(file) if line == 3] == [
        (side, messages) for _, side, messages in (BOTH if "chosen" in used else ONE)
    ]


# What is refused, by which facts

CALL = [{"type": "function", "function": {"name": "moth", "arguments": "{}"}}]
IMAGE = {"type": "image_url", "image_url": {"url": "moth.png"}}
REFUSED: dict[str, tuple[Any, Sequence[str]]] = {
    "two answers without a verdict": (
        {"prompt": QUESTION, "response_1": GOOD, "response_2": BAD},
        ("unknown_form", "chosen", "rejected", "response_1", "response_2"),
    ),
    "half a pair": ({"prompt": QUESTION, "chosen": GOOD}, ("unknown_form", "rejected is missing")),
    "a prompt alone": ({"prompt": QUESTION, "response": None}, ("unknown_form", "response is missing", "null")),
    "nulls alone": ({"messages": None, "prompt": None}, ("unknown_form", "messages", "prompt", "null")),
    "a wrapped list": ({"insects": [{"messages": MESSAGES}]}, ("unknown_form", "insects")),
    "rows as conversations": ({"conversations": [{"messages": MESSAGES}]}, ("not_messages", "conversations", "turn 1")),
    "two user turns": (
        {"messages": turns(U, U, A)},
        ("roles_out_of_order", "messages", "turn 2", "got user", "expected assistant"),
    ),
    "an answer first": (
        {"messages": turns(A, U, A)},
        ("roles_out_of_order", "turn 1", "got assistant", "expected user"),
    ),
    "a question last": (
        {"messages": turns(U, A, U)},
        ("roles_out_of_order", "turn 3", "got user", "expected assistant"),
    ),
    "a tool": (
        {"messages": [*ASKED, {"role": "assistant", "content": None, "tool_calls": CALL}, *turns(("tool", "7"), A)]},
        ("roles_out_of_order", "turn 3", "got tool", "expected user"),
    ),
    "a call": (
        {"messages": [*ASKED, {"role": "assistant", "content": GOOD, "tool_calls": CALL}]},
        ("not_messages", "turn 2", "assistant", "tool_calls"),
    ),
    "another prompt than the answer's": (
        {"prompt": "Sing.", "response": MESSAGES},
        ("roles_out_of_order", "prompt", "response", "turn 2", "got user", "expected assistant"),
    ),
    "two system texts": (
        {"system": "Shout.", "messages": RULED},
        ("roles_out_of_order", "system", "messages", "turn 2", "got system", "expected user"),
    ),
    "sides with other prompts": (
        {"chosen": MESSAGES, "rejected": turns(("user", "And bees?"), B)},
        ("context_differs", "chosen", "rejected"),
    ),
    "an empty answer": ({"messages": turns(U, ("assistant", ""))}, ("empty_turn", "turn 2", "assistant")),
    "an empty side": (PAIR | {"rejected": " "}, ("empty_turn", "rejected", "turn 2", "assistant")),
    "no turns": ({"messages": []}, ("roles_out_of_order", "messages", "no turns")),
    "an image": (
        {"messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": QUESTION}]}, *turns(A)]},
        ("not_messages", "turn 1", "user", "image_url"),
    ),
    "messages as a text": ({"messages": GOOD}, ("no_prompt", "messages")),
    "messages as Python prints them": ({"messages": str(MESSAGES)}, ("not_messages", "messages", "JSON")),
    "no object": ([TEXTS], ("malformed_row",)),
    "half a surrogate": (
        b'{"prompt": "M\xc3\xb8l \\ud83e", "response": "Yes."}',
        ("malformed_row", "surrogate", "byte 18", "JSON"),
    ),
    "Latin-1": (
        '{"prompt": "Mottes à la laine?", "response": "Oui."}'.encode("latin-1"),
        ("malformed_row", "0xe0", "byte 20", "UTF-8"),
    ),
    "an end in the middle": (b'{"messages": [{"role": "us', ("malformed_row", "byte 27", "JSON")),
    "two objects on a line": (lines(TEXTS).strip() * 2, ("malformed_row", f"byte {len(lines(TEXTS))}", "JSON")),
}


@pytest.mark.parametrize(("row", "facts"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_named_by_line_and_place(tmp_path: Path, row: Any, facts: Sequence[str]) -> None:
    file = tmp_path / "in.jsonl"
    file.write_bytes(lines(TEXTS, PAIR) + (row if isinstance(row, bytes) else lines(row)))
    (said,) = refused(file)
    has(said, "line 3", *facts)


def test_a_row_of_nulls_in_parquet_is_refused_by_its_number(tmp_path: Path) -> None:
    pl.DataFrame({"messages": [MESSAGES, None, MESSAGES, None]}).write_parquet(tmp_path / "in.parquet")
    second, fourth = refused(tmp_path / "in.parquet")
    has(second, "line 2", "messages", "null")
    has(fourth, "line 4", "messages", "null")


def test_bad_lines_are_listed_up_to_ten(tmp_path: Path) -> None:
    bad = [b"{\n", lines({"text": "?"}), lines({"messages": ASKED}), b'{"prompt": "\xff"}\n']
    file = tmp_path / "in.jsonl"
    file.write_bytes(b"".join(line for wrong in bad for line in (lines(TEXTS), wrong)))
    for number, said in zip((2, 4, 6, 8), refused(file), strict=True):
        has(said, f"line {number}")
    file.write_bytes(lines(TEXTS) + b"{\n" * 30)
    said_of_all = refused(file)
    assert len(said_of_all) == LISTED == 10
    for number, said in enumerate(said_of_all, start=2):
        has(said, f"line {number}")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_another_encoding_is_called_by_its_name(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "in.jsonl"
    file.write_bytes(lines(TEXTS).decode().encode(encoding))
    (said,) = refused(file)
    has(said, encoding[:6].upper(), "line 1", "byte 1", "UTF-8")


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        ("prompt,response\nWhy?,So.\n".encode("utf-16"), ("UTF-16", "line 1", "byte 1", "UTF-8")),
        ("prompt,response\nWhy?,So.\n".encode("utf-16-le"), ("UTF-16", "line 1", "byte 1", "UTF-8")),
        ("prompt,response\nWhy?,So.\n".encode("utf-32-be"), ("UTF-32", "line 1", "byte 1", "UTF-8")),
        ("prompt,response\nWhy?,So.\nWhy?,Là.\n".encode("latin-1"), ("0xe0", "line 3", "byte 7", "UTF-8")),
        ("prompt,réponse\nWhy?,So.\n".encode("latin-1"), ("0xe9", "line 1", "byte 9", "UTF-8")),
        (b"prompt,response\nWhy?,So.\nWhy?,So.,No.\n", ("Row #3", "2 columns", "got 3")),
        (b"prompt,prompt\nWhy?,So.\n", ("prompt", "twice")),
        (b"", ("header",)),
    ],
    ids=["UTF-16", "UTF-16 unmarked", "UTF-32 unmarked", "Latin-1", "Latin-1 header", "ragged", "twice", "empty"],
)
def test_a_broken_table_is_named_by_its_place(tmp_path: Path, content: bytes, facts: Sequence[str]) -> None:
    file = tmp_path / "in.csv"
    file.write_bytes(content)
    with pytest.raises(NativeFileError) as caught:
        count_requests(file)
    has(str(caught.value), str(file), *facts)


@pytest.mark.parametrize(("name", "content"), [("in.jsonl", b""), ("in.jsonl", b"\n \n"), ("in.json", b"[]")])
def test_nothing_to_score_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NativeFileError, match="no conversations") as caught:
        count_requests(tmp_path / name)
    assert caught.value.path == tmp_path / name


@pytest.mark.parametrize("name", ["in.txt", "in.csv.gz", "in.jsonl.bz2"])
def test_other_files_are_refused_with_the_allowed_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(lines(TEXTS))
    with pytest.raises(NativeFileError) as caught:
        count_requests(tmp_path / name)
    has(str(caught.value), *SUFFIXES)


# The same ids when own data are ingested

RATED = {"objectives": {"warmth": {"column": "stars", "lo": 1, "hi": 5}}}
TEXT_RATED = ("ratings", {"prompt": "prompt", "response": "response", "system": "system", **RATED})
RATED_MESSAGES = ("ratings", {"style": "messages", "response": "messages", **RATED})
PAIRS = ("pairs", {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"})
PAIRED_MESSAGES = ("pairs", {"style": "messages", "chosen": "chosen", "rejected": "rejected"})

OWN: dict[str, tuple[str, Row]] = {
    "messages": RATED_MESSAGES,
    "texts": TEXT_RATED,
    "text pair": ("plain-pairs", {}),
    "pair of messages": ("standard-pairs", {}),
    "trl text": ("ratings", {"prompt": "prompt", "response": "completion", **RATED}),
    "trl messages": ("ratings", {"style": "messages", "prompt": "prompt", "response": "completion", **RATED}),
    "trl pair": ("pairs", PAIRED_MESSAGES[1] | {"prompt": "prompt"}),
    "prompt of a system turn": ("pairs", PAIRED_MESSAGES[1] | {"prompt": "prompt"}),
    "prompt that the answer begins with": ("pairs", PAIRED_MESSAGES[1] | {"prompt": "prompt"}),
    "text that the answer begins with": (
        "ratings",
        {"style": "messages", "prompt": "prompt", "response": "response"} | RATED,
    ),
    "system text": TEXT_RATED,
    "system text beside messages": ("ratings", RATED_MESSAGES[1] | {"system": "system"}),
    "system text once": ("ratings", RATED_MESSAGES[1] | {"system": "system"}),
    "empty system text": TEXT_RATED,
    "system turn": RATED_MESSAGES,
    "empty system turn": RATED_MESSAGES,
    "developer turn": RATED_MESSAGES,
    "null columns": RATED_MESSAGES,
    "NaN columns": ("ratings", RATED_MESSAGES[1] | {"prompt": "prompt"}),
    "other columns": PAIRS,
    "tools column": RATED_MESSAGES,
    "ShareGPT": ("ratings", RATED_MESSAGES[1] | {"response": "conversations"}),
    "ShareGPT with a system text": ("ratings", RATED_MESSAGES[1] | {"response": "conversations", "system": "system"}),
    "conversations with roles": ("ratings", RATED_MESSAGES[1] | {"response": "conversations"}),
    "human and gpt": RATED_MESSAGES,
    "parts": RATED_MESSAGES,
    "names and calls of null": RATED_MESSAGES,
}


def ingested(file: Path, form: tuple[str, Row]) -> Preview:
    source = source_of("mine", form_of(*form), licence="none", evaluation=False)
    return preview(DatasetFiles(source, file, {}), SplitFractions(), n_rows=100)


def ids_of(found: Preview) -> list[str]:
    return [
        *[rating["conversation_id"] for row in found.rows for rating in row.ratings],
        *[pair[f"{side}_id"] for row in found.rows for pair in row.pairs for side in ("chosen", "rejected")],
    ]


def scored_ids(file: Path) -> list[str]:
    return [conversation_id(messages) for _, _, messages in requests(file)]


@pytest.mark.parametrize("kind", OWN)
def test_own_data_has_the_ids_of_what_is_scored(tmp_path: Path, kind: str) -> None:
    file = file_of(tmp_path, ROWS[kind][0] | {"stars": 4})
    found = ingested(file, OWN[kind])
    assert ids_of(found) == scored_ids(file), found.line


@pytest.mark.parametrize("name", [*FILES, "in.parquet", "in.csv", "in.tsv"])
def test_own_data_has_them_from_every_file(tmp_path: Path, name: str) -> None:
    rows, file = [PAIR, PAIR | {"prompt": "And bees?"}], tmp_path / name
    if name in FILES:
        file.write_bytes(FILES[name](rows))
    elif file.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(file)
    else:
        pl.DataFrame(rows).write_csv(file, separator=native.SEPARATORS[file.suffix])
    assert ids_of(ingested(file, PAIRS)) == scored_ids(file)
    assert len(set(scored_ids(file))) == 4


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind, (row, _) in REFUSED.items()
        if isinstance(row, bytes) or (isinstance(row, dict) and "messages" in row)
    ],
)
def test_what_scoring_refuses_is_rejected_from_own_data(tmp_path: Path, kind: str) -> None:
    row, _ = REFUSED[kind]
    file = tmp_path / "in.jsonl"
    file.write_bytes(row if isinstance(row, bytes) else lines(row | {"stars": 4}))
    form = ("ratings", RATED_MESSAGES[1] | {"system": "system"})
    assert [row.outcome for row in ingested(file, form).rows] == ["rejected"]
    refused(file)


# Through a model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(tmp_path_factory.mktemp("model"), objectives=[f"o{k}" for k in range(6)])


def score(file: Path, model: RewardModel) -> list[float]:
    chunks = score_file(file, model, model.loaded_backbone, token_budget=512)
    return [one.score for chunk in chunks for one in chunk]


def test_the_same_conversation_has_the_same_score_in_every_kind(exported: Exported, tmp_path: Path) -> None:
    kinds = [row for row, expected in ROWS.values() if expected == ONE]
    assert len(kinds) > 10
    scores = score(file_of(tmp_path, *kinds), RewardModel.load(exported.folder))
    np.testing.assert_allclose(scores, scores[0], atol=1e-6)


def test_a_template_without_system_turns_scores_them_where_they_are_told(exported: Exported, tmp_path: Path) -> None:
    no_system = "{% if messages[0]['role'] not in ('user', 'assistant') %}{{ raise_exception('no system') }}{% endif %}"
    folded = ("user", f"{RULE}\n\n{QUESTION}")

    def loaded(settings: BackboneSettings | None) -> RewardModel:
        model = RewardModel.load(exported.folder, backbone=settings)
        tokenizer = model.loaded_backbone.tokenizer
        tokenizer.chat_template = no_system + tokenizer.chat_template
        return model

    for role in ("system", "developer"):
        file = file_of(tmp_path, {"messages": MESSAGES}, {"messages": turns((role, RULE), U, A)})
        with pytest.raises(NativeFileError) as caught:
            score(file, loaded(None))
        has(str(caught.value), str(file), "line 2", role, "[backbone]", "first_user")
        other = file_of(
            tmp_path, {"messages": MESSAGES}, {"messages": turns((role, RULE), U, A)}, {"messages": turns(folded, A)}
        )
        plain, ruled, by_hand = score(other, loaded(BackboneSettings(str(exported.folder), system="first_user")))
        assert ruled == pytest.approx(by_hand, abs=1e-6)
        assert ruled != pytest.approx(plain, abs=1e-4)

"""A thousand corrupted rows of every dataset: each ends as a reject, a drop, or a row that says what it holds."""

import json
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from armorm.features.catalog.views import connect
from armorm.features.conversation import SplitFractions
from armorm.features.errors import FeatureStoreError
from armorm.features.ingest.dataset import DatasetFiles, ingest_dataset
from armorm.features.ingest.files import survey
from armorm.features.ingest.native import read_rows
from armorm.features.sample import write_sample
from armorm.features.sources import SOURCES, complete_options, find_source
from armorm.features.sources.base import as_number
from armorm.features.store import Writer

N_CORRUPTED = 1000
N_SOUND = 20
"""Rows as they are; where a dataset has two columns, all corrupted ones may be unusable."""

GARBAGE: list[Any] = [
    *(None, True, False, 0, -1, 3, 10**30, 1.5, -0.0, "", " ", "\n\n", "N/A", "nan", "Infinity", "1e999", "7", "A"),
    *([], {}, [[]], [None], [{}], ["x", 1], {"role": "user"}, [{"role": "user", "content": None}], "\u2028", "\x00"),
    *("[RESULT] 9", "\n\nHuman:", "\n\nHuman: a\n\nAssistant: b", "x" * 10_000, {"Rating": {"Rating": []}}),
]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, scale=0.02)
    return folder


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row.data for file in survey(folder).read for row in read_rows(file) if row.data]


def corrupted(rng: random.Random, row: dict[str, Any]) -> bytes:
    """One field somewhere in the row is removed, renamed or replaced, or the bytes of the line are hurt."""
    copy = json.loads(json.dumps(row))
    paths = list(fields(copy))
    *way, last = rng.choice(paths)
    into = copy
    for step in way:
        into = into[step]
    match rng.randrange(4):
        case 0:
            del into[last]
        case 1 if isinstance(into, dict):
            into[f"{last}_"] = into.pop(last)
        case _:
            into[last] = rng.choice(GARBAGE)
    line = json.dumps(copy, ensure_ascii=rng.random() < 0.5).encode()
    match rng.randrange(6):
        case 0:
            return line[: rng.randrange(len(line))]
        case 1:
            at = rng.randrange(len(line))
            return line[:at] + bytes([rng.choice([0xFF, 0x80, 0xC3, 0x00, 0x22, 0x7B])]) + line[at + 1 :]
        case _:
            return line


def fields(value: Any) -> Iterator[tuple[Any, ...]]:
    """The way to every value in nested objects and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (key,)
        yield from ((key, *way) for way in fields(inner))


def texts_and_numbers(value: Any) -> tuple[list[str], set[float]]:
    texts, numbers = [], set()
    for way in [(), *fields(value)]:
        inner = value
        for step in way:
            inner = inner[step]
        if isinstance(inner, str):
            texts.append(inner)
        if isinstance(inner, bool):
            numbers.add(float(inner))
        if (number := as_number(inner)) is not None:
            numbers |= {number, 1.0} if number == 10 else {number}  # UltraFeedback's tens that may be ones
    return texts, numbers


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_thousand_corrupted_rows(writer: Writer, sample: Path, tmp_path: Path, name: str) -> None:
    rng = random.Random(name)
    rows = rows_of(sample / name)
    source = find_source(name)
    is_one_file = name == "preference-test-sets"  # whose files' names say what they hold
    path = tmp_path / ("anthropic_hhh-0.jsonl" if is_one_file else "rows.jsonl")
    lines = [corrupted(rng, rng.choice(rows)).replace(b"\n", b" ") for _ in range(N_CORRUPTED)]
    sound = [json.dumps(row).encode() for row in rows[:N_SOUND]]
    path.write_bytes(b"\n".join([*lines, *sound]) + b"\n")
    how = DatasetFiles(source, path, complete_options(source, {}))
    done = ingest_dataset(writer, how, splits=SplitFractions())
    n_blank = sum(not line.strip() for line in lines)
    outcomes = done.artifact.summary["outcomes"]
    assert sum(sum(of.values()) for of in outcomes.values()) == N_CORRUPTED + len(sound) - n_blank
    assert sum(outcomes["rejected"].values()) > N_CORRUPTED / 10
    with connect(writer.store) as connection:
        made = connection.execute(
            """
            WITH sides AS (
                SELECT source_row, conversation_id, raw FROM ratings
                UNION ALL SELECT source_row, unnest([chosen_id, rejected_id]), NULL FROM preferences
            )
            SELECT line, [turn.content FOR turn IN messages], sides.raw
            FROM sides JOIN conversations USING (conversation_id)
            JOIN native_rows ON list_contains(string_split(sides.source_row, '+'), native_rows.source_row)
            WHERE outcome = 'kept' AND NOT contains(sides.source_row, '+')
            """
        ).fetchall()
    written = {row.line: row.data for row in read_rows(path)}
    assert made
    for line, contents, raw in made:
        texts, numbers = texts_and_numbers(written[line])
        blob = "\n".join(texts)
        assert all(content in blob for content in contents), line
        assert raw is None or raw in numbers, line


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_truncated_or_damaged_file_is_read_or_a_named_error(
    writer: Writer, sample: Path, name: str, tmp_path: Path
) -> None:
    rng = random.Random(name)
    file = survey(sample / name).read[0]
    content = file.read_bytes()
    for number in range(20):
        at = rng.randrange(len(content))
        hurt = content[:at] if number % 2 else content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]
        path = tmp_path / str(number) / file.name
        path.parent.mkdir()
        path.write_bytes(hurt)
        how = DatasetFiles(find_source(name), path, complete_options(find_source(name), {}))
        with suppress(FeatureStoreError):
            ingest_dataset(writer, how, splits=SplitFractions())


def test_parquet_with_other_types_is_read_or_a_named_error(writer: Writer, sample: Path, tmp_path: Path) -> None:
    """Every column of every Parquet dataset once as a number."""
    for name in sorted(SOURCES):
        for file in [file for file in survey(sample / name).read if file.suffix == ".parquet"][:1]:
            table = pq.read_table(file)
            for column in table.column_names:
                path = tmp_path / name / column / file.name
                path.parent.mkdir(parents=True)
                numbers = [list(range(len(table)))]
                pq.write_table(table.set_column(table.column_names.index(column), column, numbers), path)
                how = DatasetFiles(find_source(name), path, complete_options(find_source(name), {}))
                with suppress(FeatureStoreError):
                    ingest_dataset(writer, how, splits=SplitFractions())

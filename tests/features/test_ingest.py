"""Ingest into a store: what cannot be used leaves it as it was, what can is counted."""

import json
import re
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from armorm.features.catalog.dataset_table import list_datasets
from armorm.features.catalog.diff import diff
from armorm.features.catalog.views import connect
from armorm.features.conversation import SplitFractions
from armorm.features.errors import DatasetError, NativeFileError, NotInStore
from armorm.features.ingest import dataset, native, parallel, spill
from armorm.features.ingest.dataset import INGEST, DatasetFiles, dataset_files, forget_unconfigured, ingest_dataset
from armorm.features.ingest.preview import preview
from armorm.features.sources import SOURCES, find_source
from armorm.features.store import Done, Store, Writer
from armorm.features.store.json_records import read_summary
from armorm.features.store.summaries import IngestSummary

ROWS = [{"prompt": f"p{n}", "response": "an answer", "is_safe": n % 2 == 0} for n in range(20)]


def files(path: Path, **how: Any) -> DatasetFiles:
    return DatasetFiles(find_source("beavertails-30k"), path, {}, **how)


def ingest(writer: Writer, path: Path, **how: Any) -> Done:
    return ingest_dataset(writer, files(path, **how), splits=SplitFractions())


def write(path: Path, *lines: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_a_wrong_column_stores_nothing_and_names_it(writer: Writer, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *[{"prompt": "p", "answer": "a", "is_safe": True, "n": n} for n in range(3)])
    with pytest.raises(DatasetError, match=r"\b3 missing_column\b.*\bresponse\b.*\banswer\b"):
        ingest(writer, path)
    assert writer.store.head().number == 0


def test_a_malformed_line_in_the_middle_is_one_counted_reject(writer: Writer, tmp_path: Path) -> None:
    done = ingest(writer, write(tmp_path / "rows.jsonl", *ROWS[:10], '{"prompt": "p', *ROWS[10:]))
    assert done.artifact.summary["outcomes"] == {"kept": {"": 20}, "rejected": {"malformed_row": 1}}


def test_a_broken_array_leaves_the_store_as_it_was(writer: Writer, tmp_path: Path) -> None:
    ingest(writer, write(tmp_path / "rows.jsonl", *ROWS))
    before = writer.store.head()
    with pytest.raises(NativeFileError, match=r"\brow 2\b"):
        ingest(writer, write(tmp_path / "rows.json", f"[{json.dumps(ROWS[0])}, {json.dumps(ROWS[1])}, "))
    assert writer.store.head() == before


def test_moved_reordered_and_split_files_are_the_same_tables(writer: Writer, tmp_path: Path) -> None:
    first = ingest(writer, write(tmp_path / "rows.jsonl", *ROWS))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    write(folder / "b.jsonl", *ROWS[:7:-1])
    (folder / "a.json").write_text(json.dumps(ROWS[:8]))
    second = ingest(writer, folder)
    assert second.reason is not None
    assert second.artifact.artifact_id == first.artifact.artifact_id


def test_a_renamed_file_is_not_read_again(writer: Writer, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *ROWS)
    ingest(writer, path)
    assert ingest(writer, path.rename(tmp_path / "other.jsonl")).reason is None


def test_what_is_no_longer_configured_leaves_the_newest_snapshot_alone(writer: Writer, tmp_path: Path) -> None:
    ingest(writer, write(tmp_path / "rows.jsonl", *ROWS))
    assert forget_unconfigured(writer, ["beavertails-30k"]) == []
    assert forget_unconfigured(writer, []) == ["beavertails-30k"]
    assert writer.store.head().artifacts == {}
    assert len(list(writer.store.history())[1].artifacts) == 1


def test_only_the_files_that_the_data_is_in_are_read(tmp_path: Path) -> None:
    for name in ("round0/30k/train.jsonl.gz", "round0/330k/train.jsonl.gz", "notes/other.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(**how: Any) -> list[str]:
        return [file.relative_to(tmp_path).as_posix() for file in dataset_files(files(tmp_path, **how)).read]

    assert names() == ["round0/30k/train.jsonl.gz"]
    assert names(patterns=("notes/*", "*330k*")) == ["notes/other.jsonl", "round0/330k/train.jsonl.gz"]
    with pytest.raises(NativeFileError, match=r" \*\.csv;.*`files`"):
        names(patterns=("*.csv",))
    assert [file.name for file in dataset_files(files(tmp_path / "notes")).read] == ["other.jsonl"]


# Parts and processes


def random_rows(n_rows: int) -> list[dict[str, Any]]:
    return [{"prompt": f"p{n % 97}", "response": f"{n} " * 30, "is_safe": n % 3 == 0} for n in range(n_rows)]


def test_parts_chunks_and_processes_change_nothing_but_the_files(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[object] = [*random_rows(2000), {"prompt": 7}, "broken"]
    path = write(tmp_path / "rows.jsonl", *rows)
    monkeypatch.setattr(native, "_CHUNK", 20_000)
    monkeypatch.setattr(spill, "PART_CHARS", 30_000)
    first = ingest(writer, path).artifact
    assert sum(name.startswith("conversations/") for name in first.objects) > 3
    monkeypatch.setattr(native, "_CHUNK", 3_000)
    again = ingest(writer, write(tmp_path / "other.jsonl", *reversed(rows))).artifact
    assert again.artifact_id == first.artifact_id
    with connect(writer.store) as connection:
        ((n_ratings, n_prompts),) = connection.execute(
            "SELECT count(*), count(DISTINCT prompt_id) FROM ratings"
        ).fetchall()
    assert (n_ratings, n_prompts) == (2000, 97)


@pytest.mark.slow
def test_processes_give_what_one_gives(writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "rows.jsonl", *random_rows(5000))
    monkeypatch.setattr(native, "_CHUNK", 50_000)
    alone = ingest(writer, path).artifact
    monkeypatch.setattr(dataset, "processes", partial(parallel.processes, enough=0))
    together = ingest(writer, write(tmp_path / "other.jsonl", *random_rows(5000)[::-1])).artifact
    assert together.artifact_id == alone.artifact_id


def test_ranges_cover_all_ids_and_follow_from_them_alone() -> None:
    ids = pl.DataFrame({"id": [f"{n % 256:02x}{n:030x}" for n in range(2000)], "n_chars": [1_000_000] * 2000})
    ranges = spill.ranges(ids)
    assert ranges == spill.ranges(ids.sample(fraction=1, shuffle=True, seed=1))
    assert len(ranges) == 2000 // 64
    assert (ranges[0].first, ranges[-1].end) == ("00", "g")
    assert all(one.end == other.first for one, other in pairwise(ranges))
    assert spill.ranges(ids.clear()) == [spill.Range("00", "g")]


def test_nothing_is_left_below_tmp(writer: Writer, tmp_path: Path) -> None:
    ingest(writer, write(tmp_path / "rows.jsonl", *ROWS))
    with pytest.raises(NativeFileError):
        ingest(writer, write(tmp_path / "rows.json", "[{}, "))
    assert list((Path(writer.store.place) / "tmp").glob("*-*")) == []


# Looking before, and after


def test_one_edited_row_is_the_difference(store: Store, tmp_path: Path) -> None:
    rows = random_rows(1000)
    for of in (rows, [*rows[:500], rows[500] | {"response": "edited"}, *rows[501:]]):
        path = write(tmp_path / "rows.jsonl", *of)
        with store.writing("test") as writer:
            ingest(writer, path)
    found = diff(store, store.snapshot("previous"), store.snapshot("head"))
    (row,) = found.rows
    assert (row.dataset, row.change, row.file, row.line) == ("beavertails-30k", "edited", "rows.jsonl", 501)
    assert (found.conversations_added, found.conversations_removed) == (1, 1)


def test_added_moved_and_removed_rows(store: Store, tmp_path: Path) -> None:
    for of in (ROWS[:10], [*ROWS[9:1:-1], ROWS[15]]):
        path = write(tmp_path / "rows.jsonl", *of)
        with store.writing("test") as writer:
            ingest(writer, path)
    found = diff(store, store.snapshot("1"), store.snapshot(store.head().snapshot_id[:8]))
    assert [(row.change, row.line) for row in found.rows] == [("removed", 1), ("removed", 2), ("added", 9)]
    with pytest.raises(NotInStore, match=r"\bsnapshot 7\b.*\bhead, previous\b"):
        store.snapshot("7")


def test_a_preview_says_of_every_row_what_comes_of_it(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS[0], ROWS[0], {"prompt": "p"}, "broken", *ROWS[1:])
    seen = preview(files(path), SplitFractions(), n_rows=5)
    assert [(row.line, row.outcome, row.reason) for row in seen.rows] == [
        (1, "kept", ""),
        (2, "dropped", "duplicate_row"),
        (3, "rejected", "missing_column"),
        (4, "rejected", "malformed_row"),
        (5, "kept", ""),
    ]
    assert seen.told(seen.rows[0]) == "[user] p0 [assistant] an answer: beavertails-is_safe 1"
    assert re.search(r"\bresponse\b", seen.told(seen.rows[2]))
    assert seen.line == "2 kept, 1 dropped duplicate_row, 1 rejected missing_column, 1 rejected malformed_row"
    assert seen.columns["prompt"].startswith("text")
    assert seen.columns["is_safe"].startswith("boolean")


def test_files_that_are_not_read_are_named_in_the_record_and_in_the_preview(writer: Writer, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "rows.jsonl", *ROWS)
    (folder / "NOTES.txt").touch()
    (folder / "about.csv").touch()
    done = ingest_dataset(writer, files(folder), splits=SplitFractions())
    summary = read_summary(done.artifact, IngestSummary)
    assert {*summary.files_left} == {"NOTES.txt", "about.csv"}
    assert "2 files not read" in INGEST.line(writer.store, done.artifact)
    assert all(
        name in " ".join(preview(files(folder), SplitFractions(), n_rows=1).notes) for name in summary.files_left
    )


def test_the_list_of_datasets(writer: Writer, tmp_path: Path) -> None:
    ingest(writer, write(tmp_path / "rows.jsonl", *ROWS))
    configured = {"beavertails-30k": ("rows.jsonl", {})}
    first, *others = list_datasets(list(SOURCES.values()), configured, writer.store.head())
    assert (first.dataset, first.licence) == ("beavertails-30k", "CC-BY-NC-4.0")
    assert re.search(r"\bratings\b.*\b1\b", first.feeds)
    assert (first.place, first.rows, first.kept, first.ratings, first.pairs) == ("rows.jsonl", 20, 20, 20, 0)
    assert [of.dataset for of in others] == sorted(SOURCES.keys() - {"beavertails-30k"})
    assert {of.feeds for of in others if of.dataset.startswith("pre")} == {"evaluation", "pairs"}
    assert {of.place for of in others} == {None}


# What the name of a file says, and what changes under the reader


def ingest_sets(writer: Writer, folder: Path) -> Done:
    how = DatasetFiles(find_source("preference-test-sets"), folder, {})
    return ingest_dataset(writer, how, splits=SplitFractions())


def test_a_file_whose_name_matters_is_read_again_when_it_is_renamed(writer: Writer, tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": "p"}], "chosen": "a", "rejected": "b"}
    for name in ("shp-0.jsonl", "summarize-0.jsonl", "pku_safer-0.jsonl"):
        write(tmp_path / "sets" / name, row)
    first = ingest_sets(writer, tmp_path / "sets").artifact
    assert first.summary["outcomes"] == {"dropped": {"subset_not_scored": 1}, "kept": {"": 2}}
    assert ingest_sets(writer, tmp_path / "sets").reason is None
    (tmp_path / "sets/shp-0.jsonl").rename(tmp_path / "sets/other-0.jsonl")
    second = ingest_sets(writer, tmp_path / "sets").artifact
    assert second.summary["outcomes"]["rejected"] == {"unknown_subset": 1}


def test_a_file_that_changes_while_it_is_read_is_refused(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "rows.jsonl", *ROWS)

    def read_late(file: Path, *, root: Path) -> Any:
        write(path, *ROWS[:5])
        return native.read_chunks(file, root=root)

    monkeypatch.setattr(dataset, "read_chunks", read_late)
    with pytest.raises(NativeFileError, match=r"\bchanged\b") as caught:
        ingest(writer, path)
    assert caught.value.path == path
    assert writer.store.head().number == 0


def test_what_is_refused_leaves_no_objects(writer: Writer, tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        ingest(writer, write(tmp_path / "rows.jsonl", {"prompt": "p"}))
    assert list(Path(writer.store.place).rglob("*.parquet")) == []

"""Ingest into a store: what cannot be used leaves it as it was, what can is counted."""

import json
from pathlib import Path

import pytest

from features.conversation import SplitFractions
from features.errors import DatasetError, NativeFileError
from features.ingest.dataset import DatasetFiles, forget_unconfigured, ingest_dataset
from features.store import Done, Writer

ROWS = [{"prompt": f"p{n}", "response": "an answer", "is_safe": n % 2 == 0} for n in range(20)]


def ingest(writer: Writer, path: Path, **options: str) -> Done:
    return ingest_dataset(writer, DatasetFiles("beavertails-30k", path, options), splits=SplitFractions())


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_a_wrong_column_stores_nothing_and_names_it(writer: Writer, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *[{"prompt": "p", "answer": "a", "is_safe": True, "n": n} for n in range(3)])
    with pytest.raises(DatasetError, match=r"got 3 missing_column .*no column response; the row has answer"):
        ingest(writer, path)
    assert writer.store.head().number == 0


@pytest.mark.parametrize("options", [{"chosen": "x"}, {"path2": "y"}])
def test_an_unknown_option_is_refused_before_anything_is_read(
    writer: Writer, tmp_path: Path, options: dict[str, str]
) -> None:
    with pytest.raises(DatasetError, match="got option"):
        ingest(writer, write(tmp_path / "rows.jsonl", *ROWS), **options)


def test_a_malformed_line_in_the_middle_is_one_counted_reject(writer: Writer, tmp_path: Path) -> None:
    done = ingest(writer, write(tmp_path / "rows.jsonl", *ROWS[:10], '{"prompt": "p', *ROWS[10:]))
    assert done.artifact.summary["outcomes"] == {"kept": {"": 20}, "rejected": {"malformed_row": 1}}


def test_a_broken_array_leaves_the_store_as_it_was(writer: Writer, tmp_path: Path) -> None:
    ingest(writer, write(tmp_path / "rows.jsonl", *ROWS))
    before = writer.store.head()
    with pytest.raises(NativeFileError, match="after row 2"):
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

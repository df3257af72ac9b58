"""`armorm init` for own files: what it writes can be trained on without an edit."""

import csv
import json
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from armorm.features.catalog.query import query
from armorm.features.errors import NativeFileError
from armorm.flows.cli.app import init
from armorm.flows.cli.model_commands import score
from armorm.flows.cli.options import Format
from armorm.flows.configuration.settings import ConfigError, Settings, check_trainable, load_settings
from tests.features.tiny import write_backbone

Row = dict[str, Any]


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def configured(data: Path, *more: Path, **options: Any) -> Settings:
    config = data.parent / "armorm.toml"
    config.unlink(missing_ok=True)
    init(data=data, more=list(more), config=config, **options)
    settings = load_settings(config)
    check_trainable(settings)
    return settings


def labelled(n: int) -> list[Row]:
    return [{"prompt": f"{i}?", "response_a": "Yes.", "response_b": "No.", "label": i % 2} for i in range(n)]


RATINGS = [{"question": f"{i}?", "answer": f"{k} spoons", "stars": k} for i in range(30) for k in (1, 3, 5)]


def test_a_short_file_is_written_with_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = configured(write(tmp_path / "Tea Ratings.jsonl", RATINGS))
    assert list(settings.datasets) == ["tea-ratings"]
    assert settings.datasets["tea-ratings"].path == Path("Tea Ratings.jsonl")
    assert list(settings.sources()["tea-ratings"].scales) == ["stars"]
    assert len((tmp_path / "armorm.toml").read_text().splitlines()) < 40
    said = capsys.readouterr().out
    assert "90 rows give 90 ratings and 90 pairs of 30 prompts" in said
    assert "5 spoons > 1 spoons" in " ".join(said.split())


def test_pairs_alone_have_an_objective(tmp_path: Path) -> None:
    settings = configured(write(tmp_path / "labels.jsonl", labelled(50)), first="0")
    assert list(settings.sources()["labels"].scales) == ["preferred"]
    (form,) = settings.own_forms()
    assert (form.first, form.second) == (("0",), ("1",))  # type: ignore[union-attr]


def test_ratings_beside_pairs_need_none(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.jsonl", labelled(50))
    settings = configured(write(tmp_path / "ratings.jsonl", RATINGS), labels, first="1")
    assert {name: [*source.scales] for name, source in settings.sources().items()} == {
        "labels": [],
        "ratings": ["stars"],
    }


def test_a_label_is_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(question: str, **how: Any) -> str:
        asked.append(question)
        return "1"

    monkeypatch.setattr("typer.prompt", answer)
    settings = configured(write(tmp_path / "labels.jsonl", labelled(50)))
    (form,) = settings.own_forms()
    assert form.first == ("1",)  # type: ignore[union-attr]
    assert len(asked) == 1


def test_the_gate_is_as_large_as_the_data_allow(tmp_path: Path) -> None:
    few = configured(write(tmp_path / "few.jsonl", labelled(50)), first="0").gate
    many = configured(write(tmp_path / "many.jsonl", labelled(3000)), first="0").gate
    assert few.hidden_dim < many.hidden_dim
    assert few.batch_size < many.batch_size


def test_names_do_not_meet(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    files = [write(tmp_path / name, RATINGS) for name in ("shp.jsonl", "a.jsonl", "b/a.jsonl")]
    assert list(configured(*files).datasets) == ["my-shp", "a", "my-a"]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"text": "hi"}\n', b'{"prompt": "q", "response": "", "x": 1}\n' * 2])
def test_what_gives_nothing_is_refused_and_nothing_is_written(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.jsonl").write_bytes(content)
    with pytest.raises((ConfigError, NativeFileError), match=r"in\.jsonl"):
        configured(tmp_path / "in.jsonl")
    assert not (tmp_path / "armorm.toml").exists()


def test_an_answer_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected 0 or 1"):
        configured(write(tmp_path / "labels.jsonl", labelled(50)), first="A")


def test_prompts_with_one_answer_each_give_no_pairs_and_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got no pairs"):
        configured(write(tmp_path / "in.jsonl", RATINGS[::4]))


def answer(draw: Random, good: bool) -> str:
    words = "kind clear true warm sure" if good else "dull vague false cold loath"
    return " ".join(draw.choice(words.split()) for _ in range(8))


def write_four_kinds(folder: Path) -> list[Path]:
    """CSV with two ratings, ShareGPT with a score, Parquet with a label, and a folder of `save_to_disk`."""
    draw = Random(0)
    two = [(f"{draw.random()}?", answer(draw, True), answer(draw, False)) for _ in range(100)]
    with (folder / "rated.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["question", "answer", "helpful", "polite"])
        for q, *of in two:
            rows.writerows([q, text, stars, stars - draw.randint(0, 1)] for text, stars in zip(of, (5, 2), strict=True))
    talks = [[{"from": "human", "value": q}, {"from": "gpt", "value": text}] for q, *of in two for text in of]
    write(
        folder / "sharegpt.jsonl", [{"conversations": turns, "score": 9 - 7 * (i % 2)} for i, turns in enumerate(talks)]
    )
    labelled = [
        {"prompt": q, "response_a": (good, bad)[i % 2], "response_b": (bad, good)[i % 2], "label": i % 2}
        for i, (q, good, bad) in enumerate(two)
    ]
    pq.write_table(pa.Table.from_pylist(labelled), folder / "labels.parquet")
    saved = folder / "saved"
    saved.mkdir()
    pairs = pa.Table.from_pylist([{"prompt": q, "chosen": good, "rejected": bad} for q, good, bad in two])
    with pa.ipc.new_stream(saved / "data-00000-of-00001.arrow", pairs.schema) as stream:
        stream.write_table(pairs)
    (saved / "dataset_info.json").write_text('{"features": {}}')
    (saved / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    return [folder / name for name in ("rated.csv", "sharegpt.jsonl", "labels.parquet", "saved")]


@pytest.mark.usefixtures("server", "in_process")
def test_four_kinds_of_files_come_to_scores_without_an_edit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from armorm.flows.pipeline import pipeline

    files = write_four_kinds(tmp_path)
    settings = configured(*files, first="0", backbone=write_backbone(tmp_path / "backbone"))
    pipeline(tmp_path / "armorm.toml")
    store = settings.open_store()
    made = query(store, "SELECT dataset, ratings, preferences FROM datasets ORDER BY ALL").rows
    assert made == [("labels", 0, 100), ("rated", 400, 100), ("saved", 0, 100), ("sharegpt", 200, 100)]
    backwards = """
        SELECT count(*) FROM preferences JOIN conversations ON conversation_id = chosen_id
        WHERE NOT regexp_matches(messages[-1].content, '(kind|clear|true|warm|sure)')
    """
    assert query(store, backwards).rows == [(0,)]
    for file in files:
        capsys.readouterr()
        score(file, config=tmp_path / "armorm.toml", format=Format.json)
        assert len(capsys.readouterr().out.splitlines()) == 200

"""`armorm init` for own files: what it writes can be trained on without an edit."""

import json
from pathlib import Path
from typing import Any

import pytest

from armorm.features.errors import NativeFileError
from armorm.flows.cli.app import init
from armorm.flows.configuration.settings import ConfigError, Settings, check_trainable, load_settings

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

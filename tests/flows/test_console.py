"""What a person sees while something long runs, and what texts of datasets cannot do to a terminal or a spreadsheet."""

import csv
import io
import json
import os
import subprocess
import sys
import time as clock
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from armorm.features.embedding.embed import Progress
from armorm.features.errors import QueryError
from armorm.features.store import Made, Recipe, Store
from armorm.flows.runlog.console import MOST_ROWS, head, of_tokens, print_csv, print_json, working_at_most
from tests.flows.test_settings import MINIMAL


def test_an_embedding_is_told_by_tokens_with_texts_and_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 100.0, 102.0])
    monkeypatch.setattr("armorm.flows.runlog.console.time.monotonic", lambda: next(clock))
    shown: list[tuple[Any, ...]] = []
    show = of_tokens(lambda *given: shown.append(given))
    show(Progress(10, 2000, 500, 90_000))  # an earlier run has done so much
    show(Progress(10, 2000, 500, 90_000))
    show(Progress(30, 2000, 3500, 91_000))
    assert shown == [
        (500, 90_000, "tokens, 10 of 2,000 texts"),
        (500, 90_000, "tokens, 10 of 2,000 texts"),
        (3500, 91_000, "tokens, 30 of 2,000 texts, 1,500 tokens/s"),
    ]


STEERING = ["\x1b[2J", "\x9b2J", "\x7f", "\u202etxt", "\u200b", "\U000e0041", "\x00"]


def test_json_carries_no_character_that_steers_and_reads_back_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    value = {text: [text, "é 日本 😀"] for text in STEERING}
    print_json(value)
    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert not any(text[0] in printed for text in STEERING)
    assert "é 日本 😀" in printed


def test_csv_has_no_formulas(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["=1+1", "+1", "-1", "@x", "\tx", "\r=1", "plain", "a=b", ""]
    print_csv(["=name", "n", "x"], [(text, -1, -0.5) for text in texts])
    first, *rows = csv.reader(io.StringIO(capsys.readouterr().out, newline=""))
    assert first == ["'=name", "n", "x"]
    assert [row[0].removeprefix("'") for row in rows] == texts
    assert all(not row[0].startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows)
    assert {tuple(row[1:]) for row in rows} == {("-1", "-0.5")}


def test_csv_leaves_numbers_and_durations_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_csv(["n", "t"], [(Decimal("-1.5"), timedelta(days=-1))])
    assert list(csv.reader(io.StringIO(capsys.readouterr().out)))[1] == ["-1.5", str(timedelta(days=-1))]


@pytest.mark.parametrize("format", ["table", "csv", "json"])
def test_an_output_that_is_closed_or_knows_few_characters_is_no_error(format: str, tmp_path: Path) -> None:
    (tmp_path / "armorm.toml").write_text(MINIMAL)
    with Store(tmp_path / "store").writing("test") as writer:
        writer.commit(Recipe("note", "note", 1, {}, {}), Made({}))
    program = f"{sys.executable} -m armorm.flows.cli.program sql \"SELECT 'é→' AS x\" --format {format}"
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONIOENCODING": "ascii"}
    for command in (program, f"{program} >&-"):
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, env=environment)
        assert (done.returncode, done.stderr) == (0, b"")
        if format == "json" and done.stdout:
            assert json.loads(done.stdout) == [{"x": "é→"}]


def test_csv_on_a_terminal_does_not_steer_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for terminal in (True, False):
        monkeypatch.setattr(sys.stdout, "isatty", lambda is_one=terminal: is_one)
        print_csv(["text"], [(text,) for text in STEERING])
        printed = capsys.readouterr().out
        assert any(text[0] in printed for text in STEERING) is not terminal


def test_a_table_shows_the_first_rows_and_the_beginning_of_long_cells() -> None:
    rows = [(n, "x") for n in range(MOST_ROWS + 1)]
    assert head(rows) == rows[:MOST_ROWS]
    ((number, text), *others) = head([(1, "x" * 10**7), *[(2, "y" * 10**6)] * 500])
    assert number == 1
    assert set(text) == {"x", "…"}
    assert len(text) + sum(len(cell) for _, cell in others) < 3 * 10**6


def spin() -> None:
    while True:
        pass


def test_printing_ends_after_so_much_work() -> None:
    with pytest.raises(QueryError), working_at_most(0.05, QueryError("too long")):
        spin()
    with working_at_most(0.05, QueryError("too long")):
        clock.sleep(0.2)
    sum(range(10**7))

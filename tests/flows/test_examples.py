"""The examples of the documentation, as their readers run them."""

import json
import subprocess
import sys
from html import escape
from pathlib import Path
from typing import Any

import pytest

from features.catalog import query
from features.store import Store
from tests.armorm.test_page import HOSTILE

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"

# In a process of its own: narwhals, which marimo stands on, keeps types of DuckDB, which complains of that at the end.
NOTEBOOK = """
import json, runpy, sys
import marimo as mo
import polars as pl

given = {name: pl.DataFrame(of) if isinstance(of, list) else of for name, of in json.load(sys.stdin).items()}
outputs, found = runpy.run_path(sys.argv[1])["app"].run(defs=given)
found["store"].close()
shown = "".join(output.text for output in outputs if isinstance(output, mo.Html))
frames = {name: value.to_dicts() for name, value in found.items() if isinstance(value, pl.DataFrame)}
print(json.dumps({"shown": shown, "frames": frames}))
"""


def run_notebook(store: Store, **defined: Any) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    """What its cells show, as HTML, and the results of its queries; some definitions may be replaced."""
    pytest.importorskip("marimo", reason="marimo is not installed")
    program = [sys.executable, "-c", NOTEBOOK, str(EXAMPLES / "explore.py")]
    given = json.dumps({"place": store.place, "at": "head", **defined})
    ended = subprocess.run(program, input=given, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    return told["shown"], told["frames"]


def test_the_notebook_runs_and_finds_what_there_is(ran: Store) -> None:
    shown, found = run_notebook(ran)
    assert query(ran, "SELECT count(*) FROM ratings").rows == [(sum(row["n"] for row in found["spread"]),)]
    assert len(found["prompts"]) > 100
    cosines = [row["cosine"] for row in found["nearest"]]
    assert cosines == sorted(cosines, reverse=True)
    assert {row["objective"] for row in found["gate"]} == {row["objective"] for row in found["by_prompt"]}
    assert found["worst"]
    for pair in found["worst"]:
        assert pair["wrong_by"] > 0
        assert pair["pair_id"][:8] in shown


def test_texts_stay_texts_in_the_notebook(ran: Store) -> None:
    row = {"pair_id": "0" * 64, "wrong_by": 1.0, "turned_to": [HOSTILE]}
    row |= dict.fromkeys(("dataset", "subset", "asked", "preferred", "other"), HOSTILE)
    shown, _ = run_notebook(ran, worst=[row], nearest=[{"cosine": 0.5, "asked": HOSTILE}])
    assert HOSTILE not in shown
    assert shown.count(escape(HOSTILE)) == 7

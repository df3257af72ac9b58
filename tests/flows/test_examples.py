"""The examples of the documentation, as their readers run them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from html import escape
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import typer

from armorm.features.catalog.query import query
from armorm.features.store import Store
from armorm.features.store.freshness import last_runs
from armorm.flows.cli.app import app
from armorm.flows.pipeline import pipeline
from tests import prefect_server
from tests.armorm.test_page import HOSTILE
from tests.browser import look
from tests.decoys import put_decoys
from tests.flows.console import terminal, usual_signals

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


# Not imported to be looked for: transformers takes a process that has imported marimo for a notebook.
with_marimo = pytest.mark.skipif(find_spec("marimo") is None, reason="marimo is not installed")


def run_notebook(store: Store, **defined: Any) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    """What its cells show, as HTML, and the results of its queries; some definitions may be replaced."""
    program = [sys.executable, "-c", NOTEBOOK, str(EXAMPLES / "explore.py")]
    given = json.dumps({"place": str(Path(store.place).resolve()), "at": "head", **defined})
    with TemporaryDirectory() as folder:
        put_decoys(Path(folder))
        ended = subprocess.run(program, input=given, capture_output=True, text=True, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    return told["shown"], told["frames"]


@with_marimo
def test_the_notebook_runs_and_finds_what_there_is(ran: Store) -> None:
    shown, found = run_notebook(ran)
    assert query(ran, "SELECT count(*) FROM ratings").rows == [(sum(row["ratings"] for row in found["spread"]),)]
    assert len(found["prompts"]) > 100
    cosines = [row["cosine"] for row in found["nearest"]]
    assert cosines == sorted(cosines, reverse=True)
    assert {row["objective"] for row in found["gate"]} == {row["objective"] for row in found["by_prompt"]}
    assert found["worst"]
    for pair in found["worst"]:
        assert pair["wrong_by"] > 0
        assert pair["pair_id"][:8] in shown


@with_marimo
def test_texts_stay_texts_in_the_notebook(ran: Store) -> None:
    row = {"pair_id": "0" * 64, "wrong_by": 1.0, "turned_to": [HOSTILE]}
    row |= dict.fromkeys(("dataset", "subset", "asked", "preferred", "other"), HOSTILE)
    shown, _ = run_notebook(ran, worst=[row], nearest=[{"cosine": 0.5, "asked": HOSTILE}])
    assert HOSTILE not in shown
    assert shown.count(escape(HOSTILE)) == 7


@with_marimo
@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_notebook_in_a_browser_asks_nobody_else(ran: Store, tmp_path: Path, width: int) -> None:
    address = f"http://127.0.0.1:{(port := prefect_server.free_port())}/"
    command = ["-m", "marimo", "-q", "run", EXAMPLES / "explore.py", "--headless", "--no-token", "--port", port]
    server = subprocess.Popen([sys.executable, *map(str, command), "--", "--store", ran.place])
    try:
        while not answers(f"{address}health"):
            assert server.poll() is None
            time.sleep(0.2)
        picture = tmp_path / f"notebook-{width}.png"
        seen = look(address, scheme="light", width=width, picture=picture, until="the gate turned to")
    finally:
        server.terminate()
        server.wait()
    assert [url for url in seen.requests if not url.startswith((address, address.replace("http", "ws"), "blob:"))] == []
    assert seen.overflow == 0


def answers(url: str) -> bool:
    """Whether a server is there yet."""
    try:
        with urllib.request.urlopen(url):
            return True
    except OSError:
        return False


@pytest.mark.slow
def test_the_plain_functions_do_what_a_run_does(config: Path, server: None) -> None:
    program = [sys.executable, str(EXAMPLES / "plain.py"), str(config)]
    ended = subprocess.run(program, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"(?m)^model: ", ended.stdout)
    assert not any(step.reason for step in pipeline(config))
    store = Store(config.parent / "store")
    assert "run" in last_runs(store)
    with store.writing("another"):
        ended = subprocess.run(program, capture_output=True, text=True)
    assert ended.returncode == os.EX_TEMPFAIL
    assert f"pid {os.getpid()}, another" in ended.stderr
    program[2] = str(config.parent / "nothing.toml")
    assert subprocess.run(program, capture_output=True).returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_stopped_says_so_by_its_exit_code(config: Path, tmp_path: Path, number: signal.Signals) -> None:
    config.write_text(re.sub(r"(?m)^steps = \d+", "steps = 10_000_000", config.read_text()))
    with prefect_server.serve(tmp_path / "prefect") as server:
        run = subprocess.Popen(
            ["armorm", "run"],
            cwd=config.parent,
            env=terminal(config.parent, **server.environment).environment,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=usual_signals,
        )
        store = Store(config.parent / "store")
        while "decorrelate" not in store.head().artifacts:
            assert run.poll() is None
            time.sleep(0.1)
        run.send_signal(number)
        _, said = run.communicate()
        assert run.returncode == 128 + number
        assert number.name in said
        assert "Traceback" not in said, said[said.index("Traceback") - 1500 :]
    with store.writing("the next one"):
        assert "decorrelate" in store.head().artifacts


def test_exit_codes_are_those_of_the_table(ran: Store, tmp_path: Path) -> None:
    folder = Path(ran.place).parent
    here = terminal(tmp_path).environment
    for command, code in {
        f"armorm status --config {folder}/armorm.toml": 0,
        "armorm status": 1,
        f"armorm status --max-age 0s --config {folder}/armorm.toml": 1,
        "armorm nonsense": 2,
    }.items():
        assert subprocess.run(command.split(), cwd=tmp_path, env=here, capture_output=True).returncode == code, command
    with ran.writing("another"):
        busy = ["armorm", "tag", "here", "--config", f"{folder}/armorm.toml"]
        assert subprocess.run(busy, cwd=tmp_path, env=here, capture_output=True).returncode == os.EX_TEMPFAIL
    table = (EXAMPLES.parent / "orchestrators.md").read_text()
    assert set(re.findall(r"(?m)^\| (\d+) \|", table)) == {"0", "1", "2", "75", "129", "130", "137", "143"}


@pytest.mark.parametrize("name", ["armorm.cron", "ray_job.sh"])
def test_what_examples_call_exists(name: str) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    called = re.findall(r"armorm (\w+) --config \S+((?: --[\w-]+)*)", (EXAMPLES / name).read_text())
    assert called
    for command, options in called:
        assert {*options.split()} <= {option for of in group.commands[command].params for option in of.opts}
    if name.endswith(".sh"):
        assert subprocess.run(["sh", "-n", EXAMPLES / name]).returncode == 0

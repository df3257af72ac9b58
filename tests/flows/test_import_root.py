"""Everything of ours is imported below `armorm`, whatever folders of those names a user has."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.decoys import put_decoys

ROOT = Path(__file__).parent.parent.parent

SCRIPT = """
from pathlib import Path

import armorm
from armorm.features.catalog.query import query
from armorm.features.store import Store
from armorm.flows.configuration.settings import load_settings

with armorm.connect("store") as store:
    print(store.sql("SELECT count(*) > 0 FROM ratings").fetchall())
print(query(Store("store"), "SELECT count(*) > 0 FROM ratings").rows, load_settings(Path("armorm.toml")).store)
"""


@pytest.fixture
def beside_decoys(finished: Path) -> Path:
    """A project that was run, with packages of the user's."""
    put_decoys(finished.parent)
    return finished.parent


def test_a_script_beside_decoys(beside_decoys: Path) -> None:
    (beside_decoys / "script.py").write_text(SCRIPT)
    ended = subprocess.run([sys.executable, "script.py"], cwd=beside_decoys, capture_output=True, text=True)
    assert ended.stdout.split() == ["[(True,)]", "[(True,)]", "store"], ended.stderr


def test_the_module_is_the_program_beside_decoys(beside_decoys: Path) -> None:
    command = [sys.executable, "-m", "armorm", "sql", "SELECT count(*) AS n FROM ratings", "--format", "csv"]
    ended = subprocess.run(command, cwd=beside_decoys, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("n\n")


@pytest.mark.parametrize("name", ["features", "flows", "sql"])
def test_each_folder_is_linked_below_the_one_name(name: str) -> None:
    assert (ROOT / "armorm" / name).samefile(ROOT / name)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["armorm"]

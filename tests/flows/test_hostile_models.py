"""The command line over a model's folder that wants its own code run, with yes at every question."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from armorm.export.layout import CHECKSUMS_FILE
from armorm.model.head import DESCRIPTION_FILE
from tests.features import hostile
from tests.flows.conftest import Pristine

COMMANDS = {
    "score": ["score", "in.jsonl", "--model", "export"],
    "evaluate": ["evaluate", "--model", "export"],
    "inspect": ["inspect", "export"],
    "embed": ["embed"],
    "export": ["export", "new"],
    "plan": ["plan"],
    "doctor": ["doctor"],
}
"""By name; the folder is the model of the first three, and the backbone of the others."""

AS_IT_WAS = {"inspect", "plan", "doctor"}
"""Those that load no backbone, and may answer."""

PROGRAM = """
import json, sys
from armorm.flows.cli.program import main

for name, words in json.loads(sys.argv[1]).items():
    sys.argv = ["armorm", *words]
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    print(f"\\n{name} ended with {code}", flush=True)
"""


def with_yes(cwd: Path, environment: dict[str, str], *, on_a_terminal: bool) -> str:
    """All that the commands say; they find many lines of yes, in a pipe or typed ahead."""
    env = os.environ | environment | {"HF_MODULES_CACHE": str(cwd / "modules"), "TERM": "dumb"}
    program = [sys.executable, "-c", PROGRAM, json.dumps(COMMANDS)]
    if not on_a_terminal:
        done = subprocess.run(program, cwd=cwd, env=env, input="y\n" * 100, capture_output=True, text=True)
        return done.stdout + done.stderr
    ours, its = pty.openpty()
    os.write(ours, b"y\n" * 100)
    running = subprocess.Popen(program, cwd=cwd, env=env, stdin=its, stdout=its, stderr=its)
    os.close(its)
    said = b""
    while part := _read(ours):
        said += part
    os.close(ours)
    running.wait()
    return said.decode(errors="replace")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux tells that the other side is gone
        return b""


@pytest.fixture(scope="module")
def exported(pristine: Pristine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run, with an export of its model, which is the backbone that is configured, too."""
    home = tmp_path_factory.mktemp("hostile") / "home"
    shutil.copytree(pristine.folder, home)
    line = {"prompt": "Name a river.", "response": "The Rhône."}
    (home / "in.jsonl").write_text(json.dumps(line))
    words = [sys.executable, "-m", "armorm", "export", "export"]
    subprocess.run(words, cwd=home, check=True, capture_output=True)
    for name in (CHECKSUMS_FILE, DESCRIPTION_FILE):  # whoever changes a folder may leave them out
        (home / "export" / name).unlink()
    config = home / "armorm.toml"
    before, _, after = config.read_text().partition("\n[backbone]")
    rest = "\n".join('path = "export"' if line.startswith("path =") else line for line in after.splitlines())
    config.write_text(f"{before}\n[backbone]{rest}\n")
    return home


@pytest.mark.slow
@pytest.mark.parametrize("on_a_terminal", [False, True])
@pytest.mark.parametrize("kind", [*hostile.KINDS, *hostile.HARMLESS])
def test_no_answer_makes_armorm_run_what_a_folder_holds(
    kind: str, on_a_terminal: bool, exported: Path, beside_server: dict[str, str], tmp_path: Path
) -> None:
    home, marker = shutil.copytree(exported, tmp_path / "home"), tmp_path / "marker"
    hostile.change_folder(home / "export", kind, marker)
    said = with_yes(home, beside_server, on_a_terminal=on_a_terminal)
    assert not marker.exists(), said
    assert "run the custom code" not in said
    assert "Traceback" not in said, said
    for name in COMMANDS:
        codes = (0, 1) if name in AS_IT_WAS or kind in hostile.HARMLESS else (1,)
        assert any(f"{name} ended with {code}" in said for code in codes), said

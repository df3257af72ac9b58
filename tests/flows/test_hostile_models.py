"""The command line over a model's folder that wants its own code run, with yes at every question."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from armorm.export.layout import CHECKSUMS_FILE
from armorm.model.head import DESCRIPTION_FILE
from tests.armorm.exported import export
from tests.features import hostile

PROGRAM = [
    sys.executable,
    "-c",
    "import sys; sys.argv[0] = 'armorm'; from armorm.flows.cli.program import main; main()",
]


def with_yes(words: list[str], *, on_a_terminal: bool, cwd: Path) -> tuple[int, str]:
    """Exit code and all that is said; the program finds many lines of yes, in a pipe or typed ahead."""
    env = os.environ | {"HF_MODULES_CACHE": str(cwd / "modules"), "TERM": "dumb"}
    if not on_a_terminal:
        done = subprocess.run([*PROGRAM, *words], cwd=cwd, env=env, input="y\n" * 100, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr
    ours, its = pty.openpty()
    os.write(ours, b"y\n" * 100)
    running = subprocess.Popen([*PROGRAM, *words], cwd=cwd, env=env, stdin=its, stdout=its, stderr=its)
    os.close(its)
    said = b""
    while part := _read(ours):
        said += part
    os.close(ours)
    return running.wait(), said.decode(errors="replace")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux tells that the other side is gone
        return b""


@pytest.mark.slow
@pytest.mark.parametrize("on_a_terminal", [False, True])
@pytest.mark.parametrize(
    "kind", ["configuration", "model", "tokenizer within", "vision within", "adapter", "pickle by configuration"]
)
def test_no_answer_makes_armorm_run_what_a_folder_holds(kind: str, on_a_terminal: bool, tmp_path: Path) -> None:
    folder, marker = export(tmp_path).folder, tmp_path / "marker"
    hostile.KINDS[kind](folder, marker)
    for name in (CHECKSUMS_FILE, DESCRIPTION_FILE):  # whoever changes a folder may leave them out
        (folder / name).unlink()
    line = {"prompt": "Name a river.", "response": "The Rhône."}
    (tmp_path / "in.jsonl").write_text(json.dumps(line))
    words = ["score", "in.jsonl", "--model", str(folder)]
    code, said = with_yes(words, on_a_terminal=on_a_terminal, cwd=tmp_path)
    assert (code, marker.exists()) == (1, False), said
    assert "run the custom code" not in said
    assert said.count("armorm: backbone") == 1
    assert "Traceback" not in said

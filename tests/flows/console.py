"""Console blocks of the documentation, carried out as they stand: what is typed, and what is then seen."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from armorm.flows.stopping import SIGNALS

BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXIT_CODE = re.compile(r"# exit code (\d+)")
ARMORM = "import sys; sys.argv[0] = 'armorm'; from armorm.flows.cli.program import main; main()"


def usual_signals() -> None:
    """For a child of the tests, which may themselves run under `nohup` and ignore some."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@dataclass(frozen=True, slots=True)
class Typed:
    """A line after `$`, and the lines that are shown of what it prints; `..` stands for anything."""

    command: str
    seen: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """The code that the comment says, which is part of the line; else 0."""
        found = EXIT_CODE.search(self.command)
        return int(found[1]) if found else 0


def sections(page: Path) -> dict[str, list[Typed]]:
    """Headings of the second level to all that is typed below each."""
    chapters = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]
    found = {}
    for chapter in chapters:
        heading, _, text = chapter.partition("\n")
        found[heading] = [typed for block in BLOCK.findall(text) for typed in _typed(block)]
    return found


def _typed(block: str) -> list[Typed]:
    found: list[Typed] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(Typed(line[2:], ()))
        else:
            found[-1] = Typed(found[-1].command, (*found[-1].seen, line))
    return found


@dataclass(frozen=True)
class Terminal:
    """A folder in which commands are typed, with an `armorm` of the sources at hand."""

    folder: Path
    environment: Mapping[str, str]

    def follow(self, typed: list[Typed], **names: str) -> list[str]:
        """Types line after line, with names of the page replaced; gives what each printed."""
        return [self.type(line, **names) for line in typed]

    def type(self, line: Typed, **names: str) -> str:
        """Types a line; gives what it printed.

        Raises:
            AssertionError: the exit code is not the one that stands there, or a line that is shown is not printed.
        """
        command = _replaced(line.command, names)
        ended = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        printed = ended.stdout + ended.stderr
        assert ended.returncode == line.exit_code, f"$ {command}\n{printed}"
        at = 0
        for shown in filter(None, (_replaced(seen, names).strip() for seen in line.seen)):
            found = _pattern(shown).search(printed, at)
            assert found, f"$ {command}\n{printed}\nshows no {shown!r} (after the line before)"
            at = found.end()
        return printed


def _pattern(shown: str) -> re.Pattern[str]:
    """A pattern of a whole line, but for what `..` stands for; tables may have more space between two words."""
    words = (".*?".join(map(re.escape, word.split(".."))) for word in shown.split())
    return re.compile(r"^[ \t]*" + r"[ \t]+".join(words) + r"\s*?$", re.MULTILINE)


def terminal(folder: Path, **environment: str) -> Terminal:
    """A terminal in that folder, with `armorm` in PATH."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    program(programs / "armorm", f'exec {shlex.quote(sys.executable)} -c {shlex.quote(ARMORM)} "$@"')
    program(programs / "python", f'exec {shlex.quote(sys.executable)} "$@"')
    root = Path(__file__).parent.parent.parent
    return Terminal(
        folder,
        {
            **os.environ,
            **environment,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
        },
    )


def program(path: Path, script: str) -> None:
    """A shell script that can be called."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _replaced(text: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(name, value)
    return text

"""Memory of `armorm score` over a large file: does it grow with the file?

    python benchmarks/score_memory.py [--conversations 200000]

The command itself runs in a process of its own, on a folder in the published layout with a tiny backbone, and writes
JSON. Told is its resident memory, the peak in every tenth of the scores that it has printed, and the peak of all over
that of the first tenth.
"""

import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.measure import Peaks, memory_mb, options, packages
from tests.armorm.published import write_published

COMMAND = "import sys; sys.argv[0] = 'armorm'; from armorm.flows.cli.program import main; main()"


def write_rows(path: Path, n: int) -> None:
    """Two answers a prompt, each of 20 to 80 characters."""
    with path.open("w") as file:
        for number in range(n):
            line = {"prompt": f"question {number // 2}", "response": f"answer {number} {'x ' * (number % 30)}"}
            file.write(f"{json.dumps(line)}\n")


def main() -> None:
    """Print a table as markdown."""
    n = options(__doc__, conversations=200_000).parse_args().conversations
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_published(folder / "model")
        write_rows(folder / "in.jsonl", n)
        words = ["score", str(folder / "in.jsonl"), "--model", str(folder / "model"), "--format", "json"]
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", COMMAND, *words], stdout=subprocess.PIPE)
        n_done = 0
        with Peaks(partial(memory_mb, "VmRSS", process.pid)) as peaks:
            assert process.stdout
            for n_done, _ in enumerate(process.stdout, start=1):
                peaks.share = n_done / n
        assert (process.wait(), n_done) == (0, n)
    print(packages("torch"))
    print(f"{n:,} conversations, {time.perf_counter() - started:.0f} s")
    peaks.print_tenths()


if __name__ == "__main__":
    main()

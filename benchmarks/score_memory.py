"""Memory of `armorm score` over a large file: does it grow with the file?

    python benchmarks/score_memory.py [--conversations 200000]

The command itself runs in a process of its own, on a folder in the published layout with a tiny backbone, and writes
JSON. Told is its resident memory, the peak in every tenth of the scores that it has printed, and the peak of all over
that of the first tenth.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

from tests.armorm.published import write_published

EVERY_S = 0.02
COMMAND = "import sys; sys.argv[0] = 'armorm'; from armorm.flows.cli.program import main; main()"


def rss_mb(pid: int) -> float:
    """Resident memory of a process; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0.0)


def write_rows(path: Path, n: int) -> None:
    """Two answers a prompt, each of 20 to 80 characters."""
    with path.open("w") as file:
        for number in range(n):
            line = {"prompt": f"question {number // 2}", "response": f"answer {number} {'x ' * (number % 30)}"}
            file.write(f"{json.dumps(line)}\n")


def main() -> None:
    """Prints a table as markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=200_000)
    n = parser.parse_args().conversations
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_published(folder / "model")
        write_rows(folder / "in.jsonl", n)
        words = ["score", str(folder / "in.jsonl"), "--model", str(folder / "model"), "--format", "json"]
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", COMMAND, *words], stdout=subprocess.PIPE)
        peaks_mb, n_done, has_ended = [0.0] * 10, 0, threading.Event()

        def sample() -> None:
            while not has_ended.wait(EVERY_S):
                tenth = min(n_done * 10 // n, 9)
                peaks_mb[tenth] = max(peaks_mb[tenth], rss_mb(process.pid))

        sampler = threading.Thread(target=sample)
        sampler.start()
        assert process.stdout
        for _ in process.stdout:
            n_done += 1
        has_ended.set()
        sampler.join()
        assert (process.wait(), n_done) == (0, n)
    print(f"Python {platform.python_version()}, torch {version('torch')}")
    print(f"{n:,} conversations, {time.perf_counter() - started:.0f} s")
    print("| " + " | ".join(f"{10 * tenth} %" for tenth in range(1, 11)) + " | all over the first tenth |")
    print("| --- " * 11 + "|")
    cells = [f"{peak:.0f} MB" for peak in peaks_mb]
    print(f"| {' | '.join(cells)} | {max(peaks_mb) / peaks_mb[0]:.3f} |")


if __name__ == "__main__":
    main()

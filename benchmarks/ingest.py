"""Ingest against polars merely reading and hashing the same file: time, and peak memory, side by side.

    python benchmarks/ingest.py [--rows-scale 1.0] [--rounds 3] [--only hh-rlhf,..]

Each way is a process of its own, in turns. Three yardsticks: polars reads the file and hashes its rows (`hash_rows`,
not stable across versions); polars reads the file and every text in it gets its SHA-256, as ids need it; and the floor,
which also writes what was read as Parquet with zstd. Ratios are to the first of them, of seconds and of the processor's
seconds, which a shared machine disturbs less. Memory is the largest sum of resident memory of a process and its
children. Files are made once, below the folder of `--folder`.
"""

import hashlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import Peaks, options, packages, print_row, print_table

Row = dict[str, Any]


class Words:
    """Text of random words: slices of one long text, of log-normal length in characters."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        words = ["".join(self.rng.choices("etaoinshrdlucmfw", k=self.rng.randint(2, 9))) for _ in range(5000)]
        self.text = " ".join(
            self.rng.choice(words) + self.rng.choice(["", "", "", ".", ",", "\n"]) for _ in range(400_000)
        )

    def __call__(self, median: int) -> str:
        length = min(20_000, max(10, int(self.rng.lognormvariate(0, 0.6) * median)))
        start = self.rng.randrange(len(self.text) - length)
        return "x" + self.text[start : start + length]


def hh_rlhf(text: Words, number: int) -> Row:
    """Return a row as long as those of harmless-base: 1.4 kB."""
    turns = "".join(
        f"\n\nHuman: {text(90)}\n\nAssistant: {text(150)}" for _ in range(text.rng.choice([0, 0, 1, 1, 2, 3]))
    )
    context = f"{turns}\n\nHuman: {number} {text(90)}\n\nAssistant:"
    return {"chosen": f"{context} {text(180)}", "rejected": f"{context} {text(180)}"}


def beavertails(text: Words, number: int) -> Row:
    """Short rows with 14 booleans."""
    harms = {f"harm_{n}": False for n in range(14)}
    return {"prompt": f"{number} {text(70)}", "response": text(350), "category": harms, "is_safe": True}


def helpsteer(text: Words, number: int) -> Row:
    """Four rows a prompt, five ratings."""
    ratings = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
    return {"prompt": f"{number // 4} of them", "response": text(900)} | {
        name: text.rng.randint(0, 4) for name in ratings
    }


def feedback_collection(text: Words, number: int) -> Row:
    """About 10 kB a row, all text."""
    prompt, response, score = f"{number // 5} {text(900)}", text(900), str(text.rng.randint(1, 5))
    rubric = {f"orig_score{n}_description": text(120) for n in range(1, 6)}
    judge = f"###Task Description:\n{text(900)}\n{prompt}\n###Response to evaluate:\n{response}\n{text(1200)}"
    return {
        "orig_instruction": prompt,
        "orig_response": response,
        "orig_reference_answer": text(1200),
        "orig_criteria": text(120),
        **rubric,
        "orig_score": score,
        "orig_feedback": text(700),
        "instruction": judge,
        "input": "",
        "output": f"{text(700)} [RESULT] {score}",
    }


def ultrafeedback(text: Words, number: int) -> Row:
    """Four completions with four rationales each."""

    def completion() -> Row:
        def annotation() -> Row:
            return {"Rating": str(text.rng.randint(1, 5)), "Rationale": text(250)}

        kinds = {"Type": ["1"], "Rationale For Rating": text(150)}
        return {
            "annotations": {
                "instruction_following": annotation(),
                "honesty": annotation(),
                "truthfulness": annotation() | kinds,
                "helpfulness": annotation() | kinds,
            },
            "custom_system_prompt": text(100),
            "model": "m",
            "principle": "honesty",
            "response": text(900),
            "critique": text(900),
            "overall_score": float(text.rng.randint(1, 9)),
            "fine-grained_score": 3.5,
        }

    return {
        "source": "flan",
        "instruction": f"{number} {text(500)}",
        "models": ["a", "b", "c", "d"],
        "completions": [completion() for _ in range(4)],
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
    }


def prm(text: Words, number: int) -> Row:
    """Deep nesting: steps of completions."""
    steps = [
        {
            "completions": [{"text": text(120), "rating": 1, "flagged": None} for _ in range(text.rng.randint(1, 4))],
            "human_completion": None,
            "chosen_completion": 0,
        }
        for _ in range(8)
    ]
    return {
        "labeler": "someone",
        "timestamp": "2022-11-22T16:51:29",
        "generation": 6,
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {
            "problem": f"{number} {text(200)}",
            "ground_truth_solution": text(500),
            "ground_truth_answer": "4",
            "pre_generated_steps": [text(120) for _ in range(8)],
            "pre_generated_answer": "5",
            "pre_generated_verifier_score": 0.01,
        },
        "label": {"steps": steps, "total_time": 1000, "finish_reason": "found_error"},
    }


CASES: dict[str, tuple[str, Callable[[Words, int], Row], int, str]] = {
    "hh-rlhf": ("flat", hh_rlhf, 1_000_000, "jsonl"),
    "beavertails-30k": ("flat", beavertails, 300_000, "jsonl"),
    "helpsteer": ("flat", helpsteer, 200_000, "jsonl"),
    "feedback-collection": ("flat", feedback_collection, 100_000, "json"),
    "ultrafeedback": ("nested", ultrafeedback, 32_000, "jsonl"),
    "prm-phase-2": ("nested", prm, 97_782, "jsonl"),
}
"""Dataset to its kind, its rows, how many, and the format."""


def write(path: Path, row: Callable[[Words, int], Row], n_rows: int) -> None:
    text = Words(0)
    array = path.suffix == ".json"
    with path.open("w") as file:
        file.write("[" if array else "")
        for number in range(n_rows):
            file.write(f"{',' if array and number else ''}{json.dumps(row(text, number), ensure_ascii=False)}\n")
        file.write("]" if array else "")


def ours(name: str, path: Path) -> int:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        return ingest(name, path, Path(folder))


def ingest(name: str, path: Path, store: Path) -> int:
    """Ingest one file into a store; return how many rows were kept."""
    from armorm.features.conversation import SplitFractions
    from armorm.features.ingest.dataset import DatasetFiles, ingest_dataset
    from armorm.features.sources import complete_options, find_source
    from armorm.features.store import Store

    source = find_source(name)
    with Store(store).writing("benchmark") as writer:
        files = DatasetFiles(source, path, complete_options(source, {}))
        done = ingest_dataset(writer, files, splits=SplitFractions())
    return sum(done.artifact.summary["outcomes"]["kept"].values())


def polars(name: str, path: Path) -> int:
    return len(read(path).hash_rows())


def polars_sha256(name: str, path: Path) -> int:
    return len(hashed(read(path)))


def floor(name: str, path: Path) -> int:
    """Return what any ingest that names texts by SHA-256 and keeps them compressed has to do, and nothing else."""
    frame = hashed(read(path))
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:
        frame.write_parquet(file.name, compression="zstd", compression_level=1, statistics=False)
    return len(frame)


def read(path: Path) -> Any:
    import polars as pl

    return pl.read_json(path, infer_schema_length=None) if path.suffix == ".json" else pl.read_ndjson(path)


def hashed(frame: Any) -> Any:
    for text in texts(frame):
        hashlib.sha256(text).digest()
    return frame


def texts(frame: Any) -> Iterator[bytes]:
    """Yield every text of a frame, nested ones too."""
    import polars as pl

    for column in frame.iter_columns():
        while column.dtype == pl.List:
            column = column.explode()
        if column.dtype == pl.Struct:
            yield from texts(column.struct.unnest())
        elif column.dtype == pl.String:
            yield from column.drop_nulls().cast(pl.Binary)


WAYS = {"armorm": ours, "polars": polars, "polars + SHA-256": polars_sha256, "floor": floor}


class Taken(NamedTuple):
    """By one run of one way, without the interpreter's start."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    """The memory of the process and its children."""


def run(way: str, name: str, path: Path) -> Taken:
    command = [sys.executable, __file__, "--way", way, "--only", name, "--folder", str(path.parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."})
    with Peaks(lambda: resident(process.pid), every_s=0.05) as peaks:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    seconds, cpu_seconds = map(float, output.split()[-2:])
    return Taken(seconds, cpu_seconds, peaks.most_mb)


def cpu_seconds() -> float:
    """Return the seconds of this process and the children that it has waited for."""
    return sum(os.times()[:4])


def resident(pid: int, *, files: bool = True) -> float:
    """MB of a process and all below it, with or without the pages of mapped files and shared memory."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        _, pages, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    except (OSError, ValueError):
        return 0.0
    own = (pages if files else pages - shared) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return own + sum(resident(int(child), files=files) for child in children)


def main() -> None:
    folder = Path(tempfile.gettempdir()) / "armorm-benchmark"
    parser = options(__doc__, rows_scale=1.0, rounds=3, only=list(CASES), folder=folder)
    parser.add_argument("--way", choices=WAYS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.way:
        (name,) = given.only
        path = next(given.folder.glob(f"{name}.json*"))
        start, cpu_start = time.perf_counter(), cpu_seconds()
        WAYS[given.way](name, path)
        print(time.perf_counter() - start, cpu_seconds() - cpu_start)
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, {packages('polars', 'pyarrow', 'orjson')}\n")
    ratios_of = ["ratio", "floor's ratio", "CPU ratio", "floor's CPU ratio"]
    print_table(["dataset", "kind", "rows", "MB", *(f"{way} s" for way in WAYS), *ratios_of, "peak MB"])
    for name in given.only:
        kind, row, n_rows, suffix = CASES[name]
        n_rows = int(n_rows * given.rows_scale)
        path = given.folder / f"{name}.{suffix}"
        if not path.exists():
            write(path, row, n_rows)
        taken: dict[str, list[Taken]] = {way: [] for way in WAYS}
        for _ in range(given.rounds):
            for way in WAYS:
                taken[way].append(run(way, name, path))
        seconds = {way: statistics.median(of.seconds for of in runs) for way, runs in taken.items()}
        cpu = {way: statistics.median(of.cpu_seconds for of in runs) for way, runs in taken.items()}
        ratios = [of[way] / of["polars"] for of in (seconds, cpu) for way in ("armorm", "floor")]
        peak = max(of.peak_mb for of in taken["armorm"])
        cells = [f"{seconds[way]:.1f}" for way in WAYS] + [f"{ratio:.1f}" for ratio in ratios] + [f"{peak:.0f}"]
        print_row(name, kind, f"{n_rows:,}", f"{path.stat().st_size / 1e6:.0f}", *cells)


if __name__ == "__main__":
    main()

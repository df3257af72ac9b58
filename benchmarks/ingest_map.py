"""Ingest against what one would write with `datasets`: rows a second, processor seconds, memory, and the same result.

    python benchmarks/ingest_map.py [--rows 20000,200000] [--rounds 2] [--only helpsteer,..] [--ours]

Flat JSONL files of made-up text, in three shapes: HelpSteer (five ratings), BeaverTails (one label) and HH-RLHF (pairs
of dialogues). Every 50th row has an answer without text and every 100th repeats the row before it.

- `map`: `load_dataset("json", ..)`, `.map` with a plain function of one row, `.filter` of rows in which a turn has no
  text, `.to_parquet`. `map, 2 processes` gives `num_proc=2` to `.map` and to `.filter`. The cache of datasets is empty.
- `armorm`: `armorm ingest` into an empty store, with its default: a process a core from 64 MiB of file on, and this
  process alone below. `armorm, 1 core` may use one core only, and so works in one process at any size.

A round runs each way once, in turn, in a process of its own; time is from before the import of the libraries until the
result is written, and figures are medians over the rounds. Processor seconds are those of the process and its children;
they say more than wall seconds where a machine is shared. Ratios are to `armorm` with the same file, so that 2 means
twice as long. Peak is the largest sum of resident memory of a process and its children; of that, `own` leaves out the
pages of mapped files, which the system can take back: datasets maps its cache. Pages that a process shares with the one
it was forked from count in both. `--ours` leaves out `map`, for memory at sizes at which `map` takes long.

The work is not the same. Ours also makes ids of texts, prompts and rows, splits, HelpSteer's pairs, a table of what
became of each native row, rejects with their reasons, statistics, and drops what repeats; it checks types, Unicode and
the order of turns. What both have to agree in is checked in the first round, outside of the timed part: the multiset of
(SHA-256 of the messages as JSON, objective, value) for ratings and of (chosen messages, rejected messages), as SHA-256,
for pairs, from the canonical tables and from the Parquet file of `map`, whose repeated rows count once. The program
ends with an error where they differ.
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow.parquet as pq

from armorm.features.store import Store
from benchmarks.ingest import Row, Words, beavertails, cpu_seconds, helpsteer, hh_rlhf, ingest, resident, write
from benchmarks.measure import Peaks, options, packages, print_row, print_table

ATTRIBUTES: Final = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")

Said = Counter[tuple[object, ...]]
"""Ratings or pairs, as the docstring says."""


def unsafe_too(text: Words, number: int) -> Row:
    """Return a row of BeaverTails, every other one of them unsafe."""
    row = beavertails(text, number)
    row["is_safe"] = number % 2 == 0
    row["category"]["harm_0"] = not row["is_safe"]
    return row


def with_faults(shape: Callable[[Words, int], Row], answer: str) -> Callable[[Words, int], Row]:
    """Let rows repeat the one before, or have no text after the last marker of the column `answer`."""
    last: Row = {}

    def row(text: Words, number: int) -> Row:
        nonlocal last
        if number % 100 != 99:
            last = shape(text, number)
        if number % 50 == 7:
            context, marker, _ = last[answer].rpartition("\n\nAssistant:")
            last[answer] = f"{context}{marker} "
        return last

    return row


def map_single_turn(row: Row) -> list[Row]:
    return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]


def map_helpsteer(row: Row) -> Row:
    values = {f"helpsteer-{name}": (row[name] + 0.5) / 5 for name in ATTRIBUTES}
    return {"messages": map_single_turn(row)} | values


def map_beavertails(row: Row) -> Row:
    return {"messages": map_single_turn(row), "beavertails-is_safe": float(row["is_safe"])}


def map_hh_rlhf(row: Row) -> Row:
    """Parse the context up to the last answer once; both sides have it."""
    context, marker, chosen = row["chosen"].rpartition("\n\nAssistant:")
    assert row["rejected"].startswith(context + marker)
    rejected = row["rejected"].removeprefix(context + marker)
    turns = re.split(r"\n\n(Human|Assistant): ?", context)[1:]
    prompt = [
        {"role": "user" if speaker == "Human" else "assistant", "content": content}
        for speaker, content in zip(turns[::2], turns[1::2], strict=True)
    ]
    sides = {"chosen": chosen, "rejected": rejected}
    return {
        side: [*prompt, {"role": "assistant", "content": answer.removeprefix(" ")}] for side, answer in sides.items()
    }


def has_text(row: Row) -> bool:
    columns = [row[name] for name in ("messages", "chosen", "rejected") if name in row]
    return all(turn["content"].strip() for messages in columns for turn in messages)


class Case(NamedTuple):
    """A shape of rows, and what `map` does with one."""

    shape: Callable[[Words, int], Row]
    map_row: Callable[[Row], Row]


CASES: Final = {
    "helpsteer": Case(with_faults(helpsteer, "response"), map_helpsteer),
    "beavertails-30k": Case(with_faults(unsafe_too, "response"), map_beavertails),
    "hh-rlhf": Case(with_faults(hh_rlhf, "rejected"), map_hh_rlhf),
}


def by_armorm(name: str, path: Path, to: Path) -> None:
    ingest(name, path, to / "store")


def by_armorm_on_one_core(name: str, path: Path, to: Path) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    by_armorm(name, path, to)


def by_map(name: str, path: Path, to: Path, *, n_processes: int | None = None) -> None:
    from datasets import load_dataset  # type: ignore[import-untyped]

    rows = load_dataset("json", data_files=str(path), split="train")
    mapped = rows.map(CASES[name].map_row, remove_columns=rows.column_names, num_proc=n_processes)
    mapped.filter(has_text, num_proc=n_processes).to_parquet(to / "rows.parquet")


WAYS: Final[dict[str, Callable[[str, Path, Path], None]]] = {
    "armorm": by_armorm,
    "armorm, 1 core": by_armorm_on_one_core,
    "map": by_map,
    "map, 2 processes": partial(by_map, n_processes=2),
}


class Taken(NamedTuple):
    """Time and memory of one run of one way, without the interpreter's start."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    own_mb: float


def run(way: str, name: str, path: Path, to: Path) -> Taken:
    """Run one way in a new process, with an empty store or an empty cache below the folder `to`."""
    arguments = ["--way", way, "--only", name, "--file", str(path), "--folder", str(to)]
    settings = {"PYTHONPATH": ".", "HF_HOME": str(to / "hf"), "HF_DATASETS_CACHE": str(to / "hf" / "datasets")}
    settings |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, __file__, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | settings)
    with (
        Peaks(lambda: resident(process.pid), every_s=0.05) as peak,
        Peaks(lambda: resident(process.pid, files=False), every_s=0.05) as own,
    ):
        output, _ = process.communicate()
    assert process.returncode == 0, output
    seconds, cpu = map(float, output.split()[-2:])
    return Taken(seconds, cpu, peak.most_mb, own.most_mb)


def digest(messages: list[Row]) -> bytes:
    return sha256(json.dumps([[turn["role"], turn["content"]] for turn in messages]).encode()).digest()


def said_by_armorm(name: str, to: Path) -> Said:
    """Return what the canonical tables say, by the messages themselves instead of their ids."""
    store = Store(to / "store")
    objects = store.head().within("ingest")[name].objects

    def table(kind: str, *columns: str) -> list[list[Any]]:
        files = [store.objects.path(ref) for part, ref in sorted(objects.items()) if part.startswith(f"{kind}/")]
        rows = pq.read_table(files, columns=list(columns))
        return [rows[column].to_pylist() for column in columns]

    ids, messages = table("conversations", "conversation_id", "messages")
    digests = dict(zip(ids, map(digest, messages), strict=True))
    if name == "hh-rlhf":
        pairs = table("preferences", "chosen_id", "rejected_id")
        return Counter((digests[chosen], digests[rejected]) for chosen, rejected in zip(*pairs, strict=True))
    ratings = table("ratings", "conversation_id", "objective", "value")
    return Counter((digests[id], objective, value) for id, objective, value in zip(*ratings, strict=True))


def said_by_map(name: str, to: Path) -> Said:
    """Return what the Parquet file says; rows that repeat each other count once."""
    table = pq.read_table(to / "rows.parquet")
    texts = ("chosen", "rejected") if name == "hh-rlhf" else ("messages",)
    values = [column for column in table.column_names if column not in texts]
    columns = [map(digest, table[column].to_pylist()) for column in texts]
    rows = set(zip(*columns, *(table[column].to_pylist() for column in values), strict=True))
    if name == "hh-rlhf":
        return Counter(rows)
    return Counter((row[0], objective, value) for row in rows for objective, value in zip(values, row[1:], strict=True))


def compare(name: str, n_rows: int, ways: dict[str, Said]) -> str:
    """Return how many ratings or pairs each way has in common with `armorm`, in words; end where any differ."""
    ours = ways["armorm"]
    unlike = {way: (said - ours).total() + (ours - said).total() for way, said in ways.items()}
    what = "pairs" if name == "hh-rlhf" else "ratings"
    if any(unlike.values()):
        sys.exit(f"{name}, {n_rows:,} rows: of {ours.total():,} {what} differ {unlike}")
    return f"- {name}, {n_rows:,} rows: all {ours.total():,} {what} agree in all {len(ways)} ways"


def measure(name: str, n_rows: int, rounds: int, folder: Path, ways: Sequence[str]) -> str:
    """Print a row for each way; return what was found when the results were compared."""
    path = folder / f"{name}-{n_rows}.jsonl"
    if not path.exists():
        write(path, CASES[name].shape, n_rows)
    taken: dict[str, list[Taken]] = {way: [] for way in ways}
    said: dict[str, Said] = {}
    for number in range(rounds):
        for way in ways:
            with tempfile.TemporaryDirectory(dir=folder) as to:
                taken[way].append(run(way, name, path, Path(to)))
                if not number:
                    said[way] = (said_by_armorm if way.startswith("armorm") else said_by_map)(name, Path(to))
    medians = {way: Taken(*map(statistics.median, zip(*runs, strict=True))) for way, runs in taken.items()}
    ours = medians["armorm"]
    for way, of in medians.items():
        ratios = [f"{of.seconds / ours.seconds:.2f}", f"{of.cpu_seconds / ours.cpu_seconds:.2f}"]
        seconds = [f"{of.seconds:.1f}", f"{of.cpu_seconds:.1f}", f"{n_rows / of.seconds:,.0f}"]
        megabytes = f"{path.stat().st_size / 1e6:.0f}"
        print_row(name, f"{n_rows:,}", megabytes, way, *seconds, *ratios, f"{of.peak_mb:.0f}", f"{of.own_mb:.0f}")
    return compare(name, n_rows, said)


def main() -> None:
    folder = Path(tempfile.gettempdir()) / "armorm-benchmark-map"
    parser = options(__doc__, rows=[20_000, 200_000], rounds=2, only=list(CASES), ours=False, folder=folder)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--file", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.way:
        start, cpu_start = time.perf_counter(), cpu_seconds()
        WAYS[given.way](given.only[0], given.file, given.folder)
        print(time.perf_counter() - start, cpu_seconds() - cpu_start)
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, {packages('datasets', 'pyarrow', 'polars', 'orjson')}\n")
    columns = ["dataset", "rows", "MB", "way", "wall s", "processor s", "rows/s", "ratio, wall", "ratio, processor"]
    print_table([*columns, "peak MB", "own MB"])
    ways = [way for way in WAYS if way.startswith("armorm") or not given.ours]
    found = [measure(name, n_rows, given.rounds, given.folder, ways) for name in given.only for n_rows in given.rows]
    print("", *found, sep="\n")


if __name__ == "__main__":
    main()

"""Memory and time of the regression over a store as a whole: `statistics` and `regress`, from shards on disk.

    python benchmarks/ridge_store.py [--rows 30000] [--features 4096] [--even]

A store of the paper's eight datasets and 19 objectives in proportion, or with `--even` in equal parts, so that few rows
too give each objective more of them than there are features; vectors are random, float16, in shards of 4,096. Both
stages run in a process of its own. Told are its CPU seconds, the largest memory which is its own (RssAnon), and the
largest of all (VmHWM), with the pages of shards that it maps, which the system takes back when it needs them.
"""

import hashlib
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from armorm.config import RegressionConfig
from armorm.features.checks.contamination import CONTAMINATION, ContaminationSettings
from armorm.features.objectives import OBJECTIVES, Scale
from armorm.features.store import Made, Recipe, Store, Writer
from armorm.features.tables import SCHEMAS, make_table, write_parquet
from armorm.stages.regress import REGRESS
from armorm.stages.statistics import STATISTICS
from benchmarks.measure import Peaks, in_process, memory_mb, options, packages, print_row, print_table, write_vectors

BACKBONE = "b" * 32
SCALE = Scale(0, 4)

DATASETS = {  # rows in the paper, and objectives
    "helpsteer": (35_000, OBJECTIVES[:5]),
    "ultrafeedback": (240_000, OBJECTIVES[5:10]),
    "beavertails-30k": (30_000, OBJECTIVES[10:11]),
    "code-ultrafeedback": (50_000, OBJECTIVES[14:19]),
    "prometheus": (200_000, OBJECTIVES[11:12]),
    "argilla-capybara": (15_000, OBJECTIVES[12:13]),
    "argilla-openorca": (13_000, OBJECTIVES[13:14]),
    "argilla-math": (2_400, OBJECTIVES[6:7]),
}


def digest(text: str) -> str:
    """32 hex digits, as an id has."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def fill(writer: Writer, name: str, n_rows: int, objectives: tuple[str, ...], n_features: int) -> None:
    """One dataset, two answers a prompt, and its vectors."""
    rng = np.random.default_rng(len(name))
    ids = [digest(f"{name} {row}") for row in range(n_rows)]
    prompts = [digest(f"{name} prompt {row // 2}") for row in range(n_rows)]
    splits = np.repeat(rng.choice(["train", "validation", "test"], n_rows // 2 + 1, p=[0.8, 0.1, 0.1]), 2)[:n_rows]
    raw = rng.integers(0, 5, size=(n_rows, len(objectives))).astype(np.float64)
    rows = np.repeat(np.arange(n_rows), len(objectives))
    columns: dict[str, Any] = {
        "dataset": np.full(len(rows), name, object),
        "source_row": np.array(ids, object)[rows],
        "conversation_id": np.array(ids, object)[rows],
        "prompt_id": np.array(prompts, object)[rows],
        "objective": np.tile(np.array(objectives, object), n_rows),
        "raw": raw.reshape(-1),
        "value": (raw.reshape(-1) + 0.5) / 5,
        "split": splits.astype(object)[rows],
    }
    ratings = pa.table(columns, schema=SCHEMAS["ratings"])
    tables = {"ratings": ratings} | {n: make_table(n, []) for n in ("conversations", "preferences", "rejects")}
    objects = {n: writer.store.objects.put("parquet", partial(write_parquet, table=t)) for n, t in tables.items()}
    summary = {
        "dataset": name,
        "upstream": None,
        "licence": "none",
        "evaluation": False,
        "outcomes": {"kept": {"": n_rows}},
        "parts_refused": 0,
        "conversations": n_rows,
        "ratings": len(rows),
        "preferences": 0,
        "scales": {objective: asdict(SCALE) for objective in objectives},
    }
    writer.commit(Recipe(f"ingest/{name}", "ingest", 1, {}, {"n": objects["ratings"].sha256}), Made(objects, summary))
    write_vectors(writer, BACKBONE, "conversation", ids, lambda shape: rng.standard_normal(shape, np.float32) + 0.5)


def prepare(folder: Path, n_rows: int, n_features: int, even: bool) -> None:
    """The store."""
    total = sum(rows for rows, _ in DATASETS.values())
    with Store(folder).writing("benchmark") as writer:
        writer.commit(Recipe(f"backbone/{BACKBONE}", "backbone", 1, {}, {}), Made({}, {"hidden_size": n_features}))
        for name, (rows, objectives) in DATASETS.items():
            fill(writer, name, n_rows // len(DATASETS) if even else n_rows * rows // total, objectives, n_features)
        CONTAMINATION.ensure(writer, ContaminationSettings())


def fit(folder: Path) -> tuple[float, ...]:
    """Run both stages; return the CPU seconds of each, and the memory in MB: of its own before and at most, and all."""
    before = memory_mb("RssAnon")
    with Peaks(partial(memory_mb, "RssAnon")) as own, Store(folder).writing("benchmark") as writer:
        began = time.process_time()
        STATISTICS.ensure(writer, None, BACKBONE)
        counted = time.process_time()
        REGRESS.ensure(writer, RegressionConfig(), BACKBONE)
    return counted - began, time.process_time() - counted, before, own.most_mb, memory_mb("VmHWM")


def main() -> None:
    """Print a row of a table as markdown."""
    given = options(__doc__, rows=30_000, features=4096, even=False).parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "store"
        in_process(prepare, folder, given.rows, given.features, given.even)
        counted_s, fitted_s, *memory = in_process(fit, folder)
    print(packages("numpy", "scipy"))
    print_table(["rows", "features", "statistics, CPU s", "regress, CPU s", "RssAnon before", "at most", "VmHWM"])
    cells = [f"{given.rows:,}", f"{given.features:,}", f"{counted_s:.0f}", f"{fitted_s:.0f}"]
    print_row(*cells, *(f"{mb / 1024:.2f} GB" for mb in memory))


if __name__ == "__main__":
    main()

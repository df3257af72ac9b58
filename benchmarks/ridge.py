"""Ridge from statistics beside scikit-learn: a whole fit, one after an edit, and the parts of one at the paper's size.

    python benchmarks/ridge.py [--rows 60000] [--features 1024] [--rounds 3]
    python benchmarks/ridge.py --parts [--paper-rows 585000] [--paper-features 4096]

Rows are shared out among the paper's eight datasets, whose 19 objectives are labelled in eight ways; features look like
hidden states (a large mean, a falling spectrum) and are float32, as shards are read. All ways choose among nine
alphas on validation rows and fit again on both, in turn within one process; times are CPU seconds and wall seconds.
Run it with as many threads as there are free cores (OMP_NUM_THREADS): BLAS waits badly for a thread that has none.
"""

import argparse
import os
import platform
import statistics as median_of
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.linalg import LinAlgWarning
from sklearn.linear_model import Ridge

from armorm.maths.ridge import ALPHAS, Part, fit_parts, parts_of, solve_path
from armorm.maths.statistics import RidgeStatistics

Array = np.ndarray[Any, Any]

DATASETS = {  # rows in the paper, and objectives
    "helpsteer": (35_000, 5),
    "ultrafeedback": (240_000, 5),
    "beavertails": (30_000, 1),
    "code-ultrafeedback": (50_000, 5),
    "prometheus": (200_000, 1),
    "argilla-capybara": (15_000, 1),
    "argilla-openorca": (13_000, 1),
    "argilla-math": (2_400, 0),  # rates one of UltraFeedback's
}
K = 19
SHARD_ROWS = 4096


def problem(n: int, d: int) -> tuple[Array, Array, dict[str, Array], list[str]]:
    """Features `[N, D]`, ratings `[N, K]`, splits and names."""
    rng = np.random.default_rng(0)
    mixing = (rng.normal(size=(d, d)) / np.sqrt(d) * np.geomspace(3, 0.1, d)[:, None]).astype(np.float32)
    X_ND = np.empty((n, d), np.float32)
    for start in range(0, n, SHARD_ROWS):
        block = X_ND[start : start + SHARD_ROWS]
        block[:] = (rng.standard_normal(block.shape, np.float32) @ mixing + 0.5).astype(np.float16)
    shares = np.array([rows for rows, _ in DATASETS.values()])
    dataset_N = rng.choice(len(DATASETS), size=n, p=shares / shares.sum())
    Y_NK, first = np.full((n, K), np.nan), 0
    truth_NK = X_ND @ (rng.normal(size=(d, K)) / d).astype(np.float32) + 0.3 * rng.normal(size=(n, K))
    for number, (name, (_, n_objectives)) in enumerate(DATASETS.items()):
        columns = np.arange(first, first + n_objectives) if n_objectives else np.array([6])
        rows = np.flatnonzero(dataset_N == number)
        Y_NK[np.ix_(rows, columns)] = truth_NK[np.ix_(rows, columns)]
        first += n_objectives
        assert len(rows), name
    split_N = rng.choice(3, size=n, p=[0.8, 0.1, 0.1])
    return X_ND, Y_NK, {"train": split_N == 0, "validation": split_N == 1}, [f"objective-{k}" for k in range(K)]


def from_statistics(X_ND: Array, Y_NK: Array, splits: dict[str, Array], names: list[str]) -> Array:
    """`[K, D]`, all counted and solved."""
    return fit_parts(kept(parts_of(X_ND, Y_NK, names, splits)), names).W_KD


def kept(parts: list[Part]) -> list[Part]:
    """Counted once, where two sets of objectives ask for the same."""

    def of(part: Part) -> Part:
        arrays = {split: part.statistics(split).arrays() for split in ("train", "validation")}
        return Part(part.objectives, lambda split: RidgeStatistics.of_arrays(arrays[split]), part.rows)

    return [of(part) for part in parts]


def alone(X_ND: Array, Y_NK: Array, splits: dict[str, Array], names: list[str]) -> Array:
    """`[K, D]`, 9 fits and a last one for each objective."""
    return np.concatenate([_sklearn(X_ND, Y_NK[:, [k]], splits) for k in range(K)])


def together(X_ND: Array, Y_NK: Array, splits: dict[str, Array], names: list[str]) -> Array:
    """`[K, D]`, one fit for all objectives of the same rows and each alpha."""
    _, group_of = np.unique(~np.isnan(Y_NK), axis=1, return_inverse=True)
    W_KD = np.empty((K, X_ND.shape[1]))
    for group in np.unique(group_of):
        columns = np.flatnonzero(group_of == group)
        W_KD[columns] = _sklearn(X_ND, Y_NK[:, columns], splits)
    return W_KD


def _sklearn(X_ND: Array, Y_NG: Array, splits: dict[str, Array]) -> Array:
    labelled_N = ~np.isnan(Y_NG[:, 0])
    train, validation = (np.flatnonzero(rows_N & labelled_N) for rows_N in splits.values())
    (X, Y), (X_v, Y_v) = ((X_ND[rows], Y_NG[rows].astype(X_ND.dtype)) for rows in (train, validation))
    fits = [Ridge(alpha=alpha, fit_intercept=False).fit(X, Y) for alpha in ALPHAS]
    errors_AG = [((fit.predict(X_v).reshape(Y_v.shape) - Y_v) ** 2).mean(axis=0) for fit in fits]
    best_G = np.argmin(errors_AG, axis=0)
    X, Y = np.concatenate([X, X_v]), np.concatenate([Y, Y_v])
    W_GD = np.empty((Y.shape[1], X.shape[1]))
    for a in np.unique(best_G):
        at = np.flatnonzero(best_G == a)
        W_GD[at] = Ridge(alpha=ALPHAS[a], fit_intercept=False).fit(X, Y[:, at]).coef_.reshape(len(at), -1)
    return W_GD


class Edited:
    """The statistics on disk, and a shard whose ratings have all changed."""

    def __init__(self, folder: Path, X_ND: Array, Y_NK: Array, splits: dict[str, Array], names: list[str]) -> None:
        self.folder, self.problem = folder, (X_ND, Y_NK, splits, names)
        self.order: dict[tuple[str, ...], int] = {}
        for number, part in enumerate(parts_of(X_ND, Y_NK, names, splits)):
            self.order[part.objectives] = number
            for split in splits:
                save_file(part.statistics(split).arrays(), folder / f"{number}-{split}")
        self.after_NK = Y_NK.copy()
        self.after_NK[:SHARD_ROWS] = 1 - Y_NK[:SHARD_ROWS]

    def fit(self) -> Array:
        """Reads the statistics, takes the shard's old rows out, adds its new ones, and fits."""
        X_ND, Y_NK, splits, names = self.problem
        shard = {split: rows_N[:SHARD_ROWS] for split, rows_N in splits.items()}
        old, new = (parts_of(X_ND[:SHARD_ROWS], Y[:SHARD_ROWS], names, shard) for Y in (Y_NK, self.after_NK))
        found: dict[tuple[int, str], dict[str, Array]] = {}
        for objectives, number in self.order.items():
            for split in splits:
                statistics = RidgeStatistics.of_arrays(load_file(self.folder / f"{number}-{split}"))
                for parts, sign in ((new, 1), (old, -1)):
                    for part in parts:
                        if part.objectives == objectives:
                            X, Y = part.rows(split)
                            statistics.add(X, Y, sign=sign)  # type: ignore[arg-type]
                found[number, split] = statistics.arrays()

        def part_of(objectives: tuple[str, ...], number: int) -> Part:
            return Part(objectives, lambda split: RidgeStatistics.of_arrays(found[number, split]), new[0].rows)

        return fit_parts([part_of(*item) for item in self.order.items()], names).W_KD


def compare(n: int, d: int, rounds: int) -> Iterator[str]:
    """All ways in turn."""
    given = problem(n, d)
    exact = (given[0].astype(np.float64), *given[1:])
    with tempfile.TemporaryDirectory() as folder:
        edited = Edited(Path(folder), *given)
        ways: dict[str, Callable[[], Array]] = {
            "from statistics": lambda: from_statistics(*given),
            f"from statistics, {SHARD_ROWS:,} rows edited": edited.fit,
            "scikit-learn, multi-output fits, float32": lambda: together(*given),
            "scikit-learn, multi-output fits, float64": lambda: together(*exact),
            "scikit-learn, each alone, float32": lambda: alone(*given),
            "scikit-learn, each alone, float64": lambda: alone(*exact),
        }
        cpu: dict[str, list[float]] = {name: [] for name in ways}
        wall: dict[str, list[float]] = {name: [] for name in ways}
        found: dict[str, Array] = {}
        for _ in range(rounds):
            for name, way in ways.items():
                began = time.perf_counter(), time.process_time()
                found[name] = way()
                wall[name].append(time.perf_counter() - began[0])
                cpu[name].append(time.process_time() - began[1])
        scratch = from_statistics(given[0], edited.after_NK, *given[2:])
    truth = found["scikit-learn, each alone, float64"]
    yield "| way | CPU, s | wall, s | CPU, times `from statistics` | CPU, times the edited | furthest weights |"
    yield "| --- | --- | --- | --- | --- | --- |"
    names = list(ways)
    for name in names:
        against = scratch if name == names[1] else truth
        off = np.linalg.norm(found[name] - against, axis=1) / np.linalg.norm(against, axis=1)
        times = [median_of.median([o / m for o, m in zip(cpu[name], cpu[one], strict=True)]) for one in names[:2]]
        yield (
            f"| {name} | {median_of.median(cpu[name]):.2f} | {median_of.median(wall[name]):.2f} | {times[0]:.1f} | "
            f"{times[1]:.1f} | {off.max():.1e} |"
        )


def peak(n: int, d: int) -> str:
    """Of a process that does nothing but the fit, over features in a file that it maps."""
    with tempfile.TemporaryDirectory() as folder:
        X_ND, Y_NK, splits, _ = problem(n, d)
        np.save(f"{folder}/x.npy", X_ND)
        np.savez(f"{folder}/rest.npz", Y=Y_NK, train=splits["train"], validation=splits["validation"])
        run = subprocess.run(
            [sys.executable, __file__, "--peak-of", folder], capture_output=True, text=True, check=True
        )
    return f"Largest resident memory of a process that fits so from a memory map: {run.stdout.strip()}."


def peak_of(folder: Path) -> str:
    rest = np.load(folder / "rest.npz")
    splits = {name: rest[name] for name in ("train", "validation")}
    from_statistics(np.load(folder / "x.npy", mmap_mode="r"), rest["Y"], splits, [f"objective-{k}" for k in range(K)])
    mapped = (folder / "x.npy").stat().st_size
    return f"{_peak_bytes() / 1e9:.2f} GB, of which up to {mapped / 1e9:.2f} GB are the mapped file"


def _peak_bytes() -> int:
    """Not `ru_maxrss`, which a new process takes over from the one that has started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def parts(n: int, d: int, rounds: int) -> Iterator[str]:
    """A fit at the paper's size from what its parts take, over a shard of a real store; added up, never run."""
    from armorm.features.store import Made, Recipe, Store
    from armorm.features.vectors.shards import Feature, FeatureReader, slot_of, write_shard
    from armorm.stages.common import put_tensors, read_arrays

    rng = np.random.default_rng(0)
    n_sets, n_parts, n_blocks = 8, len(DATASETS), -(-int(0.9 * n) // SHARD_ROWS)
    n_refits = 12
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        ids = [f"{i:032x}" for i in range(SHARD_ROWS)]
        features = [
            Feature("conversation", id, 7, False, (0.5 + rng.standard_normal(d, np.float32)).astype(np.float32))
            for id in ids
        ]
        with store.writing("benchmark") as writer:
            objects = write_shard(store, "b" * 32, {}, features, vector_type="float16")
            del features
            backbone = Recipe("backbone/" + "b" * 32, "backbone", 1, {}, {})
            writer.commit_all(
                [
                    (backbone, Made({}, {"hidden_size": d})),
                    (Recipe(slot_of("b" * 32, objects["shard"]), "embed", 1, {}, {}), Made(objects)),
                ]
            )
        reader = FeatureReader(store, "b" * 32)
        places = reader.places("conversation", ids)
        Y_NG, counted = rng.random((SHARD_ROWS, 5)), RidgeStatistics.zeros(d, 5)
        reader.read(places)  # checks the file, once
        took: dict[str, list[float]] = {name: [] for name in ("read", "count", "solve", "errors", "keep", "load")}

        def timed(name: str, do: Callable[[], Any]) -> Any:
            began = time.process_time()
            result = do()
            took[name].append(time.process_time() - began)
            return result

        for _ in range(rounds):
            X_ND = timed("read", lambda: reader.read(places))
            timed("count", lambda X_ND=X_ND: counted.add(X_ND, Y_NG))
            del X_ND
            path_AGD = timed("solve", lambda: solve_path(counted, ALPHAS[:1]))
            timed("errors", lambda path_AGD=path_AGD: counted.mse(np.repeat(path_AGD, len(ALPHAS), axis=0)))
            ref = timed("keep", lambda: put_tensors(store, counted.arrays()))
            timed("load", lambda ref=ref: RidgeStatistics.of_arrays(read_arrays(store, ref)))
    what = {
        "read": (f"reading {SHARD_ROWS:,} rows of a float16 shard", n_blocks),
        "count": (f"adding {SHARD_ROWS:,} rows", n_blocks),
        "solve": ("one factorisation, five objectives", n_sets * len(ALPHAS) + n_refits),
        "errors": ("errors of nine alphas, five objectives", 2 * n_sets),
        "keep": ("keeping the statistics of a part and split", 2 * n_parts),
        "load": ("loading them", 2 * (n_parts + 1)),
    }
    yield f"| part, D = {d:,} | CPU, s | times | CPU, s in all |"
    yield "| --- | --- | --- | --- |"
    total = 0.0
    for name, (described, times) in what.items():
        seconds = median_of.median(took[name])
        total += seconds * times
        yield f"| {described} | {seconds:.3f} | {times} | {seconds * times:.1f} |"
    yield f"| all, for {n:,} rows | | | {total:.0f} |"
    yield ""
    yield f"Largest resident memory of this process: {_peak_bytes() / 1e9:.2f} GB."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", action="store_true", help="the parts of a fit at the paper's size, instead")
    parser.add_argument("--paper-rows", type=int, default=585_000)
    parser.add_argument("--paper-features", type=int, default=4096)
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak_of:
        print(peak_of(given.peak_of))
        return
    warnings.simplefilter("ignore", LinAlgWarning)  # scikit-learn's, of normal equations in float32
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "scikit-learn"))
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, {threads} threads")
    print(f"Python {platform.python_version()}, {packages}\n")
    if given.parts:
        print(*parts(given.paper_rows, given.paper_features, given.rounds), sep="\n")
        return
    print(f"n = {given.rows:,}, d = {given.features:,}, {given.rounds} rounds\n")
    print(*compare(given.rows, given.features, given.rounds), sep="\n")
    print(f"\n{peak(given.rows, given.features)}")


if __name__ == "__main__":
    main()

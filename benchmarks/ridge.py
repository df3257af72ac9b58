"""Ridge from statistics beside scikit-learn: a whole fit, and one after an edit.

    python benchmarks/ridge.py [--rows 60000] [--features 1024] [--rounds 3]

Rows are shared out among the paper's eight datasets, whose 19 objectives are labelled in eight ways; features look like
hidden states (a large mean, a falling spectrum) and are float32, as shards are read. All ways choose among nine
alphas on validation rows and fit again on both, in turn within one process; times are CPU seconds and wall seconds.
Run it with as many threads as there are free cores (OMP_NUM_THREADS): BLAS waits badly for a thread that has none.
"""

import os
import platform
import statistics as median_of
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.linalg import LinAlgWarning
from sklearn.linear_model import Ridge

from armorm.features.objectives import OBJECTIVES
from armorm.maths.ridge import ALPHAS, Part, fit_parts, label_masks, parts_of
from armorm.maths.statistics import RidgeStatistics
from benchmarks.measure import SHARD_ROWS, options, packages, print_table
from benchmarks.ridge_store import DATASETS

Array = np.ndarray[Any, Any]

K = len(OBJECTIVES)


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
    Y_NK = np.full((n, K), np.nan)
    truth_NK = X_ND @ (rng.normal(size=(d, K)) / d).astype(np.float32) + 0.3 * rng.normal(size=(n, K))
    for number, (_, objectives) in enumerate(DATASETS.values()):
        labelled = np.ix_(dataset_N == number, np.isin(OBJECTIVES, objectives))
        Y_NK[labelled] = truth_NK[labelled]
    split_N = rng.choice(3, size=n, p=[0.8, 0.1, 0.1])
    return X_ND, Y_NK, {"train": split_N == 0, "validation": split_N == 1}, list(OBJECTIVES)


def from_statistics(X_ND: Array, Y_NK: Array, splits: dict[str, Array], names: list[str]) -> Array:
    """Return `[K, D]`, all counted and solved."""
    return fit_parts(kept(parts_of(X_ND, Y_NK, names, splits)), names).W_KD


def kept(parts: list[Part]) -> list[Part]:
    """Counted once, where two sets of objectives ask for the same."""

    def of(part: Part) -> Part:
        arrays = {split: part.statistics(split).arrays() for split in ("train", "validation")}
        return Part(part.objectives, lambda split: RidgeStatistics.of_arrays(arrays[split]))

    return [of(part) for part in parts]


def alone(X_ND: Array, Y_NK: Array, splits: dict[str, Array], names: list[str]) -> Array:
    """Return `[K, D]`, 9 fits and a last one for each objective."""
    return np.concatenate([_sklearn(X_ND, Y_NK[:, [k]], splits) for k in range(K)])


def together(X_ND: Array, Y_NK: Array, splits: dict[str, Array], names: list[str]) -> Array:
    """Return `[K, D]`, one fit for all objectives of the same rows and each alpha."""
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
        self.parts = parts_of(X_ND, Y_NK, names, splits)
        for number, part in enumerate(self.parts):
            for split in splits:
                save_file(part.statistics(split).arrays(), folder / f"{number}-{split}")
        self.after_NK = Y_NK.copy()
        self.after_NK[:SHARD_ROWS] = 1 - Y_NK[:SHARD_ROWS]

    def fit(self) -> Array:
        """Read the statistics, take the shard's old rows out, add its new ones, and fit."""
        X_ND, Y_NK, splits, names = self.problem
        shard = list(label_masks(Y_NK[:SHARD_ROWS]))
        found: dict[tuple[int, str], dict[str, Array]] = {}
        for number, part in enumerate(self.parts):
            for split, rows_N in splits.items():
                statistics = RidgeStatistics.of_arrays(load_file(self.folder / f"{number}-{split}"))
                for rows, columns in shard:
                    if tuple(names[k] for k in columns) == part.objectives:
                        counted = rows[rows_N[rows]]
                        for labels_NK, sign in ((self.after_NK, 1), (Y_NK, -1)):
                            statistics.add(X_ND[counted], labels_NK[np.ix_(counted, columns)], sign=sign)
                found[number, split] = statistics.arrays()

        def part_of(number: int, part: Part) -> Part:
            return Part(part.objectives, lambda split: RidgeStatistics.of_arrays(found[number, split]))

        return fit_parts([part_of(*item) for item in enumerate(self.parts)], names).W_KD


def compare(n: int, d: int, rounds: int) -> Iterator[tuple[str, ...]]:
    """Yield all ways in turn."""
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
    names = list(ways)
    for name in names:
        against = scratch if name == names[1] else truth
        off = np.linalg.norm(found[name] - against, axis=1) / np.linalg.norm(against, axis=1)
        times = [median_of.median([o / m for o, m in zip(cpu[name], cpu[one], strict=True)]) for one in names[:2]]
        medians = (f"{median_of.median(of[name]):.2f}" for of in (cpu, wall))
        yield name, *medians, *(f"{ratio:.1f}" for ratio in times), f"{off.max():.1e}"


def main() -> None:
    given = options(__doc__, rows=60_000, features=1024, rounds=3).parse_args()
    warnings.simplefilter("ignore", LinAlgWarning)  # scikit-learn's, of normal equations in float32
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, {threads} threads")
    print(f"{packages('numpy', 'scipy', 'scikit-learn')}\n")
    print(f"n = {given.rows:,}, d = {given.features:,}, {given.rounds} rounds\n")
    columns = ["way", "CPU, s", "wall, s", "CPU, times `from statistics`", "CPU, times the edited", "furthest weights"]
    print_table(columns, compare(given.rows, given.features, given.rounds))


if __name__ == "__main__":
    main()

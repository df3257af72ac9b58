"""The penalties of all objectives: the exact root against the public scripts' grid with scipy's spearmanr.

    python benchmarks/decorrelate.py [--rows 128000] [--objectives 19] [--rounds 5]

Rewards are random, skewed and correlated with the nuisance, in float32 as the regression predicts them. Ways take
turns; a ratio is the median of those of each turn.

- `grid`: 24 penalties from 0 to 0.95 and `scipy.stats.spearmanr` of each, as the public scripts do it
- `armorm`: `decorrelate` with rank correlation, checks and final correlations included; also with two nuisances, and
  with an objective and the answers' length
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
from scipy.stats import spearmanr

from armorm.maths.decorrelate import Decorrelation, decorrelate
from benchmarks.measure import packages

GRID = np.linspace(0, 0.95, 24)


def rewards(n_rows: int, n_objectives: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Return `[N, K]` rewards, of which the last two objectives are the nuisances, and `[N]` lengths."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(n_rows, n_objectives))
    linked = hidden + rng.uniform(-0.5, 1.5, n_objectives) * hidden[:, -1:] + 0.3 * hidden[:, -2:-1]
    lengths = np.round(np.exp(5 + 0.5 * hidden[:, -1] + 0.5 * rng.normal(size=n_rows)))
    return (0.5 + 0.1 * np.tanh(linked)).astype(np.float32), lengths


def grid(rewards_NK: np.ndarray) -> list[float]:  # type: ignore[type-arg]
    """Return the first penalty of the grid that leaves at most 0.03, else 1."""
    nuisance_N, found = rewards_NK[:, -1], []
    for r_N in rewards_NK.T[:-1]:
        left = np.array([spearmanr(r_N - penalty * nuisance_N, nuisance_N).statistic for penalty in GRID])
        found.append(float(GRID[np.argmax(left <= 0.03)]) if (left <= 0.03).any() else 1.0)
    return found


def seconds(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=128_000)
    parser.add_argument("--objectives", type=int, default=19)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    rewards_NK, lengths = rewards(asked.rows, asked.objectives)
    names = [f"o{k}" for k in range(asked.objectives)]

    def ours(*nuisances: str) -> Decorrelation:
        return decorrelate(rewards_NK, names, nuisances=nuisances, n_tokens_N=lengths)

    one, two, length = (names[-1],), tuple(names[-2:]), (names[-1], "n_tokens")
    ways: dict[str, Callable[[], object]] = {"grid of 24 with spearmanr": lambda: grid(rewards_NK)}
    for nuisances, label in ((one, "one nuisance"), (two, "two nuisances"), (length, "nuisance and length")):
        ways[f"armorm, {label}"] = lambda nuisances=nuisances: ours(*nuisances)
    taken = [{name: seconds(way) for name, way in ways.items()} for _ in range(asked.rounds)]
    left = {
        f"armorm, {label}": float(np.nanmax(np.abs(ours(*nuisances).after_MK)))
        for nuisances, label in ((one, "one nuisance"), (two, "two nuisances"), (length, "nuisance and length"))
    }
    found = grid(rewards_NK)
    cleaned = rewards_NK[:, :-1] - np.array(found) * rewards_NK[:, -1:]
    left["grid of 24 with spearmanr"] = max(
        abs(float(spearmanr(r_N, rewards_NK[:, -1]).statistic)) for r_N in cleaned.T
    )
    print(f"{platform.processor() or platform.machine()}, {packages('numpy', 'scipy')}")
    print(f"\n{asked.rows:,} rows, {asked.objectives} objectives, medians of {asked.rounds} rounds\n")
    print("| way | s | times as fast | largest correlation left |\n| --- | --- | --- | --- |")
    base = "grid of 24 with spearmanr"
    for name in ways:
        median = statistics.median(turn[name] for turn in taken)
        ratio = statistics.median(turn[base] / turn[name] for turn in taken)
        print(f"| {name} | {median:.2f} | {ratio:.1f} | {left[name]:.1e} |")


if __name__ == "__main__":
    main()

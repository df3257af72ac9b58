"""The penalties of all objectives: the exact root against the public scripts' grid with scipy's spearmanr.

    python benchmarks/decorrelate.py [--rows 128000] [--objectives 19] [--rounds 5]

Rewards are random, skewed and correlated with the nuisance, in float32 as the regression predicts them. Ways take
turns; a ratio is the median of those of each turn.

- `grid`: 24 penalties from 0 to 0.95 and `scipy.stats.spearmanr` of each, as the public scripts do it
- `armorm`: `decorrelate` with rank correlation, checks and final correlations included; also with two nuisances, and
  with an objective and the answers' length
"""

import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.stats import spearmanr

from armorm.maths.decorrelate import Decorrelation, decorrelate
from benchmarks.measure import options, packages, print_row, print_table

GRID = np.linspace(0, 0.95, 24)

BASE = "grid of 24 with spearmanr"


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
    asked = options(__doc__, rows=128_000, objectives=19, rounds=5).parse_args()
    rewards_NK, lengths = rewards(asked.rows, asked.objectives)
    names = [f"o{k}" for k in range(asked.objectives)]

    def ours(*nuisances: str) -> Decorrelation:
        return decorrelate(rewards_NK, names, nuisances=nuisances, n_tokens_N=lengths)

    nuisances_of = {
        "armorm, one nuisance": (names[-1],),
        "armorm, two nuisances": tuple(names[-2:]),
        "armorm, nuisance and length": (names[-1], "n_tokens"),
    }
    ways: dict[str, Callable[[], object]] = {BASE: lambda: grid(rewards_NK)}
    ways |= {name: partial(ours, *nuisances) for name, nuisances in nuisances_of.items()}
    taken = [{name: seconds(way) for name, way in ways.items()} for _ in range(asked.rounds)]
    left = {name: float(np.nanmax(np.abs(ours(*of).after_MK))) for name, of in nuisances_of.items()}
    cleaned = rewards_NK[:, :-1] - np.array(grid(rewards_NK)) * rewards_NK[:, -1:]
    left[BASE] = max(abs(float(spearmanr(r_N, rewards_NK[:, -1]).statistic)) for r_N in cleaned.T)
    print(f"{platform.processor() or platform.machine()}, {packages('numpy', 'scipy')}")
    print(f"\n{asked.rows:,} rows, {asked.objectives} objectives, medians of {asked.rounds} rounds\n")
    print_table(["way", "s", "times as fast", "largest correlation left"])
    for name in ways:
        median = statistics.median(turn[name] for turn in taken)
        ratio = statistics.median(turn[BASE] / turn[name] for turn in taken)
        print_row(name, f"{median:.2f}", f"{ratio:.1f}", f"{left[name]:.1e}")


if __name__ == "__main__":
    main()

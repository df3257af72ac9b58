"""Training the gate: steps a second, accuracy in 16 bits, memory.

    python benchmarks/gate.py speed [--sizes 1024,4096] [--steps 12] [--rounds 3] [--device cpu]
    python benchmarks/gate.py precision [--seeds 8] [--steps 400] [--device cpu]
    python benchmarks/gate.py memory [--size 4096] [--pairs 200000] [--steps 30] [--folder DIR]

`speed`: batches of 1,024 pairs, three hidden layers of 1,024, features in float16 memory maps. Ways take turns; a
ratio is the median of those of each turn. `both sides` runs gate and regression for both answers of each pair at every
step, with the same batches and scale of the features, a gate of the same weights in torch's own layers, and torch's
AdamW as it comes (as in the public scripts) or fused (as ours); `armorm` is `train_gate` between its steps. On a CPU a
second is one of the process's CPU time, so that others on the machine count for little; a machine with other work tells
no steps by the clock on the wall.

`precision`: held-out accuracy of a planted gate in float32 and with bfloat16, over seeds.

`memory`: the prompts of that many pairs, all different, as float16 shards in a store; then training from there.
Anonymous memory is what the process has taken for itself; the rest of what it touches are pages of the shards, which
the system takes back when it needs them.
"""

import argparse
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from armorm.config import GateConfig
from armorm.features.store import Made, Recipe, Store
from armorm.features.vectors.shards import FeatureReader
from armorm.maths.gate import Gate, Pairs, bradley_terry, gate_weights, train_gate
from armorm.maths.metrics import pair_accuracy
from armorm.maths.score import score
from benchmarks.measure import Peaks, memory_mb, options, packages, print_row, print_table, write_vectors

K = 19

BOTH = "both sides, float32"


def header() -> None:
    """Print what stands above every result."""
    bf16 = "with bfloat16 arithmetic" if "avx512_bf16" in Path("/proc/cpuinfo").read_text() else "without bfloat16"
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, CPU {bf16}"
    print(f"{machine}; {packages('torch', 'numpy')}\n")


def memory_map(folder: Path, name: str, rows: int, size: int) -> np.ndarray:  # type: ignore[type-arg]
    """Random features in float16 on disk."""
    rng = np.random.default_rng(len(name))
    mapped = np.lib.format.open_memmap(folder / f"{name}-{size}.npy", "w+", np.float16, (rows, size))
    for start in range(0, rows, 4096):
        mapped[start : start + 4096] = rng.normal(3, 1, (min(4096, rows - start), size))
    return mapped


def clock(config: GateConfig) -> float:
    """Seconds; of the process's own time on a CPU."""
    if config.device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def in_torch(layer: torch.nn.Linear) -> torch.nn.Linear:
    """Return the same weights, multiplied as torch does by itself."""
    plain = torch.nn.Linear(layer.in_features, layer.out_features, device=layer.weight.device)
    plain.load_state_dict(layer.state_dict())
    return plain


def both_sides(
    prompts: np.ndarray,  # type: ignore[type-arg]
    sides: list[np.ndarray],  # type: ignore[type-arg]
    config: GateConfig,
    *,
    fused: bool | None,
) -> list[float]:
    """Seconds of each step with gate and regression on both sides."""
    size, device = prompts.shape[1], torch.device(config.device)
    gate = Gate(size, K, config).to(device)
    gate.layers = torch.nn.ModuleList(in_torch(layer) for layer in gate.layers)
    log_beta = torch.nn.Parameter(torch.tensor(4.6, device=device))
    weights_KD = torch.randn(K, size, generator=torch.Generator().manual_seed(0)).to(device) / size
    transform_KK = torch.eye(K, device=device)
    optimiser = torch.optim.AdamW([*gate.layers.parameters(), log_beta], lr=config.learning_rate, fused=fused)
    rng = np.random.default_rng(0)
    centre, spread = torch.full((size,), 3.0, device=device), torch.ones(size, device=device)

    def read(features: np.ndarray, rows: np.ndarray) -> torch.Tensor:  # type: ignore[type-arg]
        return torch.from_numpy(features[rows]).to(device, torch.float32)

    taken = []
    for _ in range(config.steps):
        started = clock(config)
        rows = rng.integers(len(prompts), size=config.batch_size)
        scores = []
        for features in sides:
            gating = gate((read(prompts, rows) - centre) / spread)
            scores.append(score(read(features, rows) @ weights_KD.T, transform_KK, gating))
        loss = bradley_terry(scores[0] - scores[1], log_beta.exp()).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        taken.append(clock(config) - started)
    return taken


def ours(pairs: Pairs, config: GateConfig) -> list[float]:
    """Seconds of each step of `train_gate`."""
    ends: list[float] = []

    def on_progress(done: int, total: int) -> None:
        ends.append(clock(config))

    train_gate(pairs, np.eye(K), config=config, on_progress=on_progress)
    return list(np.diff(ends))


def speed(asked: argparse.Namespace) -> None:
    print_table(["size", "way", "steps/s", "times as fast"])
    rng = np.random.default_rng(0)
    for size in asked.sizes:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            rows = 20_000
            prompts, *sides = (memory_map(Path(folder), name, rows, size) for name in ("x", "yc", "yrr"))
            pairs = Pairs(prompts, 0.1 * rng.normal(size=(rows, K)), np.arange(rows))
            config = GateConfig(steps=asked.steps, device=asked.device)
            turns = [
                {
                    BOTH: statistics.median(both_sides(prompts, sides, config, fused=None)[1:]),
                    f"{BOTH}, fused AdamW": statistics.median(both_sides(prompts, sides, config, fused=True)[1:]),
                    "armorm, float32": statistics.median(ours(pairs, config)),
                    "armorm, bfloat16": statistics.median(ours(pairs, replace(config, precision="bfloat16"))),
                }
                for _ in range(asked.rounds)
            ]
        for name in turns[0]:
            per_second = 1 / statistics.median(turn[name] for turn in turns)
            ratio = statistics.median(turn[BOTH] / turn[name] for turn in turns)
            print_row(size, name, f"{per_second:.2f}", f"{ratio:.2f}")


def planted(rng: np.random.Generator, directions_KD: np.ndarray, n_prompts: int) -> Pairs:  # type: ignore[type-arg]
    """Pairs of which the objective that the prompt points to decides, but for one in ten."""
    prompts = rng.normal(size=(n_prompts, directions_KD.shape[1]))
    differences = 0.1 * rng.normal(size=(n_prompts, K))
    decisive = differences[np.arange(n_prompts), (prompts @ directions_KD.T).argmax(axis=1)]
    differences *= (np.sign(decisive) * np.where(rng.random(n_prompts) < 0.1, -1, 1))[:, None]
    return Pairs((20 + 0.3 * prompts).astype(np.float32), differences, np.arange(n_prompts))


def precision(asked: argparse.Namespace) -> None:
    found: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for seed in range(asked.seeds):
        rng = np.random.default_rng(100)  # one world: what differs is the gate's seed
        directions_KD = rng.normal(size=(K, 256))
        training, held_out = planted(rng, directions_KD, 40_000), planted(rng, directions_KD, 20_000)
        for name, accuracies in found.items():
            config = GateConfig(hidden_dim=256, steps=asked.steps, seed=seed, precision=name, device=asked.device)  # type: ignore[arg-type]
            fit = train_gate(training, np.eye(K), config=config)
            gating = gate_weights(fit.gate(), held_out.prompts_UD)
            accuracies.append(pair_accuracy(score(held_out.differences_PK, np.eye(K), gating)))
    print_table(["precision", "held-out accuracy", "standard deviation over seeds", "lowest", "highest"])
    for name, accuracies in found.items():
        print_row(name, *(f"{of(accuracies):.4f}" for of in (statistics.mean, statistics.stdev, min, max)))
    apart = [b - a for a, b in zip(*found.values(), strict=True)]
    error = statistics.stdev(apart) / len(apart) ** 0.5
    print(f"\nbfloat16 less float32, seed by seed: {statistics.mean(apart):+.4f}, standard error {error:.4f}")


def memory(asked: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        store, ids = Store(Path(folder) / "store"), [f"{row:032x}" for row in range(asked.pairs)]
        with store.writing("benchmark") as writer:
            writer.commit(Recipe("backbone/b", "backbone", 1, {}, {}), Made({}, {"hidden_size": asked.size}))
            write_vectors(writer, "b", "prompt", ids, lambda shape: rng.normal(3, 1, shape))
        before = memory_mb("RssAnon") / 1000
        with Peaks(lambda: memory_mb("RssAnon")) as own, Peaks(lambda: memory_mb("VmRSS")) as whole:
            prompts = FeatureReader(store, "b").rows("prompt", ids)
            pairs = Pairs(prompts, 0.1 * rng.normal(size=(asked.pairs, K)), np.arange(asked.pairs))
            train_gate(pairs, np.eye(K), config=GateConfig(steps=asked.steps, device=asked.device))
        shards_gb = asked.pairs * asked.size * 2 / 1e9
        print(
            f"{asked.pairs:,} pairs of as many prompts of {asked.size} numbers, {asked.steps} steps: "
            f"at most {own.most_mb / 1000:.2f} GB of its own (before: {before:.2f}), "
            f"{whole.most_mb / 1000:.2f} GB with the mapped pages of {shards_gb:.2f} GB of shards"
        )


def main() -> None:
    measures = {"speed": (speed, 12), "precision": (precision, 400), "memory": (memory, 30)}
    folder = Path(tempfile.gettempdir())
    parser = options(
        __doc__, sizes=[1024, 4096], size=4096, pairs=200_000, steps=0, rounds=3, seeds=8, device="cpu", folder=folder
    )
    parser.add_argument("what", choices=measures)
    asked = parser.parse_args()
    measure, steps = measures[asked.what]
    asked.steps = asked.steps or steps
    header()
    measure(asked)


if __name__ == "__main__":
    main()

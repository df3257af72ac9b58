"""Settings of the model's stages, with the paper's values as defaults. It imports errors alone.

Each is one table of `armorm.toml`; values are checked where they are defined.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from armorm.errors import DecorrelationError

Correlation = Literal["spearman", "pearson"]

Mixing = Literal["size", "sqrt", "uniform"]

TOKEN_LENGTH: Final = "n_tokens"
"""Names the plain length of a response as a nuisance."""

FEWEST_FOR_LENGTH: Final = 3
"""Objectives that length can be taken out of, and leave more than one of them."""

NO_NUISANCE: Final = "none"
"""Says that nothing is taken out of the objectives."""


@dataclass(frozen=True, slots=True)
class RegressionConfig:
    """The settings of `[regression]`."""

    alphas: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4)
    """Ridge strengths to choose from, one for each objective, by loss on held-out prompts."""
    refit: bool = True
    """Whether the final weights, alphas once chosen, come from the validation prompts too."""
    solver: Literal["statistics", "scikit-learn"] = "statistics"
    """How weights are solved for: from statistics alone, or by scikit-learn from the rows, all of them in memory."""

    def __post_init__(self) -> None:
        passes = bool(self.alphas) and all(0 < alpha < math.inf for alpha in self.alphas)
        _check(passes, "alphas", self.alphas, "one or more numbers above 0")


@dataclass(frozen=True, slots=True)
class DecorrelationConfig:
    """The settings of `[decorrelation]`."""

    nuisance: str | tuple[str, ...] = "helpsteer-verbosity"
    """What is taken out of all objectives: one of them, or `n_tokens`, or several at once; or `none`."""
    reference: str = "ultrafeedback"
    """The dataset whose rated responses are the reference distribution."""
    correlation: Correlation = "spearman"

    @property
    def nuisances(self) -> tuple[str, ...]:
        """The nuisances by name, as a list; empty if nothing is taken out."""
        return nuisances_of(self.nuisance)

    def __post_init__(self) -> None:
        names = (self.nuisance,) if isinstance(self.nuisance, str) else self.nuisance
        passes = bool(names) and len(set(names)) == len(names) and (NO_NUISANCE not in names or len(names) == 1)
        _check(passes, "nuisance", self.nuisance, f"one or more names, each once, or {NO_NUISANCE} alone")


def nuisances_of(nuisance: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of what is taken out of the objectives; none for `none`."""
    names = (nuisance,) if isinstance(nuisance, str) else tuple(nuisance)
    return tuple(name for name in names if name != NO_NUISANCE)


def check_nuisance(nuisances: Sequence[str], objectives: Sequence[str]) -> None:
    """Check before any work that nuisances can be taken out of the objectives that are rated.

    A nuisance takes itself off, whole: where all objectives are nuisances, the transform is zero. Token length is taken
    off as its best linear prediction from the rewards, which is one direction out of them all: of one objective nothing
    is left, and of two the one is the other with its sign turned.

    Args:
        nuisances: by name; none of them is always possible.
        objectives: that have ratings.

    Raises:
        DecorrelationError: one is not rated, or too few objectives are left, or none.
    """
    unknown = [name for name in nuisances if name not in (*objectives, TOKEN_LENGTH)]
    if unknown:
        raise DecorrelationError(
            f"got nuisance {', '.join(unknown)}, which has no ratings or too few; expected {', '.join(objectives)} or "
            f"{TOKEN_LENGTH}; set [decorrelation] nuisance to one of them, or to {NO_NUISANCE!r}"
        )
    others = [name for name in objectives if name not in nuisances]
    if nuisances and not others:
        raise DecorrelationError(
            f"got nuisance {', '.join(nuisances)}, which is every objective that is rated, so nothing would be left "
            f"of any and every score would be 0; expected an objective beside it; set [decorrelation] nuisance to "
            f"{NO_NUISANCE!r}, or rate more objectives"
        )
    if TOKEN_LENGTH in nuisances and len(others) < FEWEST_FOR_LENGTH:
        raise DecorrelationError(
            f"got nuisance {TOKEN_LENGTH} with {len(others)} other objectives ({', '.join(others) or 'none'}), of "
            f"which it would leave nothing of their own; expected {FEWEST_FOR_LENGTH} or more; set [decorrelation] "
            f"nuisance to {NO_NUISANCE!r}, or rate more objectives"
        )


@dataclass(frozen=True, slots=True)
class GateConfig:
    """`[gate]`: its shape and training (arXiv 2406.12845 and the published model's configuration)."""

    hidden_dim: int = 1024
    n_hidden: int = 3
    temperature: float = 10.0
    """Logits are divided by it before the softmax."""
    beta: float = 100.0
    """Start of the trained factor of the Bradley-Terry loss."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    steps: int = 10_000
    batch_size: int = 1024
    seed: int = 0
    mixing: Mixing = "size"
    """How often pairs of a dataset are drawn: in proportion to their number, to its square root, or alike for all."""
    early_stopping: int = 0
    """Points of the curve (a twentieth of the steps each) without a smaller loss on validation pairs after which
    training ends; the gate is then the one of the smallest. 0: all steps, and the last one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """The type of the layers' arithmetic in training; parameters, loss and what is exported are float32."""
    device: str = "cpu"
    """The device that training runs on: `cpu`, `cuda`, `cuda:1`."""
    save_every_s: float = 30.0
    """Seconds between checkpoints of the training: what a killed run loses, at most."""

    def __post_init__(self) -> None:
        for name in ("hidden_dim", "n_hidden", "temperature", "beta", "learning_rate", "steps", "batch_size"):
            _check(0 < getattr(self, name) < math.inf, name, getattr(self, name), "a number above 0")
        for name in ("weight_decay", "early_stopping", "save_every_s"):
            _check(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "0 or more")
        _check_seed(self.seed)

    def record(self) -> dict[str, Any]:
        """Return what the gate depends on: not its device, and later settings only if they are not the default."""
        settings = asdict(self)
        for name in ("device", "save_every_s"):
            del settings[name]
        later = {"mixing": "size", "early_stopping": 0, "precision": "float32"}
        return {name: value for name, value in settings.items() if name not in later or later[name] != value}


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """`[evaluation]`: the bootstrap of the intervals, and the baseline that is fitted."""

    n_resamples: int = 1000
    seed: int = 0
    """The seed of the bootstrap, and of the choice of the probe's pairs where there are more."""
    probe_pairs: int = 100_000
    """Training pairs that the Bradley-Terry probe is fitted to, at most; 0: no probe."""

    def __post_init__(self) -> None:
        _check(self.n_resamples > 0, "n_resamples", self.n_resamples, "a number above 0")
        _check(self.probe_pairs >= 0, "probe_pairs", self.probe_pairs, "0 or more")
        _check_seed(self.seed)


@dataclass(frozen=True, slots=True)
class PromotionConfig:
    """`[promotion]`: what a new model has to show before it takes the place of the promoted one."""

    significance: float = 0.05
    """The p-value of the paired test on held-out pairs has to be below it."""

    def __post_init__(self) -> None:
        _check(0 < self.significance <= 1, "significance", self.significance, "above 0, at most 1")


def _check_seed(seed: int) -> None:
    _check(0 <= seed < 2**63, "seed", seed, "0 or more, below 2**63")


def _check(passes: bool, name: str, value: object, allowed: str) -> None:
    if not passes:
        raise ValueError(f"{name}: got {value}; expected {allowed}")

"""Settings of the model's stages, with the paper's values as defaults. It imports errors alone.

Each is one table of `armorm.toml`; values are checked where they are defined.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, Self

from armorm.errors import DecorrelationError

Correlation = Literal["spearman", "pearson"]

Mixing = Literal["size", "sqrt", "uniform"]

TOKEN_LENGTH: Final = "n_tokens"
"""Names the plain length of a response as a nuisance."""

FEWEST_FOR_LENGTH: Final = 3
"""Objectives that length can be taken out of, and leave more than one of them."""

NO_NUISANCE: Final = "none"
"""Says that nothing is taken out of the objectives."""

LENGTH: Final = "length"
"""Names the length head: a linear reward that predicts the logarithm of an answer's tokens."""

PREFERENCE: Final = "preference"
"""Names the objective that is fitted to training pairs."""

DERIVED: Final = (PREFERENCE, LENGTH)
"""Objectives that no dataset rates; no dataset may use these names."""

AUTO: Final = "auto"

ALL_ANSWERS: Final = "all"
"""Names the answers to all training prompts as the reference distribution."""


@dataclass(frozen=True, slots=True)
class RegressionConfig:
    """The settings of `[regression]`."""

    alphas: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4)
    """Ridge strengths to choose from, one for each objective, by loss on held-out prompts."""
    refit: bool = True
    """Whether the final weights, alphas once chosen, come from the validation prompts too."""

    def __post_init__(self) -> None:
        passes = bool(self.alphas) and all(0 < alpha < math.inf for alpha in self.alphas)
        _check(passes, "alphas", self.alphas, "one or more numbers above 0")


@dataclass(frozen=True, slots=True)
class DecorrelationConfig:
    """The settings of `[decorrelation]`."""

    nuisance: str | tuple[str, ...] = AUTO
    """What is taken out of all objectives: one of them, `length` or `n_tokens`, or several at once; or `none`. `auto`:
    an objective named verbosity where one is rated, else `length`."""
    reference: str = AUTO
    """The dataset whose rated responses are the reference distribution, or `all` for the answers to all training
    prompts. `auto`: ultrafeedback, as in the paper, where it is configured, else `all`."""
    correlation: Correlation = "spearman"

    @property
    def nuisances(self) -> tuple[str, ...]:
        """The nuisances by name, as a list; empty if nothing is taken out."""
        return nuisances_of(self.nuisance)

    def resolved(self, objectives: Sequence[str], rated: Sequence[str]) -> Self:
        """Return the settings with what `auto` stands for.

        Args:
            objectives: that the configured datasets rate.
            rated: configured datasets with ratings.
        """
        paper = "ultrafeedback"
        return replace(
            self,
            nuisance=resolved_nuisance(self.nuisance, objectives),
            reference=(paper if paper in rated else ALL_ANSWERS) if self.reference == AUTO else self.reference,
        )

    def __post_init__(self) -> None:
        _check_nuisances(self.nuisance)


def resolved_nuisance(nuisance: str | tuple[str, ...], objectives: Sequence[str]) -> str | tuple[str, ...]:
    """Return what `auto` stands for where these objectives are rated; any other nuisance as it is."""
    if nuisance != AUTO:
        return nuisance
    return next((name for name in objectives if name.endswith("verbosity")), LENGTH)


def nuisances_of(nuisance: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of what is taken out of the objectives; none for `none`."""
    names = (nuisance,) if isinstance(nuisance, str) else tuple(nuisance)
    return tuple(name for name in names if name != NO_NUISANCE)


def check_nuisance(nuisances: Sequence[str], objectives: Sequence[str]) -> None:
    """Check before any work that nuisances can be taken out of the objectives that are rated.

    A nuisance takes itself off, whole: where all objectives are nuisances, the transform is zero. Token length is taken
    off as its best linear prediction from the rewards, which is one direction out of them all: of one objective nothing
    is left, and of two the one is the other with its sign turned.

    Raises:
        DecorrelationError: one is not rated, or too few objectives are left, or none.
    """
    unknown = [name for name in nuisances if name not in (*objectives, TOKEN_LENGTH, LENGTH)]
    if unknown:
        raise DecorrelationError(
            f"got nuisance {', '.join(unknown)}, which has no ratings or too few; expected {', '.join(objectives)} or "
            f"{LENGTH}; set [decorrelation] nuisance to one of them, or to {NO_NUISANCE!r}"
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
            f"nuisance to {LENGTH!r}"
        )


@dataclass(frozen=True, slots=True)
class PreferenceConfig:
    """`[preference]`: the direction that training pairs prefer, a baseline and perhaps an objective."""

    objective: Literal["auto", "always", "never"] = AUTO
    """Whether it enters the gate as one more objective; `auto`: if the best fixed mixture with it has a smaller loss on
    validation pairs than the one without."""
    pairs: int = 100_000
    """Training pairs that it is fitted to, at most; 0: there is none, and so no Bradley-Terry probe to compare with."""
    seed: int = 0
    """The seed of the choice of pairs where there are more."""
    nuisance: str | tuple[str, ...] = AUTO
    """What the objective is fitted to have no linear correlation with, by name; `auto`: what decorrelation takes out of
    all objectives, `none`: nothing, until that does."""

    @property
    def nuisances(self) -> tuple[str, ...]:
        """The nuisances by name, as a list; empty without one, or without an objective."""
        return nuisances_of(self.nuisance) if self.objective != "never" else ()

    def __post_init__(self) -> None:
        _check_nuisances(self.nuisance)
        _check(self.pairs >= 0, "pairs", self.pairs, "0 or more")
        _check_seed(self.seed)


@dataclass(frozen=True, slots=True)
class GateConfig:
    """`[gate]`: its shape and training (arXiv 2406.12845 and the published model's configuration)."""

    hidden_dim: int = 1024
    n_hidden: int = 3
    temperature: float = 10.0
    """Logits are divided by it before the softmax."""
    start: Literal["mixture", "random"] = "mixture"
    """What training begins with: the best fixed mixture of the objectives for every prompt, or random weights, as in
    the paper."""
    beta: float = 0.0
    """Start of the trained factor of the Bradley-Terry loss (100 in the paper); 0: that of the best fixed mixture."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    steps: int = 10_000
    epochs: float = 50.0
    """Times that training goes through the pairs, at most; 0: as often as `steps` take, as in the paper."""
    batch_size: int = 1024
    seed: int = 0
    mixing: Mixing = "size"
    """How often pairs of a dataset are drawn: in proportion to their number, to its square root, or alike for all."""
    early_stopping: int = 5
    """Twentieths of the steps without a smaller loss on validation pairs after which training ends; the gate is then
    the one of the smallest, the start included. 0: all steps, and the last one, as in the paper."""
    calibrate: bool = True
    """Whether beta, once the gate is trained, is fitted to validation pairs; the paper keeps the trained one."""
    out_of_fold: bool = True
    """Whether the rewards of a pair come from weights that the ratings and pairs of its prompt had no part in, as they
    will in use; the paper trains on the rewards of the final weights."""
    screening: bool = True
    """Whether objectives whose held-out R2 is not significantly above 0 are kept out of the gate."""
    least_ratings: int = 100
    """Training ratings of an objective that enters the gate."""
    always: tuple[str, ...] = ()
    """Objectives that enter the gate whatever is known of them."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """The type of the layers' arithmetic in training; parameters, loss and what is exported are float32."""
    device: str = "cpu"
    """The device that training runs on: `cpu`, `cuda`, `cuda:1`."""
    save_every_s: float = 30.0
    """Seconds between checkpoints of the training: what a killed run loses, at most."""

    def __post_init__(self) -> None:
        for name in ("hidden_dim", "n_hidden", "temperature", "learning_rate", "steps", "batch_size"):
            _check(0 < getattr(self, name) < math.inf, name, getattr(self, name), "a number above 0")
        for name in ("beta", "weight_decay", "epochs", "early_stopping", "least_ratings", "save_every_s"):
            _check(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "0 or more")
        _check(self.beta > 0 or self.start == "mixture", "beta", self.beta, 'above 0 where start is "random"')
        _check_seed(self.seed)

    def n_steps(self, n_pairs: int) -> int:
        """Return the steps that training takes at most, on so many pairs."""
        if not self.epochs:
            return self.steps
        return max(1, min(self.steps, math.ceil(self.epochs * n_pairs / min(self.batch_size, n_pairs))))

    def record(self) -> dict[str, Any]:
        """Return what the gate depends on: not its device, and later settings only if they are not the default."""
        settings = asdict(self)
        for name in ("device", "save_every_s"):
            del settings[name]
        return {name: value for name, value in settings.items() if name not in _LATER or _LATER[name] != value}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """Return the settings that `record` gave; those that came later are as they were before."""
        return cls(**{**PAPERS_GATE, **_LATER, **record, "always": tuple(record.get("always", ()))})


PAPERS_GATE: Final[Mapping[str, Any]] = {
    "start": "random",
    "beta": 100.0,
    "steps": 10_000,
    "epochs": 0.0,
    "early_stopping": 0,
    "calibrate": False,
    "out_of_fold": False,
    "least_ratings": 0,
    "screening": False,
}
"""What of `[gate]` the paper does otherwise than the defaults."""

_LATER: Final[Mapping[str, Any]] = {
    **{name: value for name, value in PAPERS_GATE.items() if name not in ("beta", "steps")},
    "always": (),
    "mixing": "size",
    "precision": "float32",
}
"""Settings that the first models have no record of, and what they were."""


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """`[evaluation]`: the bootstrap of the intervals."""

    n_resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.n_resamples > 0, "n_resamples", self.n_resamples, "a number above 0")
        _check_seed(self.seed)


@dataclass(frozen=True, slots=True)
class PromotionConfig:
    """`[promotion]`: what a new model has to show before it takes the place of the promoted one."""

    significance: float = 0.05
    """The p-value of the paired test on held-out pairs has to be below it."""

    def __post_init__(self) -> None:
        _check(0 < self.significance <= 1, "significance", self.significance, "above 0, at most 1")


def _check_nuisances(nuisance: str | tuple[str, ...]) -> None:
    names = (nuisance,) if isinstance(nuisance, str) else nuisance
    passes = bool(names) and len(set(names)) == len(names) and (len(names) == 1 or not {NO_NUISANCE, AUTO} & set(names))
    _check(passes, "nuisance", nuisance, f"one or more names, each once, or {NO_NUISANCE} or {AUTO} alone")


def _check_seed(seed: int) -> None:
    _check(0 <= seed < 2**63, "seed", seed, "0 or more, below 2**63")


def _check(passes: bool, name: str, value: object, allowed: str) -> None:
    if not passes:
        raise ValueError(f"{name}: got {value}; expected {allowed}")

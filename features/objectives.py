"""The 19 objectives of ArmoRM and the scales they are rated on: their one owner.

A leaf module. Objectives are found by name, never by position; the order is that of the published
model (arXiv 2406.12845 and the card of RLHFlow/ArmoRM-Llama3-8B-v0.1). Users' own datasets may bring others.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", float, NDArray[np.float64])

VERBOSITY: Final = "helpsteer-verbosity"
"""The objective whose influence decorrelation takes out of the others."""

OBJECTIVES: Final[tuple[str, ...]] = (
    "helpsteer-helpfulness",
    "helpsteer-correctness",
    "helpsteer-coherence",
    "helpsteer-complexity",
    VERBOSITY,
    "ultrafeedback-overall_score",
    "ultrafeedback-instruction_following",
    "ultrafeedback-truthfulness",
    "ultrafeedback-honesty",
    "ultrafeedback-helpfulness",
    "beavertails-is_safe",
    "prometheus-score",
    "argilla-overall_quality",
    "argilla-judge_lm",
    "code-complexity",
    "code-style",
    "code-explanation",
    "code-instruction-following",
    "code-readability",
)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the 19 in their order, whether named or not, and after them the other names in alphabetical order."""
    return (*OBJECTIVES, *sorted(set(names) - set(OBJECTIVES)))


LARGEST: Final = 1e9
"""Ratings beyond it are mistakes, and their differences would lose the decimals."""

Rule = Literal["bin_centre", "min_max", "boolean"]
"""How a native scale is mapped to 0..1."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A native rating scale `lo..hi`, and its affine map to 0..1.

    Bin centres by default, for scales in steps of one: `value = (raw - lo + 0.5) / (hi - lo + 1)`, so that HelpSteer's
    0..4 becomes 0.1..0.9 and `prediction * 5 - 0.5` goes back (author's statement, issue
    RLHFlow/RLHF-Reward-Modeling#57, and the model card). `min_max` maps the ends to 0 and 1; `boolean` does so too, and
    has nothing between them.
    """

    lo: float
    hi: float
    rule: Rule = "bin_centre"

    def __post_init__(self) -> None:
        if not -LARGEST <= self.lo < self.hi <= LARGEST:
            raise ValueError(f"scale: got {self.lo!s:.20}..{self.hi!s:.20}; expected two numbers, the lower one first")
        if self.rule == "boolean" and (self.lo, self.hi) != (0, 1):
            raise ValueError(f"scale: got {self.lo:g}..{self.hi:g} for booleans; expected 0 and 1; correct lo and hi")
        if self.rule not in get_args(Rule):
            raise ValueError(f"scale: got rule {self.rule!r}; expected {' or '.join(get_args(Rule))}; choose one")

    def __contains__(self, raw: float) -> bool:
        return raw in (self.lo, self.hi) if self.rule == "boolean" else self.lo <= raw <= self.hi

    def __str__(self) -> str:
        return "false or true" if self.rule == "boolean" else f"{self.lo:g}..{self.hi:g}"

    def to_value(self, raw: Number) -> Number:
        """Map a native rating, or an array of them, into 0..1."""
        return (raw - self.lo + self._half_bin) / self.width

    def to_raw(self, value: float) -> float:
        """Map a value in 0..1 back to native units; exact for ratings of up to nine decimals."""
        return round(value * self.width + self.lo - self._half_bin, 9)

    @property
    def width(self) -> float:
        """Native units that the values 0..1 span."""
        return self.hi - self.lo + 2 * self._half_bin

    @property
    def _half_bin(self) -> float:
        return 0.5 if self.rule == "bin_centre" else 0.0


BOOLEAN: Final = Scale(0, 1, "boolean")

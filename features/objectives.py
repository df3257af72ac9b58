"""The 19 objectives of ArmoRM and the scales they are rated on: their one owner.

A leaf module. Objectives are found by name, never by position; the order is that of the published
model (arXiv 2406.12845 and the card of RLHFlow/ArmoRM-Llama3-8B-v0.1).
"""

from dataclasses import dataclass
from typing import Final

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


@dataclass(frozen=True, slots=True)
class Scale:
    """A native rating scale `lo..hi` in steps of one, and its affine map to 0..1.

    Bin centres, not min-max: `value = (raw - lo + 0.5) / (hi - lo + 1)`, so that HelpSteer's 0..4
    becomes 0.1..0.9 and `prediction * 5 - 0.5` goes back (author's statement, issue
    RLHFlow/RLHF-Reward-Modeling#57, and the model card). A boolean maps to 0 and 1.
    """

    lo: float
    hi: float
    boolean: bool = False

    def __contains__(self, raw: float) -> bool:
        return raw in (self.lo, self.hi) if self.boolean else self.lo <= raw <= self.hi

    def __str__(self) -> str:
        return "false or true" if self.boolean else f"{self.lo:g}..{self.hi:g}"

    def to_value(self, raw: float) -> float:
        """Maps a native rating into 0..1."""
        return raw if self.boolean else (raw - self.lo + 0.5) / (self.hi - self.lo + 1)

    def to_raw(self, value: float) -> float:
        """Maps a value in 0..1 back to native units; the inverse of `to_value`."""
        return value if self.boolean else value * (self.hi - self.lo + 1) + self.lo - 0.5


BOOLEAN: Final = Scale(0, 1, boolean=True)

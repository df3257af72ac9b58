"""What the stage `preference` keeps beside its directions."""

from dataclasses import dataclass
from typing import Literal

from armorm.maths.probe import ProbeReport


@dataclass(frozen=True, slots=True)
class PreferenceResult:
    """How the direction of training pairs was fitted."""

    objective: Literal["auto", "always", "never"] = "never"
    """Whether it is an objective."""
    probe: ProbeReport | None = None
    """None without training or validation pairs, or where none was asked for."""

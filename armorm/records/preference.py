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
    """The unconstrained direction; None without training or validation pairs, or where none was asked for."""
    nuisances: tuple[str, ...] = ()
    """What the objective's direction is constrained to be uncorrelated with."""

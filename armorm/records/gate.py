"""What the stage `gate` keeps beside its parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from armorm.features.lineage.training_rows import RowSet
from armorm.maths.metrics import CurvePoint
from armorm.maths.ridge import Screening

LeftOut = Literal[Screening, "nuisance", "no_gain"]
"""Why an objective has no weight in the gate: screened, taken out of all others, or of no use on validation pairs."""


@dataclass(frozen=True, slots=True)
class GateTraining:
    """How the gate was trained."""

    n_pairs: int
    beta: float
    step: int = 0
    """Whose parameters these are."""
    device: str = "cpu"
    curve: tuple[CurvePoint, ...] = ()
    n_steps: int = 0
    """The number of planned steps; early stopping may end before."""
    n_epochs: float = 0.0
    """Times that training went through the pairs."""
    mixture: Mapping[str, float] = field(default_factory=dict)
    """The best fixed mixture, that training started from; empty where it started from random weights."""
    beta_by_dataset: Mapping[str, float] = field(default_factory=dict)
    """Beta of each dataset with enough validation pairs."""
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)
    """Objective to why it has no weight."""

    @property
    def is_fixed(self) -> bool:
        """Whether no gate was better than the fixed mixture on validation pairs, which then is the model."""
        return bool(self.mixture) and self.step == 0


@dataclass(frozen=True, slots=True)
class GateResult:
    """How the gate was trained, and on which pairs."""

    gate: GateTraining
    contaminated_pairs: int = 0
    """Left out, as their prompts stand in an evaluation dataset."""
    rejected_pairs: int = 0
    """Left out, as the backbone gives no usable vectors."""
    splits: tuple[str, ...] = ("train",)
    """Whose pairs the gate or its beta depend on."""
    training_rows: RowSet | None = None
    """None in an older record."""

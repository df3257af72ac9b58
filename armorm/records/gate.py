"""What the stage `gate` keeps beside its parameters."""

from dataclasses import dataclass

from armorm.features.lineage.training_rows import RowSet
from armorm.maths.metrics import CurvePoint


@dataclass(frozen=True, slots=True)
class GateTraining:
    """How the gate was trained."""

    n_pairs: int
    beta: float
    step: int = 0
    """Whose parameters these are."""
    device: str = "cpu"
    curve: tuple[CurvePoint, ...] = ()


@dataclass(frozen=True, slots=True)
class GateResult:
    """How the gate was trained, and on which pairs."""

    gate: GateTraining
    contaminated_pairs: int = 0
    """Left out, as their prompts stand in an evaluation dataset."""
    rejected_pairs: int = 0
    """Left out, as the backbone gives no usable vectors."""
    training_rows: RowSet | None = None
    """None in an older record."""

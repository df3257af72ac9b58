"""What the stage `regress` keeps beside its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from armorm.features.lineage.training_rows import RowSet
from armorm.maths.ridge import ObjectiveFit, Untrained


@dataclass(frozen=True, slots=True)
class RegressionResult:
    """The regression of every objective."""

    objectives: tuple[str, ...]
    """Those that were trained, in the order of the weights."""
    regression: tuple[ObjectiveFit, ...]
    untrained: Mapping[str, Untrained | str] = field(default_factory=dict)
    """Objective to why it was not trained; a sentence in an older record."""
    contaminated_ratings: int = 0
    """Left out, as their prompts stand in an evaluation dataset."""
    rejected_ratings: int = 0
    """Left out, as the backbone gives no usable vector."""
    training_rows: RowSet | None = None
    """The ratings that it saw; None in an older record."""

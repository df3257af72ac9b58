"""What a model says of its training: `metrics` in model.json."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from armorm.maths.correlations import CorrelationSummary
from armorm.maths.ridge import ObjectiveFit, Untrained
from armorm.records.decorrelation import DecorrelationResult, Penalties
from armorm.records.gate import GateResult, GateTraining
from armorm.records.regression import RegressionResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The figures of the three stages; None and empty is what an older model, or another's, does not say."""

    objectives: tuple[str, ...] = ()
    regression: tuple[ObjectiveFit, ...] = ()
    untrained: Mapping[str, Untrained | str] = field(default_factory=dict)
    contaminated_ratings: int | None = None
    rejected_ratings: int | None = None
    decorrelation: Penalties | None = None
    correlations: tuple[CorrelationSummary, ...] = ()
    length: ObjectiveFit | None = None
    gate: GateTraining | None = None
    contaminated_pairs: int | None = None
    rejected_pairs: int | None = None

    @classmethod
    def of(cls, regressed: RegressionResult, decorrelated: DecorrelationResult, trained: GateResult) -> Self:
        """Return what the three results say, but for the rows that they were made of."""
        return cls(
            objectives=regressed.objectives,
            regression=regressed.regression,
            untrained=regressed.untrained,
            contaminated_ratings=regressed.contaminated_ratings,
            rejected_ratings=regressed.rejected_ratings,
            decorrelation=decorrelated.decorrelation,
            correlations=decorrelated.correlations,
            length=decorrelated.length,
            gate=trained.gate,
            contaminated_pairs=trained.contaminated_pairs,
            rejected_pairs=trained.rejected_pairs,
        )

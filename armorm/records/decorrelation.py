"""What the stage `decorrelate` keeps beside its matrix."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from armorm.config import Correlation, nuisances_of
from armorm.features.lineage.training_rows import RowSet
from armorm.maths.correlations import CorrelationSummary
from armorm.maths.decorrelate import Status
from armorm.maths.ridge import ObjectiveFit

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Penalty:
    """How much of one nuisance is taken off one objective."""

    objective: str
    nuisance: str = ""
    """Empty in an older record, which knows but one."""
    status: Status = "decorrelated"
    penalty: Annotated[float, Field(alias="lambda")] = NAN
    before: float = NAN
    """Correlation of the predicted reward with the nuisance."""
    after: float = NAN
    step: float = NAN
    """Height of the step of the rank correlation in which the penalty lies."""


@dataclass(frozen=True, slots=True)
class Penalties:
    """The penalties, and the sample that they were found on."""

    nuisance: str | tuple[str, ...]
    reference: str
    """The dataset whose responses the sample is."""
    correlation: Correlation = "spearman"
    n_responses: int = 0
    objectives: tuple[Penalty, ...] = ()

    @property
    def nuisances(self) -> tuple[str, ...]:
        """By name, also where it is one; empty where nothing was taken out."""
        return nuisances_of(self.nuisance)


@dataclass(frozen=True, slots=True)
class DecorrelationResult:
    """The penalties, what they do elsewhere, and the responses that they come from."""

    decorrelation: Penalties
    correlations: tuple[CorrelationSummary, ...] = ()
    training_rows: RowSet | None = None
    """None in an older record."""
    objectives: tuple[str, ...] = ()
    """All linear rewards, in the order of the weights; empty in an older record, which knows rated ones alone."""
    length: ObjectiveFit | None = None
    """How well the length head predicts; None where length is no nuisance."""

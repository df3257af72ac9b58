"""Steering: what a person says at scoring time about the objectives' weights. Suffixes: N rows, K objectives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from armorm.errors import SteeringError
from armorm.maths.score import reweighted

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Steering:
    """Factors of the gate's weights, or a mixture in their place; both by the names of objectives.

    What comes of it weighs the decorrelated rewards, as the gate does: `sum(rewards * coefficients)` stays the score.
    """

    only: Sequence[str] = ()
    """The objectives that count at all; none named, all do."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Factors, 0 or more; 1 where none is named. The gate's weights are made to sum to what they did."""
    mixture: Mapping[str, float] | None = None
    """Weights that every prompt gets, taken as they are; 0 where none is named."""

    def __post_init__(self) -> None:
        if self.mixture is not None and (self.only or self.weights):
            raise SteeringError("got a mixture and weights for the gate's; expected one of them; leave one out")
        for name, factor in self.weights.items():
            if not 0 <= factor < math.inf:
                raise SteeringError(f"got weight {factor} for {name}; expected 0 or more; correct it")
        for name, weight in (self.mixture or {}).items():
            if not math.isfinite(weight):
                raise SteeringError(f"got weight {weight} for {name} in a mixture; expected a number; correct it")

    def apply(self, gating_NK: Floats, objectives: Sequence[str]) -> Floats:
        """Return `[N, K]` weights in place of the gate's.

        Raises:
            SteeringError: an objective is named that the model does not have, or none is left.
        """
        self.require_known(objectives)
        if self.mixture is not None:
            mixture_K = np.array([self.mixture.get(name, 0.0) for name in objectives], gating_NK.dtype)
            return np.broadcast_to(mixture_K, gating_NK.shape)
        factors_K = np.array(self._factors(objectives))
        # Their ratios alone count; the largest is 1, so that none overflows in the gate's type.
        return reweighted(gating_NK, (factors_K / factors_K.max()).astype(gating_NK.dtype))

    def require_known(self, objectives: Sequence[str]) -> None:
        """Refuse names of objectives that the model does not have, and weights that leave none.

        Raises:
            SteeringError: with the names.
        """
        named = {*self.only, *self.weights, *(self.mixture or {})}
        if unknown := sorted(named - set(objectives)):
            raise SteeringError(
                f"got {', '.join(unknown)}; expected objectives of the model: {', '.join(objectives)}; correct the name"
            )
        if self.mixture is None and not any(self._factors(objectives)):
            raise SteeringError("got weight 0 for every objective; expected one above 0; leave one in")

    def _factors(self, objectives: Sequence[str]) -> list[float]:
        return [self.weights.get(name, 1.0) * (not self.only or name in self.only) for name in objectives]

"""The mathematics of ArmoRM reward models: regression, decorrelation, gate, scoring. And `connect`, into a store.

Names are resolved at first use, so that `import armorm` loads neither torch nor transformers. The rest
is imported from its room: `armorm.maths`, `armorm.model`, `armorm.features`.
"""

import importlib
from typing import Any

_HOMES = {
    "ArmormError": "armorm.errors",
    "Decorrelation": "armorm.maths.decorrelate",
    "Gate": "armorm.maths.gate",
    "GateConfig": "armorm.config",
    "GateFit": "armorm.maths.gate",
    "Pairs": "armorm.maths.gate",
    "RewardModel": "armorm.scoring.reward_model",
    "RidgeFit": "armorm.maths.ridge",
    "Scores": "armorm.model.head",
    "Steering": "armorm.maths.steering",
    "connect": "armorm.features.catalog.notebook",
    "fit_ridge": "armorm.maths.ridge",
    "train_gate": "armorm.maths.gate",
}
"""Where each public name lives."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

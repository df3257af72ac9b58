"""The mathematics of ArmoRM reward models: regression, decorrelation, gate, scoring. And `connect`, into a store.

Names are resolved at first use, so that `import armorm` loads neither torch nor transformers. A function that
shares its name with its module (`armorm.score.score`, `armorm.decorrelate.decorrelate`) is imported from there.
"""

import importlib
from typing import Any

_HOMES = {
    "ArmormError": "armorm.errors",
    "Decorrelation": "armorm.decorrelate",
    "Gate": "armorm.gate",
    "GateConfig": "armorm.config",
    "GateFit": "armorm.gate",
    "Pairs": "armorm.gate",
    "RewardModel": "armorm.scoring.model",
    "RidgeFit": "armorm.ridge",
    "Scores": "armorm.model",
    "Steering": "armorm.steering",
    "connect": "armorm.features.notebook",
    "fit_ridge": "armorm.ridge",
    "train_gate": "armorm.gate",
}
"""Where each public name lives."""

__all__ = [
    "ArmormError",
    "Decorrelation",
    "Gate",
    "GateConfig",
    "GateFit",
    "Pairs",
    "RewardModel",
    "RidgeFit",
    "Scores",
    "Steering",
    "connect",
    "fit_ridge",
    "train_gate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

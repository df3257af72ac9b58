"""Everything that can go wrong in the mathematics, as one small tree.

A leaf module: it imports nothing of the project. Every message has the form
"got <value>; expected <allowed>; <what to do>", and every error keeps its facts as attributes.

    ArmormError
    ├── RegressionError       features and ratings that no regression can be fitted to
    ├── DecorrelationError    objectives whose link to the nuisance cannot be removed
    ├── GateError             pairs or settings that no gate can be trained with
    ├── MetricError           figures that are not defined for what was given
    ├── ExportError           a backbone or template that no folder in the published layout can be made of
    ├── SteeringError         weights for objectives that the model does not have, or that are no weights
    └── ModelError            parts or bytes that do not make a reward model
        └── ModelFolderError  a saved model that is missing, damaged or of another format
"""

from collections.abc import Mapping
from pathlib import Path


class ArmormError(Exception):
    """Base of all errors of `armorm`; its text is one line for the user."""


class RegressionError(ArmormError):
    """Features and ratings that no regression can be fitted to."""

    def __init__(self, message: str, *, untrained: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.untrained = dict(untrained or {})
        """Objective -> why it cannot be trained."""


class DecorrelationError(ArmormError):
    """Objectives whose correlation with the nuisance cannot be removed."""

    def __init__(self, message: str, *, unresolved: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.unresolved = dict(unresolved or {})
        """Objective -> status of the search for its lambda."""


class GateError(ArmormError):
    """Pairs or settings that no gate can be trained with."""


class MetricError(ArmormError):
    """A figure that is not defined for what was given."""


class ExportError(ArmormError):
    """A backbone or a chat template that no folder in the published layout can be made of."""


class SteeringError(ArmormError):
    """Weights for objectives that the model does not have, or that are no weights."""


class ModelError(ArmormError):
    """Parts or bytes that do not make a reward model."""


class ModelFolderError(ModelError):
    """A saved model that is missing, damaged or of another format."""

    def __init__(self, folder: Path, message: str) -> None:
        super().__init__(f"{folder}: {message}")
        self.folder = folder

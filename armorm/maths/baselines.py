"""What a gate has to beat: ways to rank a pair without one.

Suffixes: P pairs, K objectives. Each gives `[P]` score differences (chosen minus rejected) for `metrics.wins`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from armorm.maths.metrics import pair_accuracy

Floats = NDArray[np.floating]


def mean_objective(differences_PK: Floats) -> Floats:
    """Return `[P]` the plain mean of the objectives."""
    return np.asarray(differences_PK.mean(axis=1))


def single_objective(differences_PK: Floats, objectives: Sequence[str], *, name: str) -> Floats:
    """Return `[P]` one objective alone."""
    return differences_PK[:, list(objectives).index(name)]


def best_objective(differences_PK: Floats, objectives: Sequence[str]) -> str:
    """Return the objective that alone ranks most pairs correctly, the first of equals; choose it on training pairs."""
    accuracies = [pair_accuracy(single_objective(differences_PK, objectives, name=name)) for name in objectives]
    return objectives[int(np.argmax(accuracies))]

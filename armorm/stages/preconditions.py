"""What the ingested data have to hold for every stage after them: refused before anything is embedded."""

from armorm.config import ALL_ANSWERS, DecorrelationConfig, GateConfig, check_nuisance
from armorm.errors import DecorrelationError, GateError, RegressionError
from armorm.features.catalog.views import connect
from armorm.features.store import Snapshot, Store

LEAST_RATINGS = 2
"""Ratings that an objective needs in training, where they have to differ, and in validation: fewer choose no alpha."""

_RATINGS = """
    SELECT objective, count(*) FILTER (split = 'train'), count(*) FILTER (split = 'validation'),
        count(DISTINCT value) FILTER (split = 'train')
    FROM training_ratings GROUP BY objective
"""

_PAIRS = """
    SELECT count(*) FILTER (split = 'train'), count(*) FILTER (split = 'validation') FROM training_pairs
"""


def require_data(store: Store, snapshot: Snapshot, decorrelation: DecorrelationConfig, gate: GateConfig) -> None:
    """Check that each stage of training finds the rows that it needs.

    Args:
        snapshot: after ingest.
        decorrelation: whose reference has to have ratings, where there is a nuisance, which has to be a trained
            objective beside others.
        gate: which needs validation pairs, where it stops early.

    Raises:
        RegressionError: no objective has ratings enough.
        DecorrelationError: the reference has no ratings, or the nuisance has too few, or it is the only objective that
            has enough.
        GateError: there are no pairs to train on, or none to stop by.
    """
    with connect(store, snapshot) as catalog:
        ratings = catalog.execute(_RATINGS).fetchall()
        ((n_train, n_validation),) = catalog.execute(_PAIRS).fetchall()
        reference = [decorrelation.reference]
        ((n_reference,),) = catalog.execute("SELECT count(*) FROM ratings WHERE dataset = ?", reference).fetchall()
    trained = [name for name, *counts, n_values in ratings if min(counts) >= LEAST_RATINGS and n_values > 1]
    if not trained:
        found = ", ".join(f"{name}: {n} and {m}, of {k} values" for name, n, m, k in ratings) or "none"
        raise RegressionError(
            f"got too few ratings for training and validation ({found}); expected {LEAST_RATINGS} of each, and two "
            "values in training, of one objective at least; add rows, or change the shares of [split]"
        )
    check_nuisance(decorrelation.nuisances, trained)
    if decorrelation.nuisances and decorrelation.reference != ALL_ANSWERS and not n_reference:
        raise DecorrelationError(
            f"got reference {decorrelation.reference}, of which no row gave a rating; expected a rated dataset; see "
            "`armorm ask rejects_by_reason`, or set [decorrelation] reference"
        )
    if not n_train:
        raise GateError("got no training pairs; expected some; add rows, or change the shares of [split]")
    if gate.early_stopping and gate.start == "random" and not n_validation:
        raise GateError(
            f"got early_stopping {gate.early_stopping} and no validation pairs; expected some; set it to 0, or raise "
            "the validation share of [split]"
        )

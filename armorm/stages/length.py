"""The length head: a linear reward that predicts how long an answer is, for decorrelation to take out."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from armorm.config import LENGTH
from armorm.errors import RegressionError
from armorm.features.store import Store
from armorm.features.vectors.shards import FeatureReader
from armorm.maths.ridge import HeldOut, ObjectiveFit, fit_parts, parts_of, predict, report_fits, trainable
from armorm.maths.uncertainty import RewardErrors, fit_errors, with_coverage
from armorm.stages.data import load_answers, load_lengths

if TYPE_CHECKING:
    from armorm.maths.gate import Vectors


def fit_length(
    store: Store, reader: FeatureReader, backbone_id: str
) -> tuple[npt.NDArray[np.floating], ObjectiveFit, RewardErrors]:
    """Fit `log(tokens of the answer)` on f(x+y) by ridge, as an objective of its own, over all answers of the store.

    Returns:
        `[1, D]` weights, how well they predict, and their error.

    Raises:
        RegressionError: there are too few answers in training or validation, or all are of one length.
    """
    answers = load_answers(store, backbone_id=backbone_id)
    ids = answers["conversation_id"].to_numpy()
    prompts_N, n_tokens_N = load_lengths(store, ids, backbone_id=backbone_id)
    length_N1 = np.log(np.maximum(n_tokens_N, 1.0))[:, None]
    splits = {name: (answers["split"] == name).to_numpy() for name in ("train", "validation", "test")}
    try:
        trainable(length_N1, [LENGTH], splits["train"], splits["validation"])
    except RegressionError as error:
        raise RegressionError(
            f"got answers that no length head can be fitted to ({error.untrained[LENGTH]}); expected answers of "
            "several lengths in training and validation; add rows, or set [decorrelation] nuisance to 'none'"
        ) from error
    X_ND = reader.rows("conversation", ids.tolist())
    parts = parts_of(X_ND, length_N1, [LENGTH], splits)
    weights = fit_parts(parts, [LENGTH])
    known_N = ~np.isnan(length_N1[:, 0])

    def held_out(split: str, W_KD: npt.NDArray[np.float64]) -> tuple[HeldOut, "Vectors"]:
        rows = np.flatnonzero(splits[split] & known_N)
        of_split_ND = reader.rows("conversation", ids[rows].tolist())
        found = HeldOut(length_N1[rows], predict(of_split_ND, W_KD), prompts_N[rows], np.ones((len(rows), 1)))
        return found, of_split_ND

    n_train_K = (splits["train"] & known_N).sum(keepdims=True)
    validation, validation_ND = held_out("validation", weights.train_W_KD)
    test, test_ND = held_out("test", weights.W_KD)
    errors_NK = validation.truth_NK - validation.prediction_NK
    errors = fit_errors(parts, [LENGTH], weights.alpha_K, validation_ND, errors_NK)
    (fit,) = with_coverage(report_fits([LENGTH], weights, n_train_K, validation, test), errors, test_ND, test)
    return weights.W_KD, fit, errors

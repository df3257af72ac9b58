"""The length head: a linear reward that predicts how long an answer is, for decorrelation to take out."""

import numpy as np
import numpy.typing as npt

from armorm.config import LENGTH
from armorm.errors import RegressionError
from armorm.features.store import Store
from armorm.features.vectors.shards import FeatureReader
from armorm.maths.ridge import HeldOut, ObjectiveFit, fit_parts, parts_of, predict, report_fits, trainable
from armorm.stages.data import load_answers, load_lengths


def fit_length(store: Store, reader: FeatureReader, backbone_id: str) -> tuple[npt.NDArray[np.floating], ObjectiveFit]:
    """Fit `log(tokens of the answer)` on f(x+y) by ridge, as an objective of its own, over all answers of the store.

    Returns:
        `[1, D]` weights, and how well they predict.

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
    weights = fit_parts(parts_of(X_ND, length_N1, [LENGTH], splits), [LENGTH])
    known_N = ~np.isnan(length_N1[:, 0])

    def held_out(split: str, W_KD: npt.NDArray[np.float64]) -> HeldOut:
        rows = np.flatnonzero(splits[split] & known_N)
        return HeldOut(length_N1[rows], predict(X_ND, W_KD, rows=rows), prompts_N[rows], np.ones((len(rows), 1)))

    n_train_K = (splits["train"] & known_N).sum(keepdims=True)
    (fit,) = report_fits(
        [LENGTH], weights, n_train_K, held_out("validation", weights.train_W_KD), held_out("test", weights.W_KD)
    )
    return weights.W_KD, fit

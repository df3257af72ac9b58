"""Who wins on a store's pairs if prompts are split anew: python benchmarks/resplit.py armorm.toml [SEEDS [TEST]]

Protocol: of each seed 10 % of the prompts are for validation and TEST (0.2) for test, by the SHA-256 of seed and
prompt id, whatever the store's own split. All is fitted anew with the default settings by the functions that the stages
call. The test pairs of all seeds are pooled for the paired differences, whose bootstrap resamples prompts.
"""

import hashlib
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from armorm.config import LENGTH, PREFERENCE, GateConfig
from armorm.features.catalog.inventory import stored_objectives
from armorm.features.vectors.shards import FeatureReader
from armorm.flows.configuration.settings import load_settings
from armorm.maths import baselines
from armorm.maths.decorrelate import decorrelate
from armorm.maths.evaluation import calibration
from armorm.maths.folds import FOLDS, fold_of
from armorm.maths.gate import Pairs, gate_weights, train_gate
from armorm.maths.metrics import spearman
from armorm.maths.paired import paired_test
from armorm.maths.preference import PreferenceFit, covariances, fit_preference
from armorm.maths.ridge import (
    HeldOut,
    Screening,
    Weights,
    fit_folds,
    fit_parts,
    fold_split,
    parts_of,
    report_fits,
    screen,
    trainable,
)
from armorm.maths.uncertainty import fit_errors, with_coverage
from armorm.stages.data import load_lengths, load_pairs, load_ratings

Floats = npt.NDArray[np.floating]
Splits = dict[str, npt.NDArray[np.bool_]]
"""Mask of the rows of each split."""


@dataclass
class Store:
    """All that is read once."""

    X_AD: Floats
    H_UD: Floats
    n_tokens_A: Floats
    answer_prompts: npt.NDArray[np.object_]
    chosen_P: npt.NDArray[np.intp]
    rejected_P: npt.NDArray[np.intp]
    prompt_P: npt.NDArray[np.intp]
    pair_prompts: npt.NDArray[np.object_]
    datasets_P: npt.NDArray[np.object_]
    objectives: tuple[str, ...]
    Y_NK: Floats
    row_N: npt.NDArray[np.intp]
    rated_prompts: npt.NDArray[np.object_]

    @cached_property
    def differences_PD(self) -> Floats:
        """Features of the chosen answers less those of the rejected ones."""
        return self.X_AD[self.chosen_P] - self.X_AD[self.rejected_P]

    @cached_property
    def log_A(self) -> Floats:
        """What the length head predicts."""
        return np.log(np.maximum(self.n_tokens_A, 1))


def read(config: Path) -> Store:
    """Read every answer, prompt, pair and rating that is not of a benchmark."""
    store = load_settings(config).open_store()
    (backbone_id,) = store.head().within("backbone")
    reader = FeatureReader(store, backbone_id)
    pairs = load_pairs(store, backbone_id=backbone_id)
    pairs = pairs.select(pairs.usable("train", "validation", "test"))
    rated = load_ratings(store, stored_objectives(store.head()), backbone_id=backbone_id)
    ids = np.unique(np.concatenate([rated.conversation_ids, pairs.chosen_ids, pairs.rejected_ids]))
    prompts = np.unique(pairs.prompt_ids)
    answer_prompts, n_tokens_A = load_lengths(store, ids, backbone_id=backbone_id)
    return Store(
        reader.rows("conversation", ids.tolist())[:],
        reader.rows("prompt", prompts.tolist())[:],
        n_tokens_A,
        answer_prompts,
        np.searchsorted(ids, pairs.chosen_ids),
        np.searchsorted(ids, pairs.rejected_ids),
        np.searchsorted(prompts, pairs.prompt_ids),
        pairs.prompt_ids,
        pairs.datasets,
        rated.objectives,
        rated.Y_NK,
        np.searchsorted(ids, rated.conversation_ids),
        rated.prompt_ids,
    )


def splits(prompts: npt.NDArray[np.object_], seed: int, test: float) -> Splits:
    """Return `[N]` masks of the three splits."""
    u_N = np.array([int(hashlib.sha256(f"{seed}:{p}".encode()).hexdigest()[:8], 16) / 2**32 for p in prompts])
    return {"test": u_N < test, "validation": (u_N >= test) & (u_N < test + 0.1), "train": u_N >= test + 0.1}


def run(of: Store, seed: int, test: float, nuisance: str) -> dict[str, npt.NDArray[np.bool_]]:
    """Return `[T]` whether each test pair is won, by scorer; prints one line."""
    rated, pairs = splits(of.rated_prompts, seed, test), splits(of.pair_prompts, seed, test)
    answers = splits(of.answer_prompts, seed, test)
    own = _fit_objectives(of, rated)
    direction, unit = _fit_direction(of, own, pairs, answers, nuisance)
    W_KD = np.concatenate([own.weights.W_KD, unit[0] * direction.w_D[None]])
    heads, transform_KK, rho = [*own.names, PREFERENCE], np.eye(len(own.names) + 1), []
    if nuisance == LENGTH:
        W_KD, transform_KK, rho = _without_length(of, W_KD, heads, answers)
        heads.append(LENGTH)

    rewards_PK = of.differences_PD @ W_KD.T
    unseen_PK = _unseen(of, own, direction, unit, rewards_PK, pairs)

    def pairs_of(split: str) -> Pairs:
        rows = np.flatnonzero(pairs[split])
        used, index_P = np.unique(of.prompt_P[rows], return_inverse=True)
        return Pairs(of.H_UD[used], unseen_PK[rows], index_P, of.datasets_P[rows])

    fit = train_gate(
        pairs_of("train"),
        transform_KK,
        config=GateConfig(),
        validation=pairs_of("validation"),
        entering_K=np.array([name not in (*own.left_out, LENGTH) for name in heads]),
    )
    decorrelated_PK = rewards_PK @ transform_KK
    scores_P = (decorrelated_PK * gate_weights(fit.gate(), of.H_UD)[of.prompt_P]).sum(axis=1)
    here, own_PK = pairs["test"], decorrelated_PK[:, : len(own.names)]
    margins = {
        "gate": scores_P,
        "probe": of.differences_PD @ direction.probe.w_D,
        "mean": baselines.mean_objective(own_PK),
        "single": own_PK[:, (own_PK[pairs["train"]] > 0).mean(axis=0).argmax()],
    }
    sure = calibration(
        scores_P[here], beta=fit.beta, datasets_P=of.datasets_P[here], beta_by_dataset=fit.beta_by_dataset
    )
    print(
        f"seed {seed}: {int(here.sum())} test pairs, step {fit.step},",
        ", ".join(f"{name} {(m_P[here] > 0).mean():.4f}" for name, m_P in margins.items()),
        f"; ECE {sure.rows[0].error:.3f}, of datasets",
        ", ".join(f"{row.dataset} ({row.n}) {row.error:.3f}" for row in sure.rows[1:] if row.n >= 200),
        f"; rho {rho}; left out {own.left_out}; coverage of 90 % {own.covered}",
        flush=True,
    )
    return {name: m_P[here] > 0 for name, m_P in margins.items()} | {"prompts": of.pair_prompts[here]}


@dataclass(frozen=True)
class Objectives:
    """The rated objectives of a split, as `regress` fits them."""

    names: tuple[str, ...]
    weights: Weights
    fold_FKD: Floats
    left_out: dict[str, Screening]
    """What does not enter the gate."""
    covered: dict[str, float]
    """The share of test ratings in their interval of 90 %."""


def _fit_objectives(of: Store, rated: Splits) -> Objectives:
    names, _ = trainable(of.Y_NK, of.objectives, rated["train"], rated["validation"])
    Y_NK, X_ND = of.Y_NK[:, [of.objectives.index(name) for name in names]], of.X_AD[of.row_N]
    weights = fit_parts(parts_of(X_ND, Y_NK, names, rated), names)
    fold_N = fold_of(of.rated_prompts)
    by_fold = {fold_split(fold): rated["train"] & (fold_N == fold) for fold in range(FOLDS)}
    fold_FKD = fit_folds(parts_of(X_ND, Y_NK, names, by_fold), names, weights.alpha_K.tolist(), n_folds=FOLDS)
    return Objectives(names, weights, fold_FKD, *_screened(of, rated, names, Y_NK, X_ND, weights))


def _fit_direction(
    of: Store, own: Objectives, pairs: Splits, answers: Splits, nuisance: str
) -> tuple[PreferenceFit, list[float]]:
    """Return the direction of preference, and what brings it, and that of each fold, to the objectives' spread."""
    training, validation = np.flatnonzero(pairs["train"]), np.flatnonzero(pairs["validation"])
    with_length_1D = covariances(of.X_AD[answers["train"]], of.log_A[None, answers["train"]])
    found = fit_preference(
        lambda rows: lambda: iter([of.differences_PD[rows]]),
        training,
        validation,
        fold_of(of.pair_prompts),
        with_length_1D if nuisance == LENGTH else None,
    )
    answers_ND = of.X_AD[np.unique(np.concatenate([of.chosen_P[training], of.rejected_P[training]]))]
    spread = (answers_ND @ own.weights.W_KD.T).std(axis=0).mean()
    return found, [spread / (answers_ND @ w_D).std() for w_D in (found.w_D, *found.fold_FD)]


def _without_length(of: Store, W_KD: Floats, heads: list[str], answers: Splits) -> tuple[Floats, Floats, list[float]]:
    """Return the weights with those of the length head, the transform, and the correlations that are left."""
    known = ~np.isnan(of.n_tokens_A)
    with_length = {name: rows & known for name, rows in answers.items()}
    length = fit_parts(parts_of(of.X_AD, of.log_A[:, None], [LENGTH], with_length), [LENGTH])
    W_KD = np.concatenate([W_KD, length.W_KD])
    reference = of.X_AD[answers["train"]] @ W_KD.T
    transform_KK = decorrelate(reference, [*heads, LENGTH], nuisances=(LENGTH,)).transform_KK
    held_out = with_length["test"]
    left_AK = (of.X_AD[held_out] @ W_KD.T) @ transform_KK
    rho = [round(float(spearman(left_AK[:, k], of.n_tokens_A[held_out])), 3) for k in range(len(heads))]
    return W_KD, transform_KK, rho


def _unseen(
    of: Store, own: Objectives, direction: PreferenceFit, unit: list[float], rewards_PK: Floats, pairs: Splits
) -> Floats:
    """Return `[P, K]` rewards of pairs by weights that have not seen their prompts."""
    unseen_PK, n_own, fold_P = rewards_PK.copy(), len(own.names), fold_of(of.pair_prompts)
    unseen_PK[pairs["validation"], :n_own] = of.differences_PD[pairs["validation"]] @ own.weights.train_W_KD.T
    for fold in range(FOLDS):
        rows = np.flatnonzero(pairs["train"] & (fold_P == fold))
        unseen_PK[rows, :n_own] = of.differences_PD[rows] @ own.fold_FKD[fold].T
        unseen_PK[rows, n_own] = of.differences_PD[rows] @ direction.fold_FD[fold] * unit[fold + 1]
    return unseen_PK


def _screened(
    of: Store,
    rated: Splits,
    names: tuple[str, ...],
    Y_NK: Floats,
    X_ND: Floats,
    weights: Weights,
) -> tuple[dict[str, Screening], dict[str, float]]:
    """Return what does not enter the gate, and which share of test ratings lie in their interval of 90 %."""
    labelled_NK, ones_NK = ~np.isnan(Y_NK), np.ones(Y_NK.shape)

    def held_out(split: str, W_KD: Floats) -> HeldOut:
        rows = np.flatnonzero(rated[split] & labelled_NK.any(axis=1))
        return HeldOut(Y_NK[rows], X_ND[rows] @ W_KD.T, of.rated_prompts[rows], ones_NK[rows])

    n_train_K = labelled_NK[rated["train"]].sum(axis=0)
    validation, test = held_out("validation", weights.train_W_KD), held_out("test", weights.W_KD)
    errors_NK = Y_NK - X_ND @ weights.train_W_KD.T
    errors_NK[~rated["validation"]] = np.nan
    errors = fit_errors(parts_of(X_ND, Y_NK, names, rated), names, weights.alpha_K, X_ND, errors_NK)
    test_ND = X_ND[rated["test"] & labelled_NK.any(axis=1)]
    fits = with_coverage(report_fits(names, weights, n_train_K, validation, test), errors, test_ND, test)
    covered = {f"{fit.objective} ({fit.n_test})": round(fit.test_coverage, 3) for fit in fits}
    return screen(fits, least_ratings=GateConfig().least_ratings), covered


def main() -> None:
    """Print a line a seed, and the paired differences over all of them."""
    of = read(Path(sys.argv[1]))
    seeds, test = int((sys.argv[2:] or ["3"])[0]), float((sys.argv[3:] or ["0.2"])[0])
    for nuisance in (LENGTH, "none"):
        print(f"nuisance {nuisance}")
        won = [run(of, seed, test, nuisance) for seed in range(seeds)]
        together = {name: np.concatenate([one[name] for one in won]) for name in won[0]}
        for name in ("probe", "mean", "single"):
            found = paired_test(together[name], together["gate"], together["prompts"])
            d = found.difference
            print(f"gate less {name}: {d.estimate:+.4f} [{d.low:+.4f}, {d.high:+.4f}], p {found.p_value:.2g}")


if __name__ == "__main__":
    main()

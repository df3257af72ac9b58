"""Who wins on a store's pairs if prompts are split anew: python benchmarks/resplit.py armorm.toml [SEEDS [TEST]]

Protocol: of each seed 10 % of the prompts are for validation and TEST (0.2) for test, by the SHA-256 of seed and
prompt id, whatever the store's own split. All is fitted anew with the default settings by the functions that the stages
call. The test pairs of all seeds are pooled for the paired differences, whose bootstrap resamples prompts.
"""

import hashlib
import sys
from dataclasses import dataclass
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
from armorm.maths.preference import covariances, fit_preference
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


def splits(prompts: npt.NDArray[np.object_], seed: int, test: float) -> dict[str, npt.NDArray[np.bool_]]:
    """Return `[N]` masks of the three splits."""
    u_N = np.array([int(hashlib.sha256(f"{seed}:{p}".encode()).hexdigest()[:8], 16) / 2**32 for p in prompts])
    return {"test": u_N < test, "validation": (u_N >= test) & (u_N < test + 0.1), "train": u_N >= test + 0.1}


def run(of: Store, seed: int, test: float, nuisance: str) -> dict[str, npt.NDArray[np.bool_]]:
    """Return `[T]` whether each test pair is won, by scorer; prints one line."""
    rated, pairs = splits(of.rated_prompts, seed, test), splits(of.pair_prompts, seed, test)
    names, _ = trainable(of.Y_NK, of.objectives, rated["train"], rated["validation"])
    Y_NK, X_ND = of.Y_NK[:, [of.objectives.index(name) for name in names]], of.X_AD[of.row_N]
    parts = parts_of(X_ND, Y_NK, names, rated)
    weights = fit_parts(parts, names)
    fold_N = fold_of(of.rated_prompts)
    by_fold = {fold_split(fold): rated["train"] & (fold_N == fold) for fold in range(FOLDS)}
    fold_FKD = fit_folds(parts_of(X_ND, Y_NK, names, by_fold), names, weights.alpha_K.tolist(), n_folds=FOLDS)
    left_out, covered = _screened(of, rated, names, Y_NK, X_ND, weights)

    differences_PD = of.X_AD[of.chosen_P] - of.X_AD[of.rejected_P]
    fold_P = fold_of(of.pair_prompts)
    training, validation = np.flatnonzero(pairs["train"]), np.flatnonzero(pairs["validation"])
    answers = splits(of.answer_prompts, seed, test)
    log_A = np.log(np.maximum(of.n_tokens_A, 1))
    with_length_1D = covariances(of.X_AD[answers["train"]], log_A[None, answers["train"]])
    found = fit_preference(
        lambda rows: lambda: iter([differences_PD[rows]]),
        training,
        validation,
        fold_P,
        with_length_1D if nuisance == LENGTH else None,
    )
    answers_ND = of.X_AD[np.unique(np.concatenate([of.chosen_P[training], of.rejected_P[training]]))]
    spread = (answers_ND @ weights.W_KD.T).std(axis=0).mean()
    unit = [spread / (answers_ND @ w_D).std() for w_D in (found.w_D, *found.fold_FD)]
    W_KD = np.concatenate([weights.W_KD, unit[0] * found.w_D[None]])
    heads = [*names, PREFERENCE]
    if nuisance == LENGTH:
        known = ~np.isnan(of.n_tokens_A)
        length = fit_parts(
            parts_of(of.X_AD, log_A[:, None], [LENGTH], {n: m & known for n, m in answers.items()}), [LENGTH]
        )
        W_KD, heads = np.concatenate([W_KD, length.W_KD]), [*heads, LENGTH]
        reference = of.X_AD[answers["train"]] @ W_KD.T
        transform_KK = decorrelate(reference, heads, nuisances=(LENGTH,)).transform_KK
        held_out = answers["test"] & known
        left_AK = (of.X_AD[held_out] @ W_KD.T) @ transform_KK
        rho = [spearman(left_AK[:, k], of.n_tokens_A[held_out]) for k in range(len(heads) - 1)]
    else:
        transform_KK, rho = np.eye(len(heads)), []

    rewards_PK = differences_PD @ W_KD.T
    unseen_PK = rewards_PK.copy()
    unseen_PK[validation, : len(names)] = differences_PD[validation] @ weights.train_W_KD.T
    for fold in range(FOLDS):
        rows = training[fold_P[training] == fold]
        unseen_PK[rows, : len(names)] = differences_PD[rows] @ fold_FKD[fold].T
        unseen_PK[rows, len(names)] = differences_PD[rows] @ found.fold_FD[fold] * unit[fold + 1]

    def pairs_of(rows: npt.NDArray[np.intp]) -> Pairs:
        used, index_P = np.unique(of.prompt_P[rows], return_inverse=True)
        return Pairs(of.H_UD[used], unseen_PK[rows], index_P, of.datasets_P[rows])

    entering_K = np.array([name not in (*left_out, LENGTH) for name in heads])
    fit = train_gate(
        pairs_of(training),
        transform_KK,
        config=GateConfig(),
        validation=pairs_of(validation),
        entering_K=entering_K,
    )
    decorrelated_PK = rewards_PK @ transform_KK
    scores_P = (decorrelated_PK * gate_weights(fit.gate(), of.H_UD)[of.prompt_P]).sum(axis=1)
    here = pairs["test"]
    own_KP = range(len(names))
    single = max(own_KP, key=lambda k: float((decorrelated_PK[training, k] > 0).mean()))
    margins = {
        "gate": scores_P,
        "probe": differences_PD @ found.probe.w_D,
        "mean": baselines.mean_objective(decorrelated_PK[:, : len(names)]),
        "single": decorrelated_PK[:, single],
    }
    sure = calibration(
        scores_P[here], beta=fit.beta, datasets_P=of.datasets_P[here], beta_by_dataset=fit.beta_by_dataset
    )
    print(
        f"seed {seed}: {int(here.sum())} test pairs, step {fit.step},",
        ", ".join(f"{name} {(m_P[here] > 0).mean():.4f}" for name, m_P in margins.items()),
        f"; ECE {sure.rows[0].error:.3f}, of datasets",
        ", ".join(f"{row.dataset} ({row.n}) {row.error:.3f}" for row in sure.rows[1:] if row.n >= 200),
        "; rho",
        [round(float(r), 3) for r in rho],
        "; left out",
        left_out,
        "; coverage of 90 %",
        covered,
        flush=True,
    )
    return {name: m_P[here] > 0 for name, m_P in margins.items()} | {"prompts": of.pair_prompts[here]}


def _screened(
    of: Store,
    rated: dict[str, npt.NDArray[np.bool_]],
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

"""The best fixed mixture, the gate that starts from it, and the preference objective, on planted pairs."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit

from armorm.config import GateConfig
from armorm.errors import GateError
from armorm.maths.folds import FOLDS, fold_of
from armorm.maths.gate import Pairs, curve_steps, gate_weights, train_gate
from armorm.maths.mixture import LEAST_SHARE, fit_beta, fit_mixture
from armorm.maths.preference import covariances, fit_preference
from armorm.maths.score import score

Floats = npt.NDArray[np.floating]
K = 3
ALL = np.ones(K, dtype=bool)
CONFIG = GateConfig(hidden_dim=32, n_hidden=1, batch_size=256, learning_rate=1e-2)


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def signed(rng: np.random.Generator, differences_PK: Floats, v_K: Floats) -> Floats:
    """Pairs of which the one answer or the other was chosen as Bradley and Terry have it."""
    chosen_P = rng.random(len(differences_PK)) < expit(differences_PK @ v_K)
    return np.where(chosen_P[:, None], differences_PK, -differences_PK)


def test_planted_weights_and_beta_are_found_whatever_the_rewards_spread(rng: np.random.Generator) -> None:
    spread_K = np.array([0.01, 0.1, 0.05])
    v_K = np.array([120.0, 6.0, 0.0])
    pairs_PK = signed(rng, rng.normal(size=(40_000, K)) * spread_K, v_K)
    found = fit_mixture(pairs_PK, ALL)
    assert found.weights_K.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.beta * found.weights_K, v_K, atol=5)
    again = fit_mixture(pairs_PK * 1000, ALL)
    np.testing.assert_allclose(again.weights_K, found.weights_K, atol=1e-4)
    assert again.beta == pytest.approx(found.beta / 1000, rel=1e-3)


def test_no_other_mixture_has_a_smaller_loss(rng: np.random.Generator) -> None:
    pairs_PK = signed(rng, rng.normal(size=(2000, K)), np.array([1.0, 0.5, -0.7]))
    found = fit_mixture(pairs_PK, ALL)

    def loss(weights_K: Floats) -> float:
        margins_P = pairs_PK @ weights_K
        return float(np.logaddexp(0, -fit_beta(margins_P) * margins_P).mean())

    assert found.weights_K[2] == pytest.approx(LEAST_SHARE / K), "what speaks against the pairs gets no more"
    for weights_K in rng.dirichlet(np.ones(K), size=200):
        assert loss(found.weights_K) < loss(weights_K) + 1e-3


def test_an_objective_that_does_not_enter_has_no_weight_at_all(rng: np.random.Generator) -> None:
    pairs_PK = signed(rng, rng.normal(size=(500, K)), np.array([1.0, 2.0, 0.5]))
    weights_K = fit_mixture(pairs_PK, np.array([True, False, True])).weights_K
    assert weights_K[1] == 0
    assert weights_K.sum() == pytest.approx(1)
    with pytest.raises(GateError):
        fit_mixture(pairs_PK, ~ALL)
    with pytest.raises(GateError):
        fit_mixture(np.zeros((5, K)), ALL)


def test_pairs_that_speak_against_every_objective_leave_them_alike() -> None:
    found = fit_mixture(-np.abs(np.random.default_rng(0).normal(size=(50, K))) * [1, 2, 4], ALL)
    np.testing.assert_allclose(found.weights_K / found.weights_K[2], [4, 2, 1], rtol=0.3)
    assert np.isfinite(found.beta)


def test_pairs_that_can_be_told_apart_have_a_finite_beta(rng: np.random.Generator) -> None:
    found = fit_mixture(np.abs(rng.normal(size=(50, K))), ALL)
    assert np.isfinite(found.beta)
    assert (found.weights_K > 0).all()


def pairs_of(rng: np.random.Generator, n_pairs: int, *, gated: bool) -> Pairs:
    prompts_UD = rng.normal(size=(n_pairs, 8)).astype(np.float32)
    v_PK = np.tile([2.0, 2.0, 0.0], (n_pairs, 1))
    if gated:
        v_PK = np.where(prompts_UD[:, :1] > 0, [4.0, 0.0, 0.0], [0.0, 4.0, 0.0])
    differences_PK = rng.normal(size=(n_pairs, K))
    chosen_P = rng.random(n_pairs) < expit((differences_PK * v_PK).sum(axis=1))
    differences_PK = np.where(chosen_P[:, None], differences_PK, -differences_PK)
    return Pairs(prompts_UD, differences_PK, np.arange(n_pairs), np.array(["a", "b"])[np.arange(n_pairs) % 2])


def test_a_gate_begins_with_the_fixed_mixture_for_every_prompt(rng: np.random.Generator) -> None:
    training, validation = pairs_of(rng, 600, gated=False), pairs_of(rng, 300, gated=False)
    fit = train_gate(training, np.eye(K), config=replace(CONFIG, learning_rate=1e-9), validation=validation)
    assert fit.mixture is not None
    expected_K = fit_mixture(training.differences_PK, ALL).weights_K
    np.testing.assert_allclose(
        gate_weights(fit.gate(), validation.prompts_UD), np.tile(expected_K, (300, 1)), rtol=1e-4
    )
    margins_P = validation.differences_PK @ expected_K
    assert fit.curve[0].step == 0
    loss = np.logaddexp(0, -fit.mixture.beta * margins_P).mean()
    assert fit.curve[0].validation_loss == pytest.approx(loss, rel=1e-4)
    assert fit.beta == pytest.approx(fit_beta(margins_P), rel=1e-3)
    assert fit.beta_by_dataset.keys() == {"a", "b"}


def test_where_prompts_say_nothing_the_gate_is_no_worse_than_the_mixture(rng: np.random.Generator) -> None:
    """Few pairs that a large gate could learn by heart."""
    training, validation, test = (pairs_of(rng, n, gated=False) for n in (100, 200, 4000))
    fit = train_gate(training, np.eye(K), config=CONFIG, validation=validation)
    losses = [point.validation_loss for point in fit.curve if point.validation_loss is not None]
    assert min(losses) <= losses[0]
    gating_PK = gate_weights(fit.gate(), test.prompts_UD)
    assert fit.mixture is not None
    right, fixed = (
        (margins_P > 0).mean()
        for margins_P in (score(test.differences_PK, np.eye(K), gating_PK), test.differences_PK @ fit.mixture.weights_K)
    )
    assert right > fixed - 0.02


def test_where_prompts_decide_the_gate_finds_it(rng: np.random.Generator) -> None:
    training, validation, test = (pairs_of(rng, n, gated=True) for n in (3000, 500, 4000))
    fit = train_gate(training, np.eye(K), config=CONFIG, validation=validation)
    gating_PK = gate_weights(fit.gate(), test.prompts_UD)
    assert fit.mixture is not None
    right, fixed = (
        (margins_P > 0).mean()
        for margins_P in (score(test.differences_PK, np.eye(K), gating_PK), test.differences_PK @ fit.mixture.weights_K)
    )
    assert right > fixed + 0.05


def test_early_stopping_waits_for_a_share_of_the_steps(rng: np.random.Generator) -> None:
    """Pairs of validation that speak against those of training get worse from the first step on."""
    training = pairs_of(rng, 2000, gated=True)
    against = replace(training, differences_PK=training.differences_PK * [-1, 1, 1])
    fit = train_gate(training, np.eye(K), config=replace(CONFIG, steps=100, early_stopping=3), validation=against)
    assert (fit.step, fit.curve[-1].step) == (0, 15)


def test_an_objective_that_was_left_out_stays_out(rng: np.random.Generator) -> None:
    training, validation = pairs_of(rng, 800, gated=True), pairs_of(rng, 300, gated=True)
    for start in ("mixture", "random"):
        config = replace(CONFIG, start=start, beta=1.0)
        fit = train_gate(
            training, np.eye(K), config=config, validation=validation, entering_K=np.array([True, False, True])
        )
        gating_NK = gate_weights(fit.gate(), validation.prompts_UD)
        assert (gating_NK[:, 1] == 0).all()
        np.testing.assert_allclose(gating_NK.sum(axis=1), 1, rtol=1e-5)


def test_the_curve_looks_at_the_first_steps_and_then_at_every_twentieth() -> None:
    assert curve_steps(1) == [1]
    assert curve_steps(20) == list(range(1, 21))
    steps = curve_steps(10_000)
    assert steps[:6] == [1, 2, 3, 4, 6, 9]
    assert {500 * n for n in range(1, 21)} <= set(steps)
    assert len(steps) < 40


def test_few_pairs_are_gone_through_a_number_of_times() -> None:
    config = GateConfig(batch_size=100, steps=1000, epochs=10)
    assert [config.n_steps(n) for n in (1, 50, 200, 10**6)] == [10, 10, 20, 1000]
    assert replace(config, epochs=0).n_steps(50) == 1000


def test_the_direction_of_a_fold_has_not_seen_its_pairs(rng: np.random.Generator) -> None:
    """In noise, the direction itself ranks its training pairs rightly, and those of the folds do not."""
    X_PD = rng.normal(size=(300, 60)).astype(np.float32)
    prompts = np.array([f"{number:032x}" for number in rng.integers(2**60, size=300)], dtype=object)
    fold_P = fold_of(prompts)
    assert set(fold_P) == set(range(FOLDS))
    training, validation = np.arange(200), np.arange(200, 300)
    found = fit_preference(lambda rows: lambda: iter([X_PD[rows]]), training, validation, fold_P)
    whole_P = X_PD[training] @ found.probe.w_D
    unseen_P = (X_PD[training] * found.fold_FD[fold_P[training]]).sum(axis=1)
    assert (whole_P > 0).mean() > (unseen_P > 0).mean() + 0.1
    assert abs((unseen_P > 0).mean() - 0.5) < 0.13


def test_a_constrained_direction_is_the_likeliest_without_correlation(rng: np.random.Generator) -> None:
    """Answers whose length pairs dislike: of the rewards that length says nothing about, it is the likeliest."""
    n, D = 4000, 6
    X_ND = rng.normal(size=(n, D)) @ rng.normal(size=(D, D))
    length_N = X_ND @ rng.normal(size=D) + rng.normal(size=n)
    X_PD = X_ND[0::2] - X_ND[1::2]
    X_PD = signed(rng, X_PD, rng.normal(size=D))
    training, validation = np.arange(1000), np.arange(1000, 2000)
    with_length_1D = covariances(X_ND, length_N[None])
    np.testing.assert_allclose(with_length_1D[0], (X_ND - X_ND.mean(axis=0)).T @ (length_N - length_N.mean()) / n)
    found = fit_preference(
        lambda rows: lambda: iter([X_PD[rows]]),
        training,
        validation,
        fold_of(np.arange(2000).astype(str)),
        with_length_1D,
    )
    for w_D in (found.w_D, *found.fold_FD):
        assert abs(np.corrcoef(X_ND @ w_D, length_N)[0, 1]) < 1e-6
    assert abs(np.corrcoef(X_ND @ found.probe.w_D, length_N)[0, 1]) > 0.05

    def loss(w_D: Floats) -> float:
        margins_P = X_PD[training] @ w_D
        return float(np.logaddexp(0, -fit_beta(margins_P) * margins_P).mean())

    a_D = with_length_1D[0] / np.linalg.norm(with_length_1D)
    free_DD = np.eye(D) - np.outer(a_D, a_D)
    length_D = np.linalg.lstsq(X_ND, length_N, rcond=None)[0]
    afterwards_D = found.probe.w_D - length_D * (found.probe.w_D @ a_D) / (length_D @ a_D)
    assert afterwards_D @ a_D == pytest.approx(0, abs=1e-9)
    for w_D in (afterwards_D, *(found.w_D + 0.05 * np.linalg.norm(found.w_D) * rng.normal(size=(50, D)) @ free_DD)):
        assert loss(found.w_D) < loss(w_D) + 1e-6


def test_unknown_nuisances_say_nothing(rng: np.random.Generator) -> None:
    X_ND, z_N = rng.normal(size=(50, 3)), rng.normal(size=50)
    z_N[::5] = np.nan
    known = ~np.isnan(z_N)
    expected_3D = np.cov(X_ND[known].T, z_N[known], bias=True)[-1, :-1]
    np.testing.assert_allclose(covariances(X_ND, z_N[None])[0], expected_3D)

"""The Bradley-Terry probe: scikit-learn's weights, planted ones, alpha by validation pairs, the same for any blocks."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from armorm.errors import MetricError
from armorm.maths import probe
from armorm.maths.metrics import pair_accuracy
from armorm.maths.probe import Blocks, ProbeFit, fit_probe

Array = npt.NDArray[np.float64]


def in_blocks(X_PD: Array, size: int = 100) -> Blocks:
    def read() -> Iterator[Array]:
        return (X_PD[start : start + size] for start in range(0, len(X_PD), size))

    return read


def planted(rng: np.random.Generator, n_pairs: int, w_D: Array) -> Array:
    """Differences whose sign is drawn by the Bradley-Terry probability; directions differ in length by 1,000."""
    X_PD = rng.normal(size=(n_pairs, len(w_D))) * np.geomspace(0.1, 100, len(w_D))
    return np.where(rng.random(n_pairs) < expit(X_PD @ w_D), 1, -1)[:, None] * X_PD


@pytest.fixture
def w_D(seed: int) -> Array:
    n_features = 20
    return np.random.default_rng(seed).normal(size=n_features) / np.geomspace(0.1, 100, n_features)


@pytest.mark.parametrize("strength", [1e-5, 1e-2, 10.0])
def test_weights_are_those_of_scikit_learn(w_D: Array, strength: float, seed: int) -> None:
    """Which knows no pairs: each goes in twice, once turned around."""
    X_PD = planted(np.random.default_rng(seed + 1), 600, w_D)
    fit = fit_probe(in_blocks(X_PD), in_blocks(X_PD), strengths=(strength,))
    assert fit.alpha == pytest.approx(strength * (X_PD**2).mean())
    oracle = LogisticRegression(C=1 / (2 * 600 * fit.alpha), fit_intercept=False, solver="newton-cholesky", tol=1e-10)
    oracle.fit(np.r_[X_PD, -X_PD], np.r_[np.ones(600), np.zeros(600)])
    np.testing.assert_allclose(fit.w_D, oracle.coef_[0], atol=1e-4 * np.abs(oracle.coef_).max())


def test_it_finds_what_was_planted_and_nothing_in_noise(w_D: Array, seed: int) -> None:
    rng = np.random.default_rng(seed + 1)
    parts = [planted(rng, n_pairs, w_D) for n_pairs in (4000, 500, 4000)]
    fit = fit_probe(in_blocks(parts[0]), in_blocks(parts[1]))
    assert (fit.n_train, fit.n_validation) == (4000, 500)
    assert pair_accuracy(parts[2] @ fit.w_D) == pytest.approx(pair_accuracy(parts[2] @ w_D), abs=0.02)
    assert fit.validation_loss < np.log(2)
    shuffled = [X_PD * rng.choice([-1, 1], size=(len(X_PD), 1)) for X_PD in parts]
    chance = fit_probe(in_blocks(shuffled[0]), in_blocks(shuffled[1]))
    assert pair_accuracy(shuffled[2] @ chance.w_D) == pytest.approx(0.5, abs=0.04)


def test_alpha_is_that_of_the_smallest_loss_on_validation_pairs(w_D: Array, seed: int) -> None:
    """With few pairs with many features, all alphas together are as each alone; the best is within the range."""
    rng = np.random.default_rng(seed + 1)
    training, validation = planted(rng, 60, w_D), planted(rng, 300, w_D)
    strengths = (1e-4, 1e-2, 1.0)
    alone = [fit_probe(in_blocks(training), in_blocks(validation), strengths=(s,)) for s in strengths]
    best = min(alone, key=lambda fit: fit.validation_loss)
    together = fit_probe(in_blocks(training), in_blocks(validation), strengths=strengths)
    assert together.strength == best.strength
    assert together.validation_loss == pytest.approx(np.logaddexp(0, -validation @ best.w_D).mean(), rel=1e-4)
    np.testing.assert_allclose(together.w_D, best.w_D, atol=1e-4 * np.abs(best.w_D).max())


def test_neither_blocks_nor_the_scale_of_features_change_what_it_says(w_D: Array, seed: int) -> None:
    rng = np.random.default_rng(seed + 1)
    training, validation = planted(rng, 500, w_D), planted(rng, 100, w_D)

    def fitted(size: int, scale: float = 1.0) -> ProbeFit:
        return fit_probe(in_blocks(training * scale, size), in_blocks(validation * scale, size))

    once = fitted(500)
    assert np.array_equal(once.w_D, fitted(500).w_D)
    np.testing.assert_allclose(fitted(33).w_D, once.w_D, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(fitted(500, 8.0).w_D * 8, once.w_D, rtol=1e-5, atol=1e-8)


def test_more_features_than_pairs_and_features_that_are_constant(seed: int) -> None:
    X_PD = np.random.default_rng(seed).normal(size=(10, 30))
    X_PD[:, 3] = 0
    fit = fit_probe(in_blocks(X_PD), in_blocks(X_PD))
    assert abs(fit.w_D[3]) < 1e-9 * np.abs(fit.w_D).max()
    assert pair_accuracy(X_PD @ fit.w_D) == 1


def test_a_search_that_is_cut_off_is_told(w_D: Array, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient says it: with passes enough it is below the bound, with few it is not."""
    pairs = in_blocks(planted(np.random.default_rng(seed + 1), 2000, w_D))
    whole = fit_probe(pairs, pairs)
    assert whole.converged
    assert whole.gradient <= probe.GRADIENT
    assert whole.n_passes < probe.MAX_PASSES
    monkeypatch.setattr(probe, "MAX_PASSES", 3)
    cut_off = fit_probe(pairs, pairs)
    assert not cut_off.converged
    assert cut_off.gradient > probe.GRADIENT
    assert cut_off.n_passes < whole.n_passes


def test_what_cannot_be_fitted_is_refused() -> None:
    pairs, none = np.ones((3, 2)), np.empty((0, 2))
    for training, validation in ((none, pairs), (pairs, none), (0 * pairs, pairs)):
        with pytest.raises(MetricError, match=rf"\b{len(training)} training\b.*\b{len(validation)} validation\b"):
            fit_probe(in_blocks(training), in_blocks(validation))

"""Errors of rewards: the formula, and that ratings and scores lie in their bounds as often as is said."""

from dataclasses import replace

import numpy as np
import pytest

from armorm.maths.probe import fit_probe
from armorm.maths.ridge import ALPHAS, HeldOut, ObjectiveFit, fit_parts, parts_of, report_fits
from armorm.maths.uncertainty import RewardErrors, fit_errors, lower_bounds, preference_errors, with_coverage

D = 12
SPLITS = ("train", "validation", "test")


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def splits(n_train: int, n_validation: int, n_test: int) -> dict[str, np.ndarray]:
    of_N = np.repeat(SPLITS, [n_train, n_validation, n_test])
    return {split: of_N == split for split in SPLITS}


def fitted(
    X_ND: np.ndarray, Y_NK: np.ndarray, masks: dict[str, np.ndarray], alphas: tuple[float, ...] = ALPHAS
) -> tuple[RewardErrors, np.ndarray, float]:
    """Errors, final weights, and the alpha of the first objective."""
    names = [f"o{k}" for k in range(Y_NK.shape[1])]
    parts = parts_of(X_ND, Y_NK, names, masks)
    weights = fit_parts(parts, names, alphas=alphas)
    held_out = masks["validation"]
    errors_NK = Y_NK[held_out] - X_ND[held_out] @ weights.train_W_KD.T
    errors = fit_errors(parts, names, weights.alpha_K, X_ND[held_out], errors_NK)
    return errors, weights.W_KD, float(weights.alpha_K[0])


def test_the_deviation_is_that_of_the_formula(rng: np.random.Generator) -> None:
    X_ND, Y_NK = rng.normal(size=(70, D)), rng.normal(size=(70, 1))
    errors, _, alpha = fitted(X_ND, Y_NK, splits(50, 20, 0))
    new_ND = rng.normal(size=(7, D))
    inverse_DD = np.linalg.inv(X_ND.T @ X_ND + alpha * np.eye(D))
    leverage_N = np.einsum("nd,de,ne->n", new_ND, inverse_DD, new_ND)
    reward_NK, rating_NK = errors.deviations(new_ND)
    np.testing.assert_allclose(reward_NK[:, 0], errors.noise_K * np.sqrt(leverage_N), rtol=1e-5)
    np.testing.assert_allclose(rating_NK[:, 0], errors.noise_K * np.sqrt(1 + leverage_N), rtol=1e-5)


def test_objectives_of_the_same_rows_and_alpha_share_a_factor(rng: np.random.Generator) -> None:
    """Three of one dataset, one of another; each has the deviation that it would have alone."""
    X_ND, Y_NK = rng.normal(size=(160, D)), rng.normal(size=(160, 4))
    Y_NK[::2, :3], Y_NK[1::2, 3] = np.nan, np.nan
    masks = splits(100, 60, 0)
    errors, _, _ = fitted(X_ND, Y_NK, masks, alphas=(1.0,))
    assert errors.factors_MT.shape == (2, D * (D + 1) // 2)
    assert len(set(errors.factor_K[:3])) == 1
    assert errors.factor_K[3] != errors.factor_K[0]
    for k in range(4):
        alone, _, _ = fitted(X_ND, Y_NK[:, [k]], masks, alphas=(1.0,))
        np.testing.assert_allclose(errors.deviations(X_ND)[0][:, [k]], alone.deviations(X_ND)[0], rtol=1e-5)


def test_fewer_rows_than_features_and_gram_matrices_that_rounding_has_spoilt(rng: np.random.Generator) -> None:
    """A large feature and a tiny alpha: X'X + alpha I is indefinite to rounding."""
    X_ND = 1e6 * rng.normal(size=(8, 1)) @ np.ones((1, D)) + rng.normal(size=(8, D)) * 1e-4
    errors, _, _ = fitted(X_ND, rng.normal(size=(8, 1)), splits(4, 4, 0), alphas=(1e-4,))
    assert np.isfinite(errors.deviations(X_ND)[0]).all()


@pytest.mark.parametrize("noise", ["normal", "binary", "skewed"])
def test_nine_of_ten_ratings_lie_in_an_interval_of_90_percent(noise: str, rng: np.random.Generator) -> None:
    """Whatever their distribution, since the quantiles are those of held-out errors."""
    masks, w_D = splits(300, 600, 3000), rng.normal(size=D)
    X_ND = rng.normal(size=(3900, D))
    truth_N = X_ND @ w_D
    draws = {
        "normal": lambda: truth_N + rng.normal(size=3900),
        "binary": lambda: (rng.random(3900) < 1 / (1 + np.exp(-truth_N))).astype(float),
        "skewed": lambda: truth_N + rng.exponential(size=3900) ** 2,
    }
    Y_NK = draws[noise]()[:, None]
    parts = parts_of(X_ND, Y_NK, ["o"], masks)
    weights = fit_parts(parts, ["o"])

    def held_out(split: str, W_KD: np.ndarray) -> HeldOut:
        rows = masks[split]
        ones_NK = np.ones((rows.sum(), 1))
        return HeldOut(Y_NK[rows], X_ND[rows] @ W_KD.T, np.arange(rows.sum()), ones_NK)

    validation, test = held_out("validation", weights.train_W_KD), held_out("test", weights.W_KD)
    errors = fit_errors(
        parts, ["o"], weights.alpha_K, X_ND[masks["validation"]], validation.truth_NK - validation.prediction_NK
    )
    fits = report_fits(["o"], weights, np.array([300]), validation, test)
    (fit,) = with_coverage(fits, errors, X_ND[masks["test"]], test)
    assert fit.n_test == 3000
    assert fit.test_coverage == pytest.approx(0.9, abs=0.045)
    assert fit.test_coverage_error == pytest.approx(np.sqrt(0.09 / 3000), rel=0.3)


def test_coverage_is_counted_where_each_objective_is_rated(rng: np.random.Generator) -> None:
    X_ND, Y_NK = rng.normal(size=(400, D)), rng.normal(size=(400, 4))
    Y_NK[::2, :3], Y_NK[1::2, 3] = np.nan, np.nan
    masks = splits(100, 60, 240)
    errors, W_KD, _ = fitted(X_ND, Y_NK, masks)
    rows = masks["test"]
    test = HeldOut(Y_NK[rows], X_ND[rows] @ W_KD.T, np.arange(240), np.ones((240, 4)))
    found = with_coverage([ObjectiveFit(f"o{k}") for k in range(4)], errors, X_ND[rows], test)
    low_NK, high_NK = errors.bounds(test.prediction_NK, X_ND[rows])
    inside_NK = (low_NK <= test.truth_NK) & (test.truth_NK <= high_NK)
    assert [fit.test_coverage for fit in found] == pytest.approx((inside_NK.sum(axis=0) / 120).tolist())
    assert [fit.noise for fit in found] == errors.noise_K.tolist()


@pytest.mark.parametrize("noise", ["normal", "binary"])
def test_a_score_is_below_its_bound_as_often_as_is_said(noise: str, rng: np.random.Generator) -> None:
    """The score under the true weights; of binary ratings, too, whose own quantiles would give another share."""
    level, below = 0.1, []
    for _ in range(60):
        w_KD = np.zeros((2, D))
        X_ND = np.c_[np.ones(400), rng.normal(size=(400, D - 1))]
        w_KD[:, 0] = 0.85 if noise == "binary" else 1.0
        expected_NK = X_ND @ w_KD.T
        common_N1 = rng.normal(size=(400, 1))
        Y_NK = (
            (rng.random(expected_NK.shape) < expected_NK).astype(float)
            if noise == "binary"
            else expected_NK + 0.8 * common_N1 + 0.6 * rng.normal(size=expected_NK.shape)
        )
        errors, W_KD, _ = fitted(X_ND, Y_NK, splits(200, 200, 0), alphas=(1e-3,))
        new_ND = np.c_[np.ones(200), rng.normal(size=(200, D - 1))]
        coefficients_NK = np.tile([0.7, -0.3], (200, 1))
        scores_N, true_N = (((new_ND @ of_KD.T) * coefficients_NK).sum(axis=1) for of_KD in (W_KD, w_KD))
        deviation_N = errors.score_deviations(errors.deviations(new_ND)[0], coefficients_NK)
        below.append((true_N < lower_bounds(scores_N, deviation_N, level)).mean())
    assert np.mean(below) == pytest.approx(level, abs=0.035)


def test_errors_of_objectives_that_are_rated_together_go_together(rng: np.random.Generator) -> None:
    """The same error in both adds up, and cancels in their difference; those of other rows are independent."""
    X_ND, masks = rng.normal(size=(900, D)), splits(300, 600, 0)
    y_N = rng.normal(size=900)
    errors, _, _ = fitted(X_ND, np.stack([y_N, y_N], axis=1), masks, alphas=(1.0,))
    assert errors.correlation_KK[0, 1] == pytest.approx(1)
    deviations_NK = np.array([[3.0, 3.0]])
    for signs, expected in (([1.0, 1.0], 6.0), ([1.0, -1.0], 0.0)):
        assert errors.score_deviations(deviations_NK, np.array([signs])) == pytest.approx([expected], abs=1e-6)
    apart = RewardErrors.concat([errors, errors])
    assert apart.correlation_KK[0, 2] == 0
    found = apart.score_deviations(np.array([[3.0, 0.0, 4.0, 0.0]]), np.array([[1.0, 0.0, -1.0, 0.0]]))
    assert found == pytest.approx([5.0])
    np.testing.assert_allclose(apart.deviations(X_ND)[0][:, 2:], errors.deviations(X_ND)[0])


def test_few_held_out_ratings_give_normal_quantiles_and_independent_errors(rng: np.random.Generator) -> None:
    errors, _, _ = fitted(rng.normal(size=(70, D)), rng.normal(size=(70, 2)), splits(50, 20, 0))
    assert errors.quantiles(0.975) == pytest.approx([1.96, 1.96], abs=0.001)
    np.testing.assert_array_equal(errors.correlation_KK, np.eye(2))


def test_a_preference_is_known_where_pairs_have_told_it(rng: np.random.Generator) -> None:
    """Laplace's approximation against the spread of directions that were fitted to other draws of the pairs."""
    n, w_D = 3000, np.array([1.0, -0.5, 0.0])
    X_ND = rng.normal(size=(n, 3))
    found, errors = [], None
    for _ in range(60):
        signs_N1 = np.where(rng.random((n, 1)) < 1 / (1 + np.exp(-X_ND @ w_D[:, None])), 1, -1)
        fit = fit_probe(lambda signs_N1=signs_N1: [X_ND * signs_N1], lambda: [X_ND], strengths=[1e-7])
        errors = preference_errors(lambda signs_N1=signs_N1: [X_ND * signs_N1], fit, np.ones(3), 2.0)
        found.append(2.0 * fit.w_D)
    assert errors is not None
    np.testing.assert_allclose(errors.deviations(np.ones((1, 3)) + np.eye(3))[0][:, 0], np.std(found, axis=0), rtol=0.3)
    np.testing.assert_allclose(errors.deviations(np.ones((1, 3)))[0], 0, atol=1e-6)


def test_errors_survive_a_file(rng: np.random.Generator) -> None:
    errors, _, _ = fitted(rng.normal(size=(70, D)), rng.normal(size=(70, 2)), splits(50, 20, 0))
    again = RewardErrors.of_tensors(errors.tensors())
    X_ND = rng.normal(size=(5, D))
    np.testing.assert_array_equal(again.deviations(X_ND), errors.deviations(X_ND))
    with pytest.raises(ValueError, match="factor_K"):
        RewardErrors.of_tensors(replace(errors, factor_K=errors.factor_K + 9).tensors())

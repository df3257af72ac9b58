"""Intervals of rewards: the formula, and that as many held-out ratings lie in them as is said."""

import numpy as np
import pytest

from armorm.maths.statistics import RidgeStatistics
from armorm.maths.uncertainty import coverage, fit_error, score_deviation

D = 12


def statistics(X_ND: np.ndarray, y_N: np.ndarray) -> RidgeStatistics:
    found = RidgeStatistics.zeros(D, 1)
    found.add(X_ND, y_N[:, None])
    return found


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_deviation_is_that_of_the_formula(rng: np.random.Generator) -> None:
    X_ND, y_N, alpha = rng.normal(size=(50, D)), rng.normal(size=50), 2.0
    of = statistics(X_ND, y_N)
    found = fit_error(of, of, alpha, rng.normal(size=20), rng.normal(size=(20, D)))
    inverse_DD = np.linalg.inv(X_ND.T @ X_ND + alpha * np.eye(D))
    new_ND = rng.normal(size=(7, D))
    leverage_N = np.einsum("nd,de,ne->n", new_ND, inverse_DD, new_ND)
    reward_N, rating_N = found.deviations(new_ND)
    np.testing.assert_allclose(reward_N, found.noise * np.sqrt(leverage_N), rtol=1e-5)
    np.testing.assert_allclose(rating_N, found.noise * np.sqrt(1 + leverage_N), rtol=1e-5)


@pytest.mark.parametrize("noise", ["normal", "binary", "skewed"])
def test_nine_of_ten_ratings_lie_in_an_interval_of_90_percent(noise: str, rng: np.random.Generator) -> None:
    """Whatever their distribution, since the quantiles are those of held-out errors."""
    w_D = rng.normal(size=D)

    def rows(n: int) -> tuple[np.ndarray, np.ndarray]:
        X_ND = rng.normal(size=(n, D))
        truth_N = X_ND @ w_D
        draws = {
            "normal": lambda: truth_N + rng.normal(size=n),
            "binary": lambda: (rng.random(n) < 1 / (1 + np.exp(-truth_N))).astype(float),
            "skewed": lambda: truth_N + rng.exponential(size=n) ** 2,
        }
        return X_ND, draws[noise]()

    (X_ND, y_N), (V_ND, v_N), (T_ND, t_N) = rows(300), rows(600), rows(3000)
    of, alpha = statistics(X_ND, y_N), 1.0
    fitted_D = np.linalg.solve(X_ND.T @ X_ND + alpha * np.eye(D), X_ND.T @ y_N)
    error = fit_error(of, of, alpha, v_N - V_ND @ fitted_D, V_ND)
    assert coverage(t_N, error.interval(T_ND @ fitted_D, T_ND)) == pytest.approx(0.9, abs=0.045)


def test_few_held_out_ratings_give_normal_quantiles(rng: np.random.Generator) -> None:
    X_ND, y_N = rng.normal(size=(50, D)), rng.normal(size=50)
    of = statistics(X_ND, y_N)
    assert fit_error(of, of, 1.0, rng.normal(size=5), rng.normal(size=(5, D))).quantile(0.975) == pytest.approx(
        1.96, abs=0.001
    )


def test_errors_of_objectives_add_up_as_independent_ones() -> None:
    np.testing.assert_allclose(score_deviation(np.array([[3.0, 4.0]]), np.array([[1.0, -1.0]])), [5.0])

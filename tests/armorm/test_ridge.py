"""Ridge: known answers, scikit-learn as the oracle, and statistics that add up in any order."""

from itertools import pairwise
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from armorm import ridge
from armorm.errors import RegressionError
from armorm.ridge import ALPHAS, RidgeFit, RidgeStatistics, collect_statistics, fit_ridge, predict, solve_path

Array = npt.NDArray[np.float64]
N, D = 240, 12
NAMES = ("one", "twin", "other", "sparse")


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def X_ND(rng: np.random.Generator) -> Array:
    return rng.normal(size=(N, D))


@pytest.fixture
def Y_NK(rng: np.random.Generator, X_ND: Array) -> Array:
    """Four objectives; the first two share their rows, the others overlap with them, and with each other."""
    Y_NK = X_ND @ rng.normal(size=(D, 4)) + rng.normal(size=(N, 4))
    rows = np.arange(N)
    Y_NK[rows % 3 == 0, :2] = np.nan
    Y_NK[rows % 4 == 1, 2] = np.nan
    Y_NK[rows % 5 != 2, 3] = np.nan
    return Y_NK


@pytest.fixture
def splits(rng: np.random.Generator) -> dict[str, npt.NDArray[np.bool_]]:
    of_row = rng.integers(10, size=N)
    return {"train_N": of_row < 6, "validation_N": (of_row == 6) | (of_row == 7), "test_N": of_row > 7}


def whole(X_ND: Array, Y_NG: Array) -> RidgeStatistics:
    statistics = RidgeStatistics.zeros(X_ND.shape[1], Y_NG.shape[1])
    statistics.update(X_ND, Y_NG)
    return statistics


def test_known_answer_from_a_singular_value_decomposition(rng: np.random.Generator) -> None:
    """With X = U S V', ridge shrinks the i-th coordinate of U'y by s / (s^2 + alpha)."""
    U, _ = np.linalg.qr(rng.normal(size=(30, 5)))
    V, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    s, c = np.array([10.0, 3.0, 1.0, 0.1, 0.01]), np.arange(1.0, 6.0)
    statistics = whole(U * s @ V.T, (U @ c)[:, None])
    for alpha, W_GD in zip(ALPHAS, solve_path(statistics.gram_DD, statistics.moment_DG, ALPHAS), strict=True):
        np.testing.assert_allclose(W_GD[0], V @ (c * s / (s**2 + alpha)), atol=1e-9)


def test_every_alpha_equals_a_direct_solve_and_scikit_learn(X_ND: Array, rng: np.random.Generator) -> None:
    Y_NG = rng.normal(size=(N, 3))
    path_AGD = solve_path(X_ND.T @ X_ND, X_ND.T @ Y_NG, ALPHAS)
    for alpha, W_GD in zip(ALPHAS, path_AGD, strict=True):
        direct = np.linalg.solve(X_ND.T @ X_ND + alpha * np.eye(D), X_ND.T @ Y_NG).T
        np.testing.assert_allclose(W_GD, direct, atol=1e-10)
        np.testing.assert_allclose(W_GD, Ridge(alpha=alpha, fit_intercept=False).fit(X_ND, Y_NG).coef_, atol=1e-6)


def test_fewer_rows_than_features_at_the_smallest_alpha(rng: np.random.Generator) -> None:
    """The Gram matrix is singular; the dual, with its small kernel matrix, says what the answer is."""
    X_ND, y_N = 100 * rng.normal(size=(8, 50)), rng.normal(size=8)
    W_D = solve_path(X_ND.T @ X_ND, X_ND.T @ y_N[:, None], [1e-4])[0, 0]
    dual = X_ND.T @ np.linalg.solve(X_ND @ X_ND.T + 1e-4 * np.eye(8), y_N)
    np.testing.assert_allclose(W_D, dual, atol=1e-8)
    np.testing.assert_allclose(X_ND @ W_D, y_N, atol=1e-4)


def test_repeated_rows_are_weights(X_ND: Array, rng: np.random.Generator) -> None:
    y_N, times_N = rng.normal(size=N), rng.integers(1, 4, size=N)
    repeated = whole(X_ND.repeat(times_N, axis=0), y_N.repeat(times_N)[:, None])
    W_D = solve_path(repeated.gram_DD, repeated.moment_DG, [1.0])[0, 0]
    weighted = Ridge(alpha=1.0, fit_intercept=False).fit(X_ND, y_N, sample_weight=times_N)
    np.testing.assert_allclose(W_D, weighted.coef_, atol=1e-6)


@given(cuts=st.lists(st.integers(0, 40), max_size=5), order=st.randoms(use_true_random=False))
def test_any_blocks_merged_in_any_order_give_the_same_statistics(cuts: list[int], order: Random) -> None:
    rng = np.random.default_rng(0)
    X_ND, Y_NG = rng.normal(size=(40, 4)), rng.normal(size=(40, 2))
    parts = [whole(X_ND[a:b], Y_NG[a:b]) for a, b in pairwise([0, *sorted(cuts), 40])]
    order.shuffle(parts)
    merged = RidgeStatistics.zeros(4, 2)
    for part in parts:
        merged.merge(part)
    expected = whole(X_ND, Y_NG)
    np.testing.assert_allclose(merged.gram_DD, expected.gram_DD, atol=1e-12)
    np.testing.assert_allclose(merged.moment_DG, expected.moment_DG, atol=1e-12)
    np.testing.assert_allclose(merged.squares_G, expected.squares_G, atol=1e-12)
    assert merged.n_rows == expected.n_rows


def test_training_error_from_statistics_alone(X_ND: Array, rng: np.random.Generator) -> None:
    Y_NG, W_AGD = rng.normal(size=(N, 3)), rng.normal(size=(2, 3, D))
    direct_AG = [((X_ND @ W_GD.T - Y_NG) ** 2).mean(axis=0) for W_GD in W_AGD]
    np.testing.assert_allclose(whole(X_ND, Y_NG).mse(W_AGD), direct_AG)


def test_objectives_with_the_same_labels_share_their_statistics(X_ND: Array, Y_NK: Array) -> None:
    found = list(collect_statistics(X_ND, Y_NK, np.arange(N)))
    assert sorted(columns.tolist() for columns, _ in found) == [[0, 1], [2], [3]]
    for columns, statistics in found:
        labelled_N = ~np.isnan(Y_NK[:, columns[0]])
        expected = whole(X_ND[labelled_N], Y_NK[np.ix_(labelled_N, columns)])
        assert statistics.n_rows == labelled_N.sum()
        np.testing.assert_allclose(statistics.gram_DD, expected.gram_DD)
        np.testing.assert_allclose(statistics.moment_DG, expected.moment_DG)


def fit(X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]]) -> RidgeFit:
    return fit_ridge(X_ND, Y_NK, objectives=NAMES, **splits)


def test_each_objective_is_scikit_learn_on_its_own_rows(
    X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]]
) -> None:
    """Weights, alpha, errors and counts, whichever labels the other objectives have."""
    found = fit(X_ND, Y_NK, splits)
    assert found.objectives == NAMES
    assert found.untrained == {}
    for name, y_N, W_D, report in zip(NAMES, Y_NK.T, found.W_KD, found.reports, strict=True):
        train, validation, test = ((X_ND[s & ~np.isnan(y_N)], y_N[s & ~np.isnan(y_N)]) for s in splits.values())
        models = [Ridge(alpha=alpha, fit_intercept=False).fit(*train) for alpha in ALPHAS]
        errors = [float(np.mean((model.predict(validation[0]) - validation[1]) ** 2)) for model in models]
        best = models[int(np.argmin(errors))]
        np.testing.assert_allclose(W_D, best.coef_, atol=1e-6)
        assert (report.objective, report.alpha) == (name, best.alpha)
        assert report.validation_mse == pytest.approx(min(errors))
        assert report.train_mse == pytest.approx(np.mean((best.predict(train[0]) - train[1]) ** 2))
        assert report.test_r2 == pytest.approx(best.score(*test))
        counts = (report.n_train, report.n_validation, report.n_test)
        assert counts == tuple(len(y) for _, y in (train, validation, test))


def test_a_planted_regression_is_found_and_noise_is_not(
    X_ND: Array, rng: np.random.Generator, splits: dict[str, npt.NDArray[np.bool_]]
) -> None:
    planted, noise = X_ND @ np.ones(D) + 0.1 * rng.normal(size=N), rng.normal(size=N)
    found = fit_ridge(X_ND, np.stack([planted, noise], axis=1), objectives=["planted", "noise"], **splits)
    assert found.reports[0].test_r2 > 0.99
    assert found.reports[0].test_spearman > 0.99
    assert found.reports[1].test_r2 < 0.2


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_blocks_and_row_order_do_not_matter(
    X_ND: Array,
    Y_NK: Array,
    splits: dict[str, npt.NDArray[np.bool_]],
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    dtype: type[np.floating],
) -> None:
    X_ND = X_ND.astype(dtype)
    expected = fit(X_ND, Y_NK, splits)
    monkeypatch.setattr(ridge, "BLOCK_ROWS", 7)
    shuffle = rng.permutation(N)
    found = fit(X_ND[shuffle], Y_NK[shuffle], {name: split_N[shuffle] for name, split_N in splits.items()})
    np.testing.assert_allclose(found.W_KD, expected.W_KD, atol=1e-10)
    np.testing.assert_allclose(predict(X_ND, found.W_KD), X_ND.astype(np.float64) @ found.W_KD.T)


def test_objectives_that_cannot_be_trained_are_left_out_with_the_reason(
    X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]]
) -> None:
    expected = fit(X_ND, Y_NK, splits)
    Y_NK[:, 0] = np.where(np.isnan(Y_NK[:, 0]), np.nan, 0.1)
    Y_NK[splits["validation_N"], 3] = np.nan
    found = fit(X_ND, Y_NK, splits)
    assert found.objectives == ("twin", "other")
    assert found.untrained.keys() == {"one", "sparse"}
    assert "all 0.1" in found.untrained["one"]
    assert "0 validation ratings" in found.untrained["sparse"]
    np.testing.assert_allclose(found.W_KD, expected.W_KD[[1, 2]], atol=1e-10)


def test_without_test_rows_the_test_figures_are_not_defined(
    X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]]
) -> None:
    report = fit(X_ND, Y_NK, splits | {"test_N": np.zeros(N, dtype=bool)}).reports[0]
    assert report.n_test == 0
    assert np.isnan([report.test_mse, report.test_r2, report.test_spearman]).all()


def test_nothing_to_train_is_an_error_that_names_all(
    X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]]
) -> None:
    with pytest.raises(RegressionError, match="no objective that can be trained") as caught:
        fit(X_ND, np.full_like(Y_NK, np.nan), splits)
    assert caught.value.untrained.keys() == set(NAMES)


def test_input_that_cannot_be_meant_is_refused(
    X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]]
) -> None:
    with pytest.raises(RegressionError, match="alphas"):
        fit_ridge(X_ND, Y_NK, objectives=NAMES, alphas=[0.0], **splits)
    with pytest.raises(RegressionError, match=r"expected \[N, D\], \[N, 3\]"):
        fit_ridge(X_ND, Y_NK, objectives=NAMES[:3], **splits)
    with pytest.raises(RegressionError, match="more than one split"):
        fit(X_ND, Y_NK, splits | {"test_N": splits["train_N"]})
    train_row = int(np.flatnonzero(splits["train_N"] & ~np.isnan(Y_NK[:, 0]))[0])
    with pytest.raises(RegressionError, match="1 rows with a label that is not finite"):
        fit(X_ND, np.where(np.arange(N)[:, None] == train_row, np.inf, Y_NK), splits)


@pytest.mark.parametrize(
    ("split", "what"), [("train_N", "feature"), ("validation_N", "prediction"), ("test_N", "prediction")]
)
def test_features_that_overflowed_are_refused_in_every_split(
    X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]], split: str, what: str
) -> None:
    """Not left out of a mean unseen."""
    X_ND[np.flatnonzero(splits[split])[0]] = np.nan
    Y_NK[:] = np.where(np.isnan(Y_NK), 0.5, Y_NK)
    with pytest.raises(RegressionError, match=f"1 rows with a {what} that is not finite"):
        fit(X_ND, Y_NK, splits)

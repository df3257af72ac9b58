"""Ridge: known answers, scikit-learn as the oracle, and statistics that add up in any order."""

from itertools import pairwise
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from armorm.errors import RegressionError
from armorm.maths import ridge
from armorm.maths.ridge import (
    ALPHAS,
    HeldOut,
    ObjectiveFit,
    Part,
    RidgeFit,
    Weights,
    count_rows,
    fit_folds,
    fit_parts,
    fit_ridge,
    fold_split,
    parts_of,
    predict,
    report_fits,
    solve_path,
)
from armorm.maths.statistics import RidgeStatistics

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
    statistics.add(X_ND, Y_NG)
    return statistics


def full(statistics: RidgeStatistics) -> Array:
    """X'X, both triangles."""
    lower_DD = np.tril(statistics.gram_DD)
    return lower_DD + np.tril(lower_DD, -1).T


def assert_same(found: RidgeStatistics, expected: RidgeStatistics) -> None:
    """To 1e-9 of the largest number; what is summed in another order is rounded otherwise."""
    for name in ("gram_DD", "moment_DG", "squares_G"):
        a, b = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max(initial=0))
    assert found.n_rows == expected.n_rows


def test_known_answer_from_a_singular_value_decomposition(rng: np.random.Generator) -> None:
    """With X = U S V', ridge shrinks the i-th coordinate of U'y by s / (s^2 + alpha)."""
    U, _ = np.linalg.qr(rng.normal(size=(30, 5)))
    V, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    s, c = np.array([10.0, 3.0, 1.0, 0.1, 0.01]), np.arange(1.0, 6.0)
    statistics = whole(U * s @ V.T, (U @ c)[:, None])
    for alpha, W_GD in zip(ALPHAS, solve_path(statistics, ALPHAS), strict=True):
        np.testing.assert_allclose(W_GD[0], V @ (c * s / (s**2 + alpha)), atol=1e-9)


def test_every_alpha_equals_a_direct_solve_and_scikit_learn(X_ND: Array, rng: np.random.Generator) -> None:
    Y_NG = rng.normal(size=(N, 3))
    path_AGD = solve_path(whole(X_ND, Y_NG), ALPHAS)
    for alpha, W_GD in zip(ALPHAS, path_AGD, strict=True):
        direct = np.linalg.solve(X_ND.T @ X_ND + alpha * np.eye(D), X_ND.T @ Y_NG).T
        np.testing.assert_allclose(W_GD, direct, atol=1e-10)
        np.testing.assert_allclose(W_GD, Ridge(alpha=alpha, fit_intercept=False).fit(X_ND, Y_NG).coef_, atol=1e-6)


def test_fewer_rows_than_features_at_the_smallest_alpha(rng: np.random.Generator) -> None:
    """The Gram matrix is singular; the dual, with its small kernel matrix, says what the answer is."""
    X_ND, y_N = 100 * rng.normal(size=(8, 50)), rng.normal(size=8)
    W_D = solve_path(whole(X_ND, y_N[:, None]), [1e-4])[0, 0]
    dual = X_ND.T @ np.linalg.solve(X_ND @ X_ND.T + 1e-4 * np.eye(8), y_N)
    np.testing.assert_allclose(W_D, dual, atol=1e-8)
    np.testing.assert_allclose(X_ND @ W_D, y_N, atol=1e-4)


def test_repeated_rows_are_weights(X_ND: Array, rng: np.random.Generator) -> None:
    y_N, times_N = rng.normal(size=N), rng.integers(1, 4, size=N)
    repeated = whole(X_ND.repeat(times_N, axis=0), y_N.repeat(times_N)[:, None])
    W_D = solve_path(repeated, [1.0])[0, 0]
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
    assert_same(merged, whole(X_ND, Y_NG))


def test_training_error_from_statistics_alone(X_ND: Array, rng: np.random.Generator) -> None:
    Y_NG, W_AGD = rng.normal(size=(N, 3)), rng.normal(size=(2, 3, D))
    direct_AG = [((X_ND @ W_GD.T - Y_NG) ** 2).mean(axis=0) for W_GD in W_AGD]
    np.testing.assert_allclose(whole(X_ND, Y_NG).mse(W_AGD), direct_AG)


def test_an_error_near_zero_from_statistics_alone(X_ND: Array, rng: np.random.Generator) -> None:
    """What is left of a difference of large sums is right to 1e-12 of them."""
    W_GD = rng.normal(size=(2, D))
    Y_NG = X_ND @ W_GD.T + 1e-5 * rng.normal(size=(N, 2))
    direct_G = ((X_ND @ W_GD.T - Y_NG) ** 2).mean(axis=0)
    np.testing.assert_allclose(whole(X_ND, Y_NG).mse(W_GD[None])[0], direct_G, atol=1e-12 * float((Y_NG**2).mean()))


@given(
    edited=st.lists(st.integers(0, 39), max_size=30, unique=True),
    n_kept=st.integers(1, 40),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_rows_edited_added_and_removed_equal_a_count_from_scratch(
    edited: list[int], n_kept: int, dtype: type[np.floating]
) -> None:
    rng = np.random.default_rng(0)
    X_ND, Y_NG = (3 + rng.normal(size=(60, 5))).astype(dtype), rng.normal(size=(60, 2))
    statistics = whole(X_ND[:40], Y_NG[:40])
    after_NG = Y_NG.copy()
    after_NG[edited] = 0.25
    statistics.add(X_ND[edited], Y_NG[edited], sign=-1)
    statistics.add(X_ND[edited], after_NG[edited])
    statistics.add(X_ND[40:], after_NG[40:])
    statistics.add(X_ND[n_kept:40], after_NG[n_kept:40], sign=-1)
    rows = np.r_[:n_kept, 40:60]
    assert_same(statistics, whole(X_ND[rows], after_NG[rows]))
    assert not statistics.is_expired


def test_statistics_that_lost_their_digits_say_so(X_ND: Array, rng: np.random.Generator) -> None:
    """One enormous row came and went: the others' sums are what its rounding has left of them."""
    Y_NG, outlier_ND = rng.normal(size=(N, 2)), np.full((1, D), 1e9)
    statistics = whole(X_ND, Y_NG)
    statistics.add(outlier_ND, np.ones((1, 2)))
    assert not statistics.is_expired
    statistics.add(outlier_ND, np.ones((1, 2)), sign=-1)
    assert np.abs(full(statistics) - X_ND.T @ X_ND).max() > 1
    assert statistics.is_expired
    merged = whole(X_ND, Y_NG)
    merged.merge(statistics)
    assert merged.is_expired


def test_statistics_are_kept_as_arrays(X_ND: Array, rng: np.random.Generator) -> None:
    statistics = whole(X_ND, rng.normal(size=(N, 3)))
    arrays = statistics.arrays()
    assert arrays["gram"].shape == (D * (D + 1) // 2,)
    again = RidgeStatistics.of_arrays(arrays)
    for name in ("gram_DD", "moment_DG", "squares_G", "peak_D", "n_rows"):
        assert np.array_equal(getattr(again, name), getattr(statistics, name))


def hidden_states(rng: np.random.Generator, n: int, d: int) -> npt.NDArray[np.float16]:
    """Features as a backbone gives them: a large common mean, a few huge dimensions, a spectrum that falls."""
    spectrum = np.geomspace(1, 1e-2, d)
    X_ND = rng.normal(size=(n, d)) * spectrum @ np.linalg.qr(rng.normal(size=(d, d)))[0]
    X_ND[:, : d // 50 + 1] += 30
    return (2 + 5 * X_ND).astype(np.float16)


def test_hidden_states_equal_scikit_learn_at_every_alpha(rng: np.random.Generator) -> None:
    """To 1e-6 of the weights. A Gram matrix of float32 products is off by more."""
    X_ND = hidden_states(rng, 1500, 100)
    Y_NG = rng.random((1500, 4))
    path_AGD = solve_path(count_rows(X_ND, Y_NG, np.arange(1500)), ALPHAS)
    for alpha, W_GD in zip(ALPHAS, path_AGD, strict=True):
        for W_D, y_N in zip(W_GD, Y_NG.T, strict=True):
            expected_D = Ridge(alpha=alpha, fit_intercept=False, solver="svd").fit(X_ND.astype(float), y_N).coef_
            assert np.linalg.norm(W_D - expected_D) <= 1e-6 * np.linalg.norm(expected_D)
    gram_DD = X_ND.astype(np.float32).T @ X_ND.astype(np.float32)
    single_D = np.linalg.solve(gram_DD + 1e-4 * np.eye(100), X_ND.T.astype(float) @ Y_NG[:, 0])
    expected_D = Ridge(alpha=1e-4, fit_intercept=False, solver="svd").fit(X_ND.astype(float), Y_NG[:, 0]).coef_
    assert np.linalg.norm(single_D - expected_D) > 1e-6 * np.linalg.norm(expected_D)


@pytest.mark.parametrize("n_rows", [1, 30, 80, 99, 100, 101])
def test_hidden_states_of_few_rows_at_every_alpha(rng: np.random.Generator, n_rows: int) -> None:
    """Against the singular values of the rows themselves, which square nothing.

    To 1e-6, or to what rounding X'X allows where as many rows as features make it all but singular: eps times the
    condition number.
    """
    X_ND = hidden_states(rng, n_rows, 100)
    y_N = rng.random(n_rows)
    U_NR, s_R, Vt_RD = np.linalg.svd(X_ND.astype(float), full_matrices=False)
    path_AGD = solve_path(count_rows(X_ND, y_N[:, None], np.arange(n_rows)), ALPHAS)
    for alpha, W_GD in zip(ALPHAS, path_AGD, strict=True):
        expected_D = Vt_RD.T @ (s_R / (s_R**2 + alpha) * (U_NR.T @ y_N))
        condition = (s_R[0] ** 2 + alpha) / (s_R[-1] ** 2 + alpha)
        tolerance = max(1e-6, np.finfo(float).eps * condition)
        assert tolerance == 1e-6 or 90 < n_rows < 110
        assert np.linalg.norm(W_GD[0] - expected_D) <= tolerance * np.linalg.norm(expected_D)


def test_a_float32_gram_matrix_of_few_rows_is_not_positive_definite(rng: np.random.Generator) -> None:
    X_ND = hidden_states(rng, 30, 100).astype(np.float32)
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(X_ND.T @ X_ND + np.float32(1e-4) * np.eye(100, dtype=np.float32))


def test_eigenvalues_below_zero_are_rounding() -> None:
    """Where Cholesky refuses, they count as zero."""
    statistics = RidgeStatistics(np.diag([1.0, -1e-12]), np.array([[1.0], [0.0]]), np.ones(1), np.ones(2), n_rows=9)
    np.testing.assert_allclose(solve_path(statistics, [1e-13]), [[[1.0, 0.0]]])


def test_both_factorisations_give_the_same(X_ND: Array, rng: np.random.Generator) -> None:
    statistics = whole(X_ND, rng.normal(size=(N, 3)))
    many = np.geomspace(1e-4, 1e4, ridge.CHOLESKYS_OF_AN_EIGH + 1).tolist()
    few = solve_path(statistics, many[:3])
    np.testing.assert_allclose(few, solve_path(statistics, many)[:3], atol=1e-10)


def test_parts_are_rows_with_the_same_labels(
    X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]]
) -> None:
    of = {"train": splits["train_N"], "validation": splits["validation_N"]}
    parts = parts_of(X_ND, Y_NK, NAMES, of)
    assert len({part.objectives for part in parts}) == len(parts) > 4
    for split, rows_N in of.items():
        for part in parts:
            mask_K = np.isin(NAMES, part.objectives)
            rows = np.flatnonzero(rows_N & (~np.isnan(Y_NK) == mask_K).all(axis=1))
            assert_same(part.statistics(split), whole(X_ND[rows], Y_NK[np.ix_(rows, mask_K)]))


def test_objectives_of_the_same_parts_share_their_solution(
    X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One path for `one` and its twin; and no split of a part is counted more than once for a set of objectives."""
    solved, counted = [], []
    solve = ridge.solve_path
    monkeypatch.setattr(ridge, "solve_path", lambda s, a: solved.append(s.moment_DG.shape[1]) or solve(s, a))
    of = {"train": splits["train_N"], "validation": splits["validation_N"]}

    def watched(part: Part) -> Part:
        return Part(part.objectives, lambda split: counted.append(split) or part.statistics(split))

    parts = [watched(part) for part in parts_of(X_ND, Y_NK, NAMES, of)]
    fit_parts(parts, NAMES, refit=False)
    assert sorted(solved) == [1, 1, 2]
    held = [sum(name in part.objectives for part in parts) for name in ("one", "other", "sparse")]
    assert len(counted) == 2 * sum(held)


def fit(X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]], *, refit: bool = True) -> RidgeFit:
    return fit_ridge(X_ND, Y_NK, objectives=NAMES, refit=refit, **splits)


@pytest.mark.parametrize("refit", [False, True])
def test_each_objective_is_scikit_learn_on_its_own_rows(
    X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]], refit: bool
) -> None:
    """Weights, alpha, errors and counts, whichever labels the other objectives have."""
    found = fit(X_ND, Y_NK, splits, refit=refit)
    assert found.objectives == NAMES
    assert found.untrained == {}
    for name, y_N, W_D, report in zip(NAMES, Y_NK.T, found.W_KD, found.reports, strict=True):
        train, validation, test = ((X_ND[s & ~np.isnan(y_N)], y_N[s & ~np.isnan(y_N)]) for s in splits.values())
        models = [Ridge(alpha=alpha, fit_intercept=False).fit(*train) for alpha in ALPHAS]
        errors = [float(np.mean((model.predict(validation[0]) - validation[1]) ** 2)) for model in models]
        best = models[int(np.argmin(errors))]
        final = best
        if refit:
            both = (np.concatenate(pair) for pair in zip(train, validation, strict=True))
            final = Ridge(alpha=best.alpha, fit_intercept=False).fit(*both)
        np.testing.assert_allclose(W_D, final.coef_, rtol=1e-6, atol=1e-9)
        assert (report.objective, report.alpha) == (name, best.alpha)
        assert report.validation_mse == pytest.approx(min(errors))
        assert report.train_mse == pytest.approx(np.mean((best.predict(train[0]) - train[1]) ** 2))
        assert report.test_r2 == pytest.approx(final.score(*test))
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


def test_an_alpha_at_an_end_of_those_that_were_tried_is_told() -> None:
    """X'X is 10 I, so alpha = 10 halves the weights: right where validation labels are half of what training says."""
    X_ND = np.sqrt(10) * np.vstack([np.eye(D), np.eye(D)])
    labels_N = np.arange(1.0, D + 1)
    Y_NK = np.stack([np.concatenate([labels_N, share * labels_N]) for share in (0, 0.5, 1)], axis=1)
    training_N = np.arange(2 * D) < D
    splits = {"train_N": training_N, "validation_N": ~training_N, "test_N": np.zeros(2 * D, bool)}
    for alphas, ends in (([1e4, 10.0, 1e-3], ["largest", None, "smallest"]), ([10.0], [None, None, None])):
        fit = fit_ridge(X_ND, Y_NK, objectives=["none", "half", "all"], alphas=alphas, **splits)
        assert [report.alpha_end for report in fit.reports] == ends


def test_objectives_that_cannot_be_trained_are_left_out_with_the_reason(
    X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]]
) -> None:
    expected = fit(X_ND, Y_NK, splits)
    Y_NK[:, 0] = np.where(np.isnan(Y_NK[:, 0]), np.nan, 0.1)
    Y_NK[splits["validation_N"], 3] = np.nan
    found = fit(X_ND, Y_NK, splits)
    assert found.objectives == ("twin", "other")
    assert found.untrained.keys() == {"one", "sparse"}
    assert "all 0.1" in found.untrained["one"].line
    assert found.untrained["sparse"].n_validation == 0
    np.testing.assert_allclose(found.W_KD, expected.W_KD[[1, 2]], atol=1e-10)


def test_without_test_rows_the_test_figures_are_not_defined(
    X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]]
) -> None:
    report = fit(X_ND, Y_NK, splits | {"test_N": np.zeros(N, dtype=bool)}).reports[0]
    assert report.n_test == 0
    assert np.isnan([report.test_mse, report.test_r2, report.test_spearman]).all()


def test_standard_errors_are_those_of_a_bootstrap_over_prompts(rng: np.random.Generator) -> None:
    """Four answers a prompt, which share half of their error."""
    n_prompts = 800
    prompts_N = np.repeat(np.arange(n_prompts), 4)
    truth_N = rng.normal(size=n_prompts).repeat(4) + rng.normal(size=4 * n_prompts)
    predicted_N = truth_N + rng.normal(size=n_prompts).repeat(4) + 0.3 * rng.normal(size=4 * n_prompts)
    figures = held_out_figures(truth_N, predicted_N, prompts_N)
    rows_of = np.arange(4 * n_prompts).reshape(n_prompts, 4)
    draws = (rows_of[rng.integers(n_prompts, size=n_prompts)].reshape(-1) for _ in range(600))
    drawn = [held_out_figures(truth_N[rows], predicted_N[rows], rows) for rows in draws]
    assert figures.test_mse_error == pytest.approx(np.std([of.test_mse for of in drawn]), rel=0.15)
    assert figures.test_r2_error == pytest.approx(np.std([of.test_r2 for of in drawn]), rel=0.15)
    alone = held_out_figures(truth_N, predicted_N, np.arange(4 * n_prompts))
    assert alone.test_mse_error < 0.7 * figures.test_mse_error


def held_out_figures(truth_N: Array, predicted_N: Array, prompts_N: Array, width: float = 1.0) -> ObjectiveFit:
    ones = np.ones(1)
    held_out = HeldOut(truth_N[:, None], predicted_N[:, None], prompts_N, np.full((len(truth_N), 1), width))
    return report_fits(
        ["one"], Weights(ones[None], ones[None], (1.0,), ones, ones, ones), np.zeros(1, np.intp), held_out, held_out
    )[0]


def test_an_error_in_native_units(rng: np.random.Generator) -> None:
    """HelpSteer's 0..4 are bins of a fifth: off by 0.2 is off by one."""
    truth_N = rng.choice([0.1, 0.3, 0.5], size=50)
    assert held_out_figures(truth_N, truth_N + 0.2, np.arange(50), width=5.0).test_mse_native == pytest.approx(1)


def test_nothing_to_train_is_an_error_that_names_all(
    X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]]
) -> None:
    with pytest.raises(RegressionError, match=NAMES[0]) as caught:
        fit(X_ND, np.full_like(Y_NK, np.nan), splits)
    assert caught.value.untrained.keys() == set(NAMES)


def test_input_that_cannot_be_meant_is_refused(
    X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]]
) -> None:
    with pytest.raises(RegressionError, match="alphas"):
        fit_ridge(X_ND, Y_NK, objectives=NAMES, alphas=[0.0], **splits)
    with pytest.raises(RegressionError, match=r"\[N, D\], \[N, 3\]"):
        fit_ridge(X_ND, Y_NK, objectives=NAMES[:3], **splits)
    with pytest.raises(RegressionError, match=rf"\b{splits['train_N'].sum()} rows\b.*\bsplit\b"):
        fit(X_ND, Y_NK, splits | {"test_N": splits["train_N"]})
    train_row = int(np.flatnonzero(splits["train_N"] & ~np.isnan(Y_NK[:, 0]))[0])
    with pytest.raises(RegressionError, match=r"\b1 rows\b.*\blabel\b.*\bfinite\b"):
        fit(X_ND, np.where(np.arange(N)[:, None] == train_row, np.inf, Y_NK), splits)


@pytest.mark.parametrize(
    ("split", "what"), [("train_N", "feature"), ("validation_N", "feature"), ("test_N", "prediction")]
)
def test_features_that_overflowed_are_refused_in_every_split(
    X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]], split: str, what: str
) -> None:
    """Not left out of a mean unseen."""
    X_ND[np.flatnonzero(splits[split])[0]] = np.nan
    Y_NK[:] = np.where(np.isnan(Y_NK), 0.5, Y_NK)
    with pytest.raises(RegressionError, match=rf"\b1 rows\b.*\b{what}\b.*\bfinite\b"):
        fit(X_ND, Y_NK, splits)


def test_weights_of_a_fold_have_not_seen_its_rows(
    X_ND: Array, Y_NK: Array, splits: dict[str, npt.NDArray[np.bool_]]
) -> None:
    """Those of each fold are ridge on the other folds' rows, objective by objective."""
    fold_N, alphas = np.arange(N) % 3, [0.1, 1.0, 10.0, 100.0][: len(NAMES)]
    of_folds = {fold_split(fold): splits["train_N"] & (fold_N == fold) for fold in range(3)}
    found_FKD = fit_folds(parts_of(X_ND, Y_NK, NAMES, of_folds), NAMES, alphas, n_folds=3)
    for fold in range(3):
        for k, alpha in enumerate(alphas):
            rows = splits["train_N"] & (fold_N != fold) & ~np.isnan(Y_NK[:, k])
            X, y = X_ND[rows].astype(np.float64), Y_NK[rows, k]
            expected = np.linalg.solve(X.T @ X + alpha * np.eye(X.shape[1]), X.T @ y)
            np.testing.assert_allclose(found_FKD[fold, k], expected, rtol=1e-6, atol=1e-9)

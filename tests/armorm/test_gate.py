"""The gate: finds a planted one, cannot find one in noise, and exports what it trained."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn.functional import logsigmoid

from armorm.config import PAPERS_GATE, GateConfig
from armorm.errors import GateError
from armorm.maths import baselines
from armorm.maths.gate import (
    Checkpoint,
    Gate,
    GateFit,
    Pairs,
    _batches,
    bradley_terry,
    feature_scale,
    gate_weights,
    train_gate,
)
from armorm.maths.metrics import pair_accuracy
from armorm.maths.score import score

Floats = npt.NDArray[np.floating]
U, D, K = 400, 16, 4
NAMES = ("length", "truth", "style", "safety")
CONFIG = GateConfig(**{**PAPERS_GATE, "steps": 300}, hidden_dim=64, n_hidden=2, learning_rate=3e-3, batch_size=256)
QUICK = replace(CONFIG, steps=20)


def pairs_of(rng: np.random.Generator, directions_KD: Floats, n_prompts: int = U) -> Pairs:
    """Two pairs a prompt; the objective whose direction the prompt lies in decides which answer was chosen.

    Features have the large common mean that hidden states have.
    """
    prompts_UD = rng.normal(size=(n_prompts, D))
    prompt_P = rng.permutation(np.repeat(np.arange(n_prompts), 2))
    differences_PK = 0.1 * rng.normal(size=(2 * n_prompts, K))
    decisive_P = (prompts_UD @ directions_KD.T).argmax(axis=1)[prompt_P]
    differences_PK *= np.sign(differences_PK[np.arange(2 * n_prompts), decisive_P])[:, None]
    return Pairs((0.3 * prompts_UD + 20).astype(np.float32), differences_PK, prompt_P)


def accuracy(fit: GateFit, pairs: Pairs, transform_KK: Floats) -> float:
    gating_PK = gate_weights(fit.gate(), pairs.prompts_UD)[pairs.prompt_P]
    return pair_accuracy(score(pairs.differences_PK, transform_KK, gating_PK))


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def worlds(rng: np.random.Generator) -> tuple[Pairs, Pairs]:
    """Training and held-out pairs of one planted gate, over other prompts."""
    directions_KD = rng.normal(size=(K, D))
    return pairs_of(rng, directions_KD, 4 * U), pairs_of(rng, directions_KD)


def test_a_planted_gate_is_recovered_and_beats_the_baselines(worlds: tuple[Pairs, Pairs]) -> None:
    training, held_out = worlds
    reached = accuracy(train_gate(training, np.eye(K), config=CONFIG), held_out, np.eye(K))
    best = baselines.best_objective(training.differences_PK, NAMES)
    lengths_P = np.arange(len(held_out)) % 7
    others = [
        baselines.mean_objective(held_out.differences_PK),
        baselines.single_objective(held_out.differences_PK, NAMES, name=best),
        (lengths_P - lengths_P[::-1]).astype(float),
    ]
    assert reached > 0.88
    assert reached > max(map(pair_accuracy, others)) + 0.15


def test_on_shuffled_labels_there_is_nothing_to_find(worlds: tuple[Pairs, Pairs], rng: np.random.Generator) -> None:
    training, held_out = worlds
    signs_P = rng.choice([-1.0, 1.0], size=(len(training), 1))
    shuffled = replace(training, differences_PK=training.differences_PK * signs_P)
    plain = pair_accuracy(baselines.mean_objective(held_out.differences_PK))
    assert accuracy(train_gate(shuffled, np.eye(K), config=CONFIG), held_out, np.eye(K)) < plain + 0.06


def test_training_uses_the_transform(worlds: tuple[Pairs, Pairs]) -> None:
    """With raw rewards mixed by an invertible M, the transform M^-1 gives back the very same training."""
    training, _ = worlds
    mixing_KK = np.eye(K)[::-1] * 2
    mixed = replace(training, differences_PK=training.differences_PK @ mixing_KK)
    plain = train_gate(training, np.eye(K), config=QUICK)
    through = train_gate(mixed, np.linalg.inv(mixing_KK), config=QUICK)
    assert through.curve[-1].loss == pytest.approx(plain.curve[-1].loss, rel=1e-5)
    assert train_gate(mixed, np.eye(K), config=QUICK).curve[-1].loss != pytest.approx(plain.curve[-1].loss, rel=1e-3)


def test_the_training_loss_is_that_of_the_scoring_formula(worlds: tuple[Pairs, Pairs]) -> None:
    """The first batch, before any step, computed by hand from `score` and the untrained gate."""
    training, _ = worlds
    config = replace(CONFIG, steps=1, batch_size=len(training))
    transform_KK = np.eye(K)
    transform_KK[0] -= [1.0, 0.3, 0.2, -0.1]
    centre_D, spread_D = feature_scale(training.prompts_UD)
    gating_UK = gate_weights(Gate(D, K, config), (training.prompts_UD - centre_D) / spread_D)
    margins_P = score(training.differences_PK, transform_KK, gating_UK[training.prompt_P].astype(np.float64))
    expected = -logsigmoid(config.beta * torch.from_numpy(margins_P)).mean()
    assert train_gate(training, transform_KK, config=config).curve[0].loss == pytest.approx(float(expected), rel=1e-5)


def test_training_is_adamw_with_cosine_decay(worlds: tuple[Pairs, Pairs]) -> None:
    """Torch's own optimiser and schedule on all pairs at once; the logarithm of beta is trained, and does not decay."""
    training, held_out = worlds
    config = replace(CONFIG, steps=12, batch_size=len(training), weight_decay=0.5, learning_rate=0.01)
    transform_KK = np.eye(K)
    transform_KK[0] -= [1.0, 0.3, 0.2, -0.1]
    fit = train_gate(training, transform_KK, config=config)

    centre_D, spread_D = feature_scale(training.prompts_UD)
    prompts_UD = torch.from_numpy((training.prompts_UD - centre_D) / spread_D).float()
    rewards_PK = torch.from_numpy(training.differences_PK @ transform_KK).float()
    gate, log_beta = Gate(D, K, config), torch.nn.Parameter(torch.tensor(float(np.log(config.beta))))
    groups = [{"params": list(gate.layers.parameters())}, {"params": [log_beta], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=config.steps)
    losses = []
    for _ in range(config.steps):
        margins_P = (gate(prompts_UD)[training.prompt_P] * rewards_PK).sum(dim=1)
        loss = -logsigmoid(log_beta.exp() * margins_P).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())

    assert [point.loss for point in fit.curve] == pytest.approx(losses, rel=1e-4)
    assert fit.beta == pytest.approx(float(log_beta.detach().exp()), rel=1e-4)
    standardised_UD = (held_out.prompts_UD - centre_D) / spread_D
    expected_UK = gate_weights(gate, standardised_UD)
    assert np.ptp(expected_UK, axis=0).min() > 0.01
    np.testing.assert_allclose(gate_weights(fit.gate(), held_out.prompts_UD), expected_UK, atol=1e-4)


def test_the_curve_agrees_with_the_exported_gate(worlds: tuple[Pairs, Pairs]) -> None:
    """Validation inside training and scoring with the gate for raw features give the same figures."""
    training, held_out = worlds
    fit = train_gate(training, np.eye(K), config=QUICK, validation=held_out)
    assert [point.step for point in fit.curve] == list(range(21))
    gating_PK = gate_weights(fit.gate(), held_out.prompts_UD)[held_out.prompt_P]
    margins_P = torch.from_numpy(score(held_out.differences_PK, np.eye(K), gating_PK))
    assert fit.curve[-1].validation_loss == pytest.approx(float(bradley_terry(margins_P, fit.beta).mean()), rel=1e-3)
    assert fit.curve[-1].validation_accuracy == pytest.approx(accuracy(fit, held_out, np.eye(K)), abs=0.005)


def test_validation_decides_nothing(worlds: tuple[Pairs, Pairs]) -> None:
    training, held_out = worlds
    watched = train_gate(training, np.eye(K), config=QUICK, validation=held_out)
    alone = train_gate(training, np.eye(K), config=QUICK)
    for name, array in alone.state.items():
        np.testing.assert_array_equal(watched.state[name], array)
    assert alone.curve[-1].validation_loss is None


def test_weights_sum_to_one_over_the_objectives(worlds: tuple[Pairs, Pairs]) -> None:
    """In training, on three axes too, as in scoring."""
    training, held_out = worlds
    gate = Gate(D, K, CONFIG)
    three_axes = torch.from_numpy(training.prompts_UD[:20].reshape(5, 2, 2, D))
    torch.testing.assert_close(gate(three_axes).sum(-1), torch.ones(5, 2, 2))
    gating_NK = gate_weights(train_gate(training, np.eye(K), config=QUICK).gate(), held_out.prompts_UD)
    assert gating_NK.shape == (U, K)
    assert (gating_NK > 0).all()
    np.testing.assert_allclose(gating_NK.sum(axis=1), 1, atol=1e-5)


def test_a_seed_gives_one_result_and_leaves_the_global_generator_alone(worlds: tuple[Pairs, Pairs]) -> None:
    training, _ = worlds
    before = torch.get_rng_state()
    first, second = (train_gate(training, np.eye(K), config=QUICK) for _ in range(2))
    other = train_gate(training, np.eye(K), config=replace(QUICK, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.curve == second.curve
    assert first.beta == second.beta
    for name, array in first.state.items():
        np.testing.assert_array_equal(second.state[name], array)
    assert not np.array_equal(first.state["layers.1.weight"], other.state["layers.1.weight"])


def test_the_scale_and_place_of_the_features_do_not_matter(worlds: tuple[Pairs, Pairs]) -> None:
    """Powers of two scale exactly; the gates of both read their own raw features."""
    training, held_out = worlds
    fit = train_gate(training, np.eye(K), config=QUICK)
    far = train_gate(replace(training, prompts_UD=training.prompts_UD * 1024), np.eye(K), config=QUICK)
    assert far.curve[-1].loss == pytest.approx(fit.curve[-1].loss, rel=1e-4)
    raw, scaled = gate_weights(fit.gate(), held_out.prompts_UD), gate_weights(far.gate(), held_out.prompts_UD * 1024)
    np.testing.assert_allclose(scaled, raw, atol=1e-3)


def test_a_feature_that_never_varied_in_training_has_no_say_later(worlds: tuple[Pairs, Pairs]) -> None:
    training, held_out = worlds
    prompts_UD = training.prompts_UD.astype(np.float16)
    prompts_UD[:, 3] = 7
    gate = train_gate(replace(training, prompts_UD=prompts_UD), np.eye(K), config=QUICK).gate()
    elsewhere_UD = held_out.prompts_UD.copy()
    elsewhere_UD[:, 3] = 1000
    np.testing.assert_array_equal(gate_weights(gate, elsewhere_UD), gate_weights(gate, held_out.prompts_UD))
    centre_D, spread_D = feature_scale(np.array([[3.0, 1.0, 1.0], [3.0, 5.0, 1.002]]))
    np.testing.assert_allclose(centre_D, [3, 3, 1.001])
    np.testing.assert_allclose(spread_D, [np.inf, 2, 0.01 * 2 / np.sqrt(3)], rtol=1e-6)


def test_prompts_that_are_not_finite_get_no_weights() -> None:
    with pytest.raises(GateError, match="got 1 prompts whose features are not finite"):
        gate_weights(Gate(D, K, CONFIG), np.where(np.arange(3)[:, None] == 1, np.nan, np.ones((3, D))))


def test_beta_is_trained_and_stays_positive(worlds: tuple[Pairs, Pairs]) -> None:
    """From far too small a beta the loss asks for a larger one, whatever its first value's size."""
    training, _ = worlds
    for start in (100.0, 0.01):
        beta = train_gate(training, np.eye(K), config=replace(CONFIG, beta=start, learning_rate=0.01)).beta
        assert beta > 0
        assert beta != pytest.approx(start, rel=1e-3)
    assert beta > 0.02


def test_parameters_are_named_as_in_the_published_model() -> None:
    names = {name: tuple(tensor.shape) for name, tensor in Gate(8, K, GateConfig(hidden_dim=5)).state_dict().items()}
    layers = {0: (5, 8), 1: (5, 5), 2: (5, 5), 3: (K, 5)}
    expected = {f"layers.{n}.weight": shape for n, shape in layers.items()}
    expected |= {f"layers.{n}.bias": shape[:1] for n, shape in layers.items()} | {"logit_scale": (1,)}
    assert names == expected


def test_every_step_is_reported(worlds: tuple[Pairs, Pairs]) -> None:
    seen: list[tuple[int, int]] = []
    train_gate(worlds[0], np.eye(K), config=QUICK, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(step, 20) for step in range(1, 21)]


class Stopped(Exception):
    """The process ends here."""


@pytest.mark.parametrize("settings", [{}, {"early_stopping": 4, "mixing": "sqrt", "precision": "bfloat16"}])
def test_a_stopped_training_goes_on_to_the_same_bits(worlds: tuple[Pairs, Pairs], settings: dict[str, Any]) -> None:
    """Wherever it was stopped: also between two points of the curve, and where the best gate is an earlier one."""
    training, held_out = worlds
    training = replace(training, datasets_P=np.arange(len(training)) % 3)
    config = replace(CONFIG, steps=90, learning_rate=0.02, **settings)
    undisturbed = train_gate(training, np.eye(K), config=config, validation=held_out)
    for stop in (1, 13, 35):
        kept: list[Checkpoint] = []

        def save_checkpoint(make: Callable[[], Checkpoint], kept: list[Checkpoint] = kept, stop: int = stop) -> None:
            checkpoint = make()
            if checkpoint.step == stop:
                kept.append(checkpoint)
                raise Stopped

        with pytest.raises(Stopped):
            train_gate(training, np.eye(K), config=config, validation=held_out, save_checkpoint=save_checkpoint)
        seen: list[int] = []
        resumed = train_gate(
            training,
            np.eye(K),
            config=config,
            validation=held_out,
            resume=kept[0],
            on_progress=lambda done, total, seen=seen: seen.append(done),  # type: ignore[misc]
        )
        assert seen[0] == stop + 1
        assert (resumed.curve, resumed.beta, resumed.step) == (undisturbed.curve, undisturbed.beta, undisturbed.step)
        for name, array in undisturbed.state.items():
            np.testing.assert_array_equal(resumed.state[name], array)


def test_early_stopping_ends_and_takes_the_best(worlds: tuple[Pairs, Pairs]) -> None:
    """Few pairs are soon known by heart, and validation gets worse."""
    training, held_out = worlds
    few = Pairs(training.prompts_UD, training.differences_PK[:60], training.prompt_P[:60])
    config = replace(CONFIG, early_stopping=2)
    fit = train_gate(few, np.eye(K), config=config, validation=held_out)
    losses = [point.validation_loss for point in fit.curve]
    best = min(loss for loss in losses if loss is not None)
    assert fit.curve[-1].step < CONFIG.steps
    assert losses.index(best) == len(losses) - 3
    assert fit.step == fit.curve[-3].step
    gating_PK = gate_weights(fit.gate(), held_out.prompts_UD)[held_out.prompt_P]
    margins_P = torch.from_numpy(score(held_out.differences_PK, np.eye(K), gating_PK))
    assert float(bradley_terry(margins_P, fit.beta).mean()) == pytest.approx(best, rel=1e-3)
    with pytest.raises(GateError, match="no validation pairs"):
        train_gate(few, np.eye(K), config=config)


def test_mixing_says_how_often_a_dataset_is_drawn(worlds: tuple[Pairs, Pairs]) -> None:
    """Draws of datasets with 1, 4 and 16 parts of the pairs; by size each pair comes once before any comes twice."""
    training, _ = worlds
    sizes = np.array([1, 4, 16]) * (len(training) // 21)
    datasets_P = np.repeat(["c", "a", "b"], sizes)
    pairs = Pairs(
        training.prompts_UD, training.differences_PK[: sizes.sum()], training.prompt_P[: sizes.sum()], datasets_P
    )
    for mixing, expected in (("size", [1, 4, 16]), ("sqrt", [1, 2, 4]), ("uniform", [1, 1, 1])):
        config = replace(CONFIG, mixing=mixing, batch_size=sizes.sum() // 7, steps=21)
        drawn = np.concatenate(list(_batches(pairs, config, 21)))
        shares = [float((datasets_P[drawn] == name).mean()) for name in "cab"]
        assert shares == pytest.approx(np.array(expected) / sum(expected), abs=0.02)
        times = np.bincount(drawn, minlength=len(pairs))
        for name in "cab":
            assert np.ptp(times[datasets_P == name]) <= 3, "pairs of one dataset are drawn about as often"
        if mixing == "size":
            assert times.tolist() == [3] * len(pairs)


def test_bfloat16_learns_as_well(worlds: tuple[Pairs, Pairs]) -> None:
    training, held_out = worlds
    fit = train_gate(training, np.eye(K), config=replace(CONFIG, precision="bfloat16"), validation=held_out)
    assert all(array.dtype == np.float32 for array in fit.state.values())
    assert accuracy(fit, held_out, np.eye(K)) > 0.86


def test_prompts_are_read_by_batch(worlds: tuple[Pairs, Pairs]) -> None:
    """What only gives rows that are asked for will do, and no more than a block is asked for at once."""
    training, _ = worlds

    class Lazy:
        asked: ClassVar[list[int]] = []
        shape = training.prompts_UD.shape

        def __len__(self) -> int:
            return self.shape[0]

        def __getitem__(self, rows: Any) -> Floats:
            taken = training.prompts_UD[rows]
            self.asked.append(len(taken))
            return np.asarray(taken)

    lazily = train_gate(replace(training, prompts_UD=Lazy()), np.eye(K), config=QUICK)
    assert lazily.curve == train_gate(training, np.eye(K), config=QUICK).curve
    assert Lazy.asked[-20:] == [QUICK.batch_size] * 20


def test_a_gpu_gives_about_the_same(worlds: tuple[Pairs, Pairs]) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(GateError, match="got device cuda, which torch cannot use"):
            train_gate(worlds[0], np.eye(K), config=replace(QUICK, device="cuda"))
        return
    on_gpu, again = (train_gate(worlds[0], np.eye(K), config=replace(QUICK, device="cuda")) for _ in range(2))
    assert on_gpu.curve == again.curve
    assert on_gpu.curve[-1].loss == pytest.approx(
        train_gate(worlds[0], np.eye(K), config=QUICK).curve[-1].loss, rel=1e-3
    )


def test_input_that_cannot_be_meant_is_refused(worlds: tuple[Pairs, Pairs]) -> None:
    training, _ = worlds
    with pytest.raises(GateError, match=r"expected \[U, D\], \[P, K\] and \[P\]"):
        replace(training, prompt_P=training.prompt_P[1:])
    with pytest.raises(GateError, match=r"expected \[U, D\], \[P, K\] and \[P\]"):
        replace(training, datasets_P=np.zeros(1))
    with pytest.raises(GateError, match="a prompt for each"):
        replace(training, prompt_P=training.prompt_P + 1)
    with pytest.raises(GateError, match="got 0 pairs"):
        Pairs(training.prompts_UD, training.differences_PK[:0], training.prompt_P[:0])
    with pytest.raises(GateError, match="differences that are not finite"):
        replace(training, differences_PK=training.differences_PK * np.nan)
    with pytest.raises(GateError, match=r"transform of shape \(3, 3\)"):
        train_gate(training, np.eye(3), config=QUICK)
    with pytest.raises(GateError, match="features that are not finite"):
        train_gate(replace(training, prompts_UD=training.prompts_UD * np.nan), np.eye(K), config=QUICK)
    with pytest.raises(GateError, match="lower the learning rate"):
        train_gate(training, np.eye(K), config=replace(QUICK, learning_rate=1e30))

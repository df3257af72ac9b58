"""Stage 3: the mixture-of-experts gate, which reads the prompt and weighs the objectives.

Suffixes: P pairs, U distinct prompts, N rows, D feature size, K objectives. Chosen and rejected answer share their
prompt and so their gate weights, and the score is linear in the rewards: training needs one prompt row and one
difference of raw rewards a pair, never both sides.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from armorm.config import GateConfig
from armorm.errors import GateError
from armorm.score import score

Floats = NDArray[np.floating]
Rows = NDArray[np.intp]
State = Mapping[str, Floats]
"""Parameter name -> array, by the published model's names (`layers.0.weight`, .., `logit_scale`)."""

_BATCH_ROWS: Final = 4096
_CURVE_POINTS: Final = 20


@dataclass(frozen=True, slots=True)
class Pairs:
    """Preference pairs as the gate sees them."""

    prompts_UD: Floats
    """`[U, D]` features f(x), one row per distinct prompt; may be a memory map of any float type."""
    differences_PK: Floats
    """`[P, K]` raw rewards of the chosen answer less those of the rejected one."""
    prompt_P: NDArray[np.integer]
    """`[P]` each pair's row in `prompts_UD`."""

    def __post_init__(self) -> None:
        shapes = (self.prompts_UD.shape, self.differences_PK.shape, self.prompt_P.shape)
        if tuple(map(len, shapes)) != (2, 2, 1) or len(self.prompt_P) != len(self):
            raise GateError(
                "got prompts {}, differences {} and prompt index {}; expected [U, D], [P, K] and [P]".format(*shapes)
            )
        if len(self) == 0 or self.prompt_P.min() < 0 or self.prompt_P.max() >= len(self.prompts_UD):
            raise GateError(
                f"got {len(self)} pairs over {len(self.prompts_UD)} prompts; expected pairs, and a prompt for each"
            )
        if not np.isfinite(self.differences_PK).all():
            raise GateError("got reward differences that are not finite; expected numbers; check the regression")

    def __len__(self) -> int:
        return len(self.differences_PK)


class Gate(nn.Module):
    """A ReLU MLP with a softmax over the objectives; parameters are named as in the published model."""

    def __init__(self, n_features: int, n_objectives: int, config: GateConfig) -> None:
        """Makes a gate whose layers are drawn from `config.seed`, and from nothing else."""
        super().__init__()
        self.temperature = config.temperature
        sizes = [n_features, *[config.hidden_dim] * config.n_hidden, n_objectives]
        generator = torch.Generator().manual_seed(config.seed)
        self.layers = nn.ModuleList(_linear(rows, columns, generator) for rows, columns in pairwise(sizes))
        # Scaling the weights scales the score, which beta does already in the loss: it stays at 1, so weights sum to 1.
        self.logit_scale = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, H_ND: Tensor) -> Tensor:
        """`[N, K]` weights `softmax(logits / temperature) * logit_scale`, normalised over the objectives."""
        *hidden, last = self.layers
        for layer in hidden:
            H_ND = torch.relu(layer(H_ND))
        return torch.softmax(last(H_ND).float() / self.temperature, dim=-1) * self.logit_scale

    @classmethod
    def from_state(cls, state: State, config: GateConfig) -> "Gate":
        """Rebuilds a trained gate."""
        n_features, n_objectives = state["layers.0.weight"].shape[1], len(state[f"layers.{config.n_hidden}.bias"])
        gate = cls(n_features, n_objectives, config)
        gate.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
        return gate


def _linear(n_inputs: int, n_outputs: int, generator: torch.Generator) -> nn.Linear:
    """A layer drawn as `nn.Linear` does by default, but not from torch's global generator."""
    layer = nn.Linear(n_inputs, n_outputs, device="meta").to_empty(device="cpu")
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(n_inputs**-0.5), n_inputs**-0.5, generator=generator)
    return layer


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Training seen at one step; validation figures are None without validation pairs."""

    step: int
    loss: float
    """Mean over the batches since the last point."""
    validation_loss: float | None
    validation_accuracy: float | None


@dataclass(frozen=True, slots=True)
class GateFit:
    """A trained gate, for raw features f(x)."""

    state: dict[str, NDArray[np.float32]]
    beta: float
    """The loss's trained scale."""
    config: GateConfig
    curve: tuple[CurvePoint, ...]

    def gate(self) -> Gate:
        """The gate as a module."""
        return Gate.from_state(self.state, self.config)


def bradley_terry(margins_P: Tensor, beta: Tensor | float) -> Tensor:
    """`[P]` losses `-log sigmoid(beta (R_chosen - R_rejected))` (Eq. 5)."""
    return -nn.functional.logsigmoid(beta * margins_P)


@torch.no_grad()
def gate_weights(gate: Gate, H_ND: Floats) -> NDArray[np.float32]:
    """`[N, K]` gate weights of prompts, in batches.

    Raises:
        GateError: if a feature is not finite.
    """
    starts = range(0, max(len(H_ND), 1), _BATCH_ROWS)
    blocks = [gate(torch.from_numpy(H_ND[start : start + _BATCH_ROWS].astype(np.float32))) for start in starts]
    gating_NK: NDArray[np.float32] = torch.cat(blocks).numpy()
    if bad := int((~np.isfinite(gating_NK)).any(axis=1).sum()):
        raise GateError(f"got {bad} prompts whose features are not finite; expected numbers; leave those prompts out")
    return gating_NK


def train_gate(
    pairs: Pairs,
    transform_KK: Floats,
    *,
    config: GateConfig,
    validation: Pairs | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> GateFit:
    """Trains a gate on preference pairs by AdamW with cosine decay (Eq. 5).

    Args:
        pairs: Training pairs, with raw rewards.
        transform_KK: `[K, K]` the decorrelation's T.
        config: Shape, settings and seed; one seed gives one result on a given machine.
        validation: Pairs for the curve; they decide nothing.
        on_progress: Called with (steps done, steps in all) after every step.

    Raises:
        GateError: if shapes disagree, features are not finite, or the loss stops being a number.
    """
    training = _Training(pairs, transform_KK, config)
    groups = [
        {"params": list(training.gate.layers.parameters()), "weight_decay": config.weight_decay},
        {"params": [training.log_beta], "weight_decay": 0.0},  # decay would pull beta towards 1
    ]
    optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    curve, recent = list[CurvePoint](), list[Tensor]()
    for step, batch in enumerate(_batches(len(pairs), config), 1):
        loss = bradley_terry(training(pairs, batch), training.beta).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        recent.append(loss.detach())
        if step % math.ceil(config.steps / _CURVE_POINTS) == 0 or step == config.steps:
            curve.append(training.point(step, torch.stack(recent), validation))
            recent.clear()
        if on_progress is not None:
            on_progress(step, config.steps)
    return GateFit(training.folded_state(), float(training.beta.detach()), config, tuple(curve))


class _Training(nn.Module):
    """A gate with what its training needs besides: the features' scale, T and beta.

    Prompt features come in any scale, and the hidden states of a language model share a mean far larger than their
    spread. The gate therefore trains on standardised features, and `folded_state` moves centre and spread into its
    first layer: what is exported takes raw features, in the published structure.
    """

    centre_D: Tensor
    spread_D: Tensor
    transform_KK: Tensor

    def __init__(self, pairs: Pairs, transform_KK: Floats, config: GateConfig) -> None:
        super().__init__()
        n_objectives = pairs.differences_PK.shape[1]
        if transform_KK.shape != (n_objectives, n_objectives):
            raise GateError(f"got a transform of shape {transform_KK.shape}; expected {(n_objectives, n_objectives)}")
        self.gate = Gate(pairs.prompts_UD.shape[1], n_objectives, config)
        # Adam moves a parameter by about the learning rate a step: beta itself could hardly leave 100, while its
        # logarithm moves by relative steps, and keeps beta positive.
        self.log_beta = nn.Parameter(torch.tensor(math.log(config.beta)))
        centre_D, spread_D = feature_scale(pairs.prompts_UD)
        for name, array in (("centre_D", centre_D), ("spread_D", spread_D), ("transform_KK", transform_KK)):
            self.register_buffer(name, torch.tensor(array, dtype=torch.float32))

    @property
    def beta(self) -> Tensor:
        return self.log_beta.exp()

    def forward(self, pairs: Pairs, rows: Rows) -> Tensor:
        """`[P]` margins `R_chosen - R_rejected` of some pairs."""
        features_PD = torch.from_numpy(pairs.prompts_UD[pairs.prompt_P[rows]].astype(np.float32))
        differences_PK = torch.from_numpy(pairs.differences_PK[rows].astype(np.float32))
        gating_PK: Tensor = self.gate((features_PD - self.centre_D) / self.spread_D)
        return score(differences_PK, self.transform_KK, gating_PK)

    def point(self, step: int, losses: Tensor, validation: Pairs | None) -> CurvePoint:
        """A point of the curve; refuses to go on from a loss that is no number."""
        loss = float(losses.mean())
        if not math.isfinite(loss):
            raise GateError(f"got a loss of {loss} by step {step}; expected a number; lower the learning rate")
        if validation is None:
            return CurvePoint(step, loss, None, None)
        blocks = np.array_split(np.arange(len(validation)), math.ceil(len(validation) / _BATCH_ROWS))
        with torch.no_grad():
            margins = torch.cat([self(validation, block) for block in blocks])
            validation_loss = bradley_terry(margins, self.beta).mean()
        return CurvePoint(step, loss, float(validation_loss), float((margins > 0).float().mean()))

    def folded_state(self) -> dict[str, NDArray[np.float32]]:
        """The gate's parameters for raw features: `W (x - c) / s + b = (W / s) x + (b - (W / s) c)`."""
        state = {name: tensor.detach().numpy() for name, tensor in self.gate.state_dict().items()}
        weight = state["layers.0.weight"] / self.spread_D.numpy().astype(np.float64)
        bias = state["layers.0.bias"] - weight @ self.centre_D.numpy()
        return {**state, "layers.0.weight": weight.astype(np.float32), "layers.0.bias": bias.astype(np.float32)}


def feature_scale(prompts_UD: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`[D]` mean and `[D]` standard deviation, in blocks.

    A feature that hardly varies gets a floor, so that other prompts do not blow it up; one that never varies gets an
    infinite spread, so that its folded weights are 0.

    Raises:
        GateError: if a feature is not finite.
    """
    starts = range(0, len(prompts_UD), _BATCH_ROWS)
    blocks = [prompts_UD[start : start + _BATCH_ROWS] for start in starts]
    centre_D = sum(block.sum(axis=0, dtype=np.float64) for block in blocks) / len(prompts_UD)
    if not np.isfinite(centre_D).all():
        raise GateError("got prompt features that are not finite; expected numbers; leave those prompts out")
    variance_D = sum(((block - centre_D) ** 2).sum(axis=0) for block in blocks) / len(prompts_UD)
    spread_D, typical = np.sqrt(variance_D), math.sqrt(variance_D.mean())
    return centre_D, np.where(spread_D > 1e-6 * typical, np.maximum(spread_D, 1e-2 * typical), np.inf)


def _batches(n_pairs: int, config: GateConfig) -> Iterator[Rows]:
    """One batch of pairs a step: every pair once in a random order, then again in another."""
    rng = np.random.default_rng(config.seed)
    size = min(config.batch_size, n_pairs)
    waiting = np.empty(0, np.intp)
    for _ in range(config.steps):
        if len(waiting) < size:
            waiting = np.concatenate([waiting, rng.permutation(n_pairs)])
        yield waiting[:size]
        waiting = waiting[size:]

"""Stage 3: the mixture-of-experts gate, which reads the prompt and weighs the objectives.

Suffixes: P pairs, U distinct prompts, N rows, D feature size, K objectives. Chosen and rejected answer share their
prompt and so their gate weights, and the score is linear in the rewards: training needs one prompt row and one
difference of raw rewards a pair, never both sides. Prompt rows are read by batch, from wherever they lie.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Final, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from armorm.config import GateConfig, Mixing
from armorm.errors import GateError
from armorm.maths.metrics import CurvePoint
from armorm.maths.mixture import FixedMixture, fit_beta, fit_mixture
from armorm.maths.score import score

Floats = NDArray[np.floating]
Rows = NDArray[np.intp]
State = Mapping[str, Floats]
"""Parameter name -> array, by the published model's names (`layers.0.weight`, .., `logit_scale`)."""

_BATCH_ROWS: Final = 4096
_GROWTH: Final = 1.5
"""Factor between the steps of the first points of the curve, until they are a twentieth of the whole apart."""

_NEVER: Final = -1e3
"""The logit of an objective that does not enter the gate: its weight is 0 in float32, and so is its gradient."""

_LEAST_FOR_BETA: Final = 100
"""Validation pairs of a dataset that a beta of its own is fitted to."""


class Vectors(Protocol):
    """`[N, D]` features by row: an array, a memory map, or what reads rows when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Pairs:
    """Preference pairs as the gate sees them."""

    prompts_UD: Vectors
    """`[U, D]` features f(x), one row per distinct prompt, of any float type."""
    differences_PK: Floats
    """`[P, K]` raw rewards of the chosen answer less those of the rejected one."""
    prompt_P: NDArray[np.integer]
    """`[P]` each pair's row in `prompts_UD`."""
    datasets_P: NDArray[np.generic] | None = None
    """`[P]` each pair's dataset, for mixing; None: all of one."""

    def __post_init__(self) -> None:
        shapes = (self.prompts_UD.shape, self.differences_PK.shape, self.prompt_P.shape)
        aligned = [self.prompt_P, *([] if self.datasets_P is None else [self.datasets_P])]
        if tuple(map(len, shapes)) != (2, 2, 1) or any(len(column_P) != len(self) for column_P in aligned):
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
        """Make a gate whose layers are drawn from `config.seed`, and from nothing else."""
        super().__init__()
        self.temperature = config.temperature
        sizes = [n_features, *[config.hidden_dim] * config.n_hidden, n_objectives]
        generator = torch.Generator().manual_seed(config.seed)
        self.layers = nn.ModuleList(_linear(rows, columns, generator) for rows, columns in pairwise(sizes))
        # Scaling the weights scales the score, which beta does already in the loss: it stays at 1, so weights sum to 1.
        self.logit_scale = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, H_ND: Tensor) -> Tensor:
        """Return `[N, K]` weights `softmax(logits / temperature) * logit_scale`, normalised over the objectives."""
        *hidden, last = self.layers
        for layer in hidden:
            H_ND = torch.relu(layer(H_ND))
        return torch.softmax(last(H_ND).float() / self.temperature, dim=-1) * self.logit_scale

    @torch.no_grad()
    def answer_with(self, weights_K: Floats) -> None:
        """Give every prompt these weights, which sum to 1, until training finds something better."""
        last = self._last
        last.weight.zero_()
        last.bias.copy_(torch.from_numpy(self.temperature * np.log(np.maximum(weights_K, np.finfo(np.float32).tiny))))

    @torch.no_grad()
    def leave_out(self, objectives_K: NDArray[np.bool_]) -> None:
        """Give some objectives a weight of 0 for every prompt, in training too."""
        left_out = torch.from_numpy(objectives_K)
        self._last.weight[left_out] = 0
        self._last.bias[left_out] = self.temperature * _NEVER

    @property
    def _last(self) -> nn.Linear:
        return cast(nn.Linear, self.layers[-1])

    @classmethod
    def from_state(cls, state: State, config: GateConfig) -> "Gate":
        """Rebuild a trained gate."""
        n_features, n_objectives = state["layers.0.weight"].shape[1], len(state[f"layers.{config.n_hidden}.bias"])
        gate = cls(n_features, n_objectives, config)
        gate.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
        return gate


_HAS_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class _Linear(nn.Linear):
    """A float32 layer by oneDNN on a CPU: torch takes MKL, which is half as fast on other processors than Intel's."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `[N, outputs]`, as the base class."""
        if input.device.type != "cpu" or torch.is_autocast_enabled("cpu") or not _HAS_ONEDNN:
            return super().forward(input)
        return nn.functional.linear(input.to_mkldnn(), self.weight, self.bias).to_dense()


def _linear(n_inputs: int, n_outputs: int, generator: torch.Generator) -> nn.Linear:
    """Return a layer drawn as `nn.Linear` does by default, but not from torch's global generator."""
    layer = _Linear(n_inputs, n_outputs, device="meta").to_empty(device="cpu")
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(n_inputs**-0.5), n_inputs**-0.5, generator=generator)
    return layer


@dataclass(frozen=True, slots=True)
class GateFit:
    """A trained gate, for raw features f(x)."""

    state: dict[str, NDArray[np.float32]]
    beta: float
    """The scale of the loss: as trained, or the maximum-likelihood one of validation pairs."""
    config: GateConfig
    curve: tuple[CurvePoint, ...]
    step: int
    """The step of these parameters: the last one, or, with early stopping, that of the smallest validation loss. Of a
    training that starts from the best fixed mixture, 0 is that mixture."""
    beta_by_dataset: dict[str, float]
    """Beta of each dataset with enough validation pairs."""
    mixture: FixedMixture | None
    """The start of the training; None where it started from random weights."""
    n_steps: int
    """The number of steps that were planned."""
    n_epochs: float
    """Times that training went through the pairs."""

    def gate(self) -> Gate:
        """Return the gate as a module."""
        return Gate.from_state(self.state, self.config)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training that was interrupted: going on from it ends in the same bits, on the same machine."""

    step: int
    """Steps done."""
    tensors: dict[str, NDArray[np.float32]]
    """Parameters, the optimiser's moments, the figures since the last point of the curve, and the best so far."""
    curve: tuple[CurvePoint, ...]


def bradley_terry(margins_P: Tensor, beta: Tensor | float) -> Tensor:
    """Return `[P]` losses `-log sigmoid(beta (R_chosen - R_rejected))` (Eq. 5)."""
    return -nn.functional.logsigmoid(beta * margins_P)


@torch.no_grad()
def gate_weights(gate: Gate, H_ND: Vectors) -> NDArray[np.float32]:
    """Return `[N, K]` gate weights of prompts, in batches.

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
    entering_K: NDArray[np.bool_] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    resume: Checkpoint | None = None,
    save_checkpoint: Callable[[Callable[[], Checkpoint]], None] | None = None,
) -> GateFit:
    """Train a gate on preference pairs by AdamW with cosine decay (Eq. 5).

    Args:
        pairs: Training pairs, with raw rewards.
        transform_KK: `[K, K]` the decorrelation's T.
        config: Shape, settings and seed; one seed gives one result on a given machine.
        validation: Pairs for the curve; they decide the end, where `config.early_stopping` asks for it, and beta, where
            `config.calibrate` does.
        entering_K: `[K]` the objectives that may have a weight; None: all.
        on_progress: Called with (steps done, steps in all) after every step.
        resume: Goes on from there; it comes from the same pairs and settings.
        save_checkpoint: Called after every step with what makes a checkpoint; it decides how often one is kept.

    Raises:
        GateError: if shapes disagree, features are not finite, the loss stops being a number, or the device or the
            validation pairs that the settings ask for are not there.
    """
    if config.early_stopping and validation is None and config.start == "random":
        raise GateError(
            f"got early_stopping {config.early_stopping} and no validation pairs; expected some; set it to 0, or raise "
            "the validation share of [split]"
        )
    run = _Run(pairs, transform_KK, config, validation, entering_K)
    if resume:
        run.take_up(resume)
    for batch in islice(_batches(pairs, config, run.n_steps), run.step, None):
        if run.has_ended:
            break
        run.advance(batch)
        if on_progress is not None:
            on_progress(run.step, run.n_steps)
        if save_checkpoint is not None:
            save_checkpoint(run.checkpoint)
    return run.fit()


class _Run:
    """A training between two steps."""

    def __init__(
        self,
        pairs: Pairs,
        transform_KK: Floats,
        config: GateConfig,
        validation: Pairs | None,
        entering_K: NDArray[np.bool_] | None,
    ) -> None:
        self._pairs, self._config, self._validation = pairs, config, validation
        self.n_steps = config.n_steps(len(pairs))
        self._points = set(curve_steps(self.n_steps))
        self._training = _Training(pairs, transform_KK, config, entering_K).to(device_of(config.device))
        groups = [
            {"params": list(self._training.gate.layers.parameters()), "weight_decay": config.weight_decay},
            {"params": [self._training.log_beta], "weight_decay": 0.0},  # decay would pull beta towards 1
        ]
        self._optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        self.step = 0
        self._curve = list[CurvePoint]()
        self._recent = list[Tensor]()
        self._best: dict[str, Tensor] = self._parameters()
        if validation is not None or config.early_stopping:
            self._curve.append(self._training.point(0, None, validation))

    def advance(self, batch: Rows) -> None:
        """Make one step, on a batch of pairs."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._config.learning_rate * (1 + math.cos(math.pi * self.step / self.n_steps)) / 2
        margins_P = self._training(self._pairs, batch)
        loss = bradley_terry(margins_P, self._training.beta).mean()
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._recent.append(torch.stack([loss.detach(), (margins_P.detach() > 0).float().mean()]))
        self.step += 1
        if self.step in self._points:
            self._curve.append(self._training.point(self.step, torch.stack(self._recent), self._validation))
            self._recent.clear()
            if self._best_point() == len(self._curve) - 1:
                self._best = self._parameters()

    @property
    def has_ended(self) -> bool:
        """Whether validation asks to stop early."""
        patience = self._config.early_stopping * _twentieth(self.n_steps)
        if patience and self._validation is None:
            return True  # nothing says that a step is better than the start
        return bool(patience) and self._curve[-1].step - self._curve[self._best_point()].step >= patience

    def _best_point(self) -> int:
        """Return the point of the curve whose parameters are the result: the last one, or that of the smallest loss."""
        losses = [point.validation_loss for point in self._curve if point.validation_loss is not None]
        if not self._config.early_stopping:
            return len(self._curve) - 1
        return losses.index(min(losses)) if losses else 0

    def fit(self) -> GateFit:
        """Return what was trained."""
        with torch.no_grad():
            for name, parameter in self._training.named_parameters():
                parameter.copy_(self._best[name])
        beta, by_dataset = float(self._training.beta.detach()), dict[str, float]()
        if self._config.calibrate and self._validation is not None:
            beta, by_dataset = self._training.betas(self._validation)
        return GateFit(
            self._training.folded_state(),
            beta,
            self._config,
            tuple(self._curve),
            self._curve[self._best_point()].step,
            by_dataset,
            self._training.mixture,
            self.n_steps,
            self.step * min(self._config.batch_size, len(self._pairs)) / len(self._pairs),
        )

    def checkpoint(self) -> Checkpoint:
        """Return all that the next step depends on."""
        tensors = {f"now.{name}": tensor for name, tensor in self._parameters().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        for number, moments in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": tensor for name, tensor in moments.items()}
        tensors["recent"] = torch.stack(self._recent) if self._recent else torch.empty(0, 2)
        arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}
        return Checkpoint(self.step, arrays, tuple(self._curve))

    def take_up(self, checkpoint: Checkpoint) -> None:
        """Resume from a checkpoint."""
        state: dict[int, dict[str, Tensor]] = {}
        parameters = dict(self._training.named_parameters())
        with torch.no_grad():
            for name, array in checkpoint.tensors.items():
                what, _, of = name.partition(".")
                tensor = torch.from_numpy(array.copy())
                if what == "now":
                    parameters[of].copy_(tensor)
                elif what == "best":
                    self._best[of].copy_(tensor)
                elif what == "optimiser":
                    number, _, moment = of.partition(".")
                    state.setdefault(int(number), {})[moment] = tensor
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": state})
        self._recent = list(torch.from_numpy(checkpoint.tensors["recent"].copy()).to(self._training.log_beta.device))
        self._curve, self.step = list(checkpoint.curve), checkpoint.step

    def _parameters(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self._training.named_parameters()}


def _float32(rows: Floats, device: torch.device) -> Tensor:
    """Return rows that were just read, as a tensor of their own."""
    return torch.from_numpy(rows).to(device, torch.float32)


def device_of(name: str) -> torch.device:
    """Return the device that training runs on.

    Raises:
        GateError: torch cannot use it here.
    """
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise GateError(
            f"got device {name}, which torch cannot use ({str(error).splitlines()[0]}); expected cpu, or cuda where "
            "there is a GPU; set device in [gate]"
        ) from error


class _Training(nn.Module):
    """A gate with what its training needs besides: the features' scale, T and beta.

    Prompt features come in any scale, and the hidden states of a language model share a mean far larger than their
    spread. The gate therefore trains on standardised features, and `folded_state` moves centre and spread into its
    first layer: what is exported takes raw features, in the published structure.
    """

    centre_D: Tensor
    spread_D: Tensor
    transform_KK: Tensor

    def __init__(
        self, pairs: Pairs, transform_KK: Floats, config: GateConfig, entering_K: NDArray[np.bool_] | None
    ) -> None:
        super().__init__()
        n_objectives = pairs.differences_PK.shape[1]
        if transform_KK.shape != (n_objectives, n_objectives):
            raise GateError(f"got a transform of shape {transform_KK.shape}; expected {(n_objectives, n_objectives)}")
        self._precision = config.precision
        entering_K = np.ones(n_objectives, dtype=bool) if entering_K is None else entering_K
        self.gate = Gate(pairs.prompts_UD.shape[1], n_objectives, config)
        self.mixture = None
        beta = config.beta
        if config.start == "mixture":
            self.mixture = fit_mixture(pairs.differences_PK @ transform_KK, entering_K)
            beta = beta or self.mixture.beta
            self.gate.answer_with(self.mixture.weights_K)
        self.gate.leave_out(~entering_K)
        # Adam moves a parameter by about the learning rate a step: beta itself could hardly leave 100, while its
        # logarithm moves by relative steps, and keeps beta positive.
        self.log_beta = nn.Parameter(torch.tensor(math.log(beta)))
        centre_D, spread_D = feature_scale(pairs.prompts_UD)
        for name, array in (("centre_D", centre_D), ("spread_D", spread_D), ("transform_KK", transform_KK)):
            self.register_buffer(name, torch.tensor(array, dtype=torch.float32))

    @property
    def beta(self) -> Tensor:
        return self.log_beta.exp()

    def forward(self, pairs: Pairs, rows: Rows) -> Tensor:
        """Return `[P]` margins `R_chosen - R_rejected` of some pairs."""
        device = self.centre_D.device
        features_PD = _float32(pairs.prompts_UD[pairs.prompt_P[rows]], device).sub_(self.centre_D).div_(self.spread_D)
        differences_PK = _float32(pairs.differences_PK[rows], device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._precision == "bfloat16"):
            gating_PK: Tensor = self.gate(features_PD)
        return score(differences_PK, self.transform_KK, gating_PK)

    def point(self, step: int, recent: Tensor | None, validation: Pairs | None) -> CurvePoint:
        """A point of the curve, of `[N, 2]` losses and accuracies; refuses to go on from a loss that is no number."""
        loss, accuracy = (None, None) if recent is None else map(float, recent.mean(dim=0))
        if loss is not None and not math.isfinite(loss):
            raise GateError(f"got a loss of {loss} by step {step}; expected a number; lower the learning rate")
        if validation is None:
            return CurvePoint(step, loss, accuracy)
        margins = self.margins(validation)
        with torch.no_grad():
            validation_loss = bradley_terry(margins, self.beta).mean()
        return CurvePoint(step, loss, accuracy, float(validation_loss), float((margins > 0).float().mean()))

    @torch.no_grad()
    def margins(self, pairs: Pairs) -> Tensor:
        """Return `[P]` margins of all pairs, in blocks."""
        blocks = np.array_split(np.arange(len(pairs)), math.ceil(len(pairs) / _BATCH_ROWS))
        return torch.cat([self(pairs, block) for block in blocks])

    def betas(self, validation: Pairs) -> tuple[float, dict[str, float]]:
        """Return the maximum-likelihood beta of all pairs, and of the pairs of each dataset that has enough."""
        margins_P = self.margins(validation).double().cpu().numpy()
        if validation.datasets_P is None:
            return fit_beta(margins_P), {}
        names, n_pairs = np.unique(validation.datasets_P.astype(str), return_counts=True)
        enough = names[n_pairs >= _LEAST_FOR_BETA]
        return fit_beta(margins_P), {str(n): fit_beta(margins_P[validation.datasets_P == n]) for n in enough}

    def folded_state(self) -> dict[str, NDArray[np.float32]]:
        """Return the gate's parameters for raw features: `W (x - c) / s + b = (W / s) x + (b - (W / s) c)`."""
        state = {name: tensor.detach().cpu().numpy() for name, tensor in self.gate.state_dict().items()}
        weight = state["layers.0.weight"] / self.spread_D.cpu().numpy().astype(np.float64)
        bias = state["layers.0.bias"] - weight @ self.centre_D.cpu().numpy()
        return {**state, "layers.0.weight": weight.astype(np.float32), "layers.0.bias": bias.astype(np.float32)}


def feature_scale(prompts_UD: Vectors) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return `[D]` mean and `[D]` standard deviation, in blocks.

    A feature that hardly varies gets a floor, so that other prompts do not blow it up; one that never varies gets an
    infinite spread, so that its folded weights are 0.

    Raises:
        GateError: if a feature is not finite.
    """

    def blocks() -> Iterator[Floats]:
        return (prompts_UD[start : start + _BATCH_ROWS] for start in range(0, len(prompts_UD), _BATCH_ROWS))

    centre_D = sum(block.sum(axis=0, dtype=np.float64) for block in blocks()) / len(prompts_UD)
    if not np.isfinite(centre_D).all():
        raise GateError("got prompt features that are not finite; expected numbers; leave those prompts out")
    variance_D = sum(((block - centre_D) ** 2).sum(axis=0) for block in blocks()) / len(prompts_UD)
    spread_D, typical = np.sqrt(variance_D), math.sqrt(variance_D.mean())
    return centre_D, np.where(spread_D > 1e-6 * typical, np.maximum(spread_D, 1e-2 * typical), np.inf)


def curve_steps(n_steps: int) -> list[int]:
    """Steps that the curve has a point after: ever farther apart at first, then every twentieth, and the last.

    Where data are few the best gate comes within the first steps.
    """
    every = _twentieth(n_steps)
    points, step = set(range(every, n_steps, every)) | {n_steps}, 1
    while step < every:
        points.add(step)
        step = max(step + 1, math.floor(step * _GROWTH))
    return sorted(points)


def _twentieth(n_steps: int) -> int:
    return math.ceil(n_steps / 20)


def _batches(pairs: Pairs, config: GateConfig, n_steps: int) -> Iterator[Rows]:
    """One batch of pairs a step, from one shuffled epoch after the other."""
    rng = np.random.default_rng(config.seed)
    size = min(config.batch_size, len(pairs))
    waiting = np.empty(0, np.intp)
    for _ in range(n_steps):
        while len(waiting) < size:
            waiting = np.concatenate([waiting, _epoch(rng, pairs, config.mixing)])
        yield waiting[:size]
        waiting = waiting[size:]


def _epoch(rng: np.random.Generator, pairs: Pairs, mixing: Mixing) -> Rows:
    """Return about as many draws as there are pairs, in random order: by size each pair once.

    A dataset that is to be drawn more often than it has pairs gives each of them as many times as will go, and
    so many others of them once more.
    """
    if pairs.datasets_P is None:
        return rng.permutation(len(pairs))
    _, dataset_P, n_pairs = np.unique(pairs.datasets_P, return_inverse=True, return_counts=True)
    drawn = []
    for number, share in enumerate(mixing_shares(n_pairs, mixing)):
        rows, n_draws = np.flatnonzero(dataset_P == number), max(1, round(share * len(pairs)))
        times, more = divmod(n_draws, len(rows))
        drawn += [np.tile(rows, times), rng.choice(rows, more, replace=False)]
    return rng.permutation(np.concatenate(drawn))


def mixing_shares(n_pairs: NDArray[np.integer], mixing: Mixing) -> NDArray[np.float64]:
    """Return the share of each dataset among the pairs that are drawn, from its number of pairs."""
    weights = n_pairs.astype(np.float64) ** {"size": 1.0, "sqrt": 0.5, "uniform": 0.0}[mixing]
    return np.asarray(weights / weights.sum())

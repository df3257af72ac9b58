"""What an embedding needs in arithmetic, and what a machine can do, in additions and multiplications."""

import time
from dataclasses import dataclass
from typing import Final

import torch
from transformers import PreTrainedModel

from armorm.features.embedding.linear import multiply
from armorm.features.embedding.packs import Batch, Pack

WITHIN_S: Final = 0.3
"""How long the fastest product is looked for."""

LARGEST: Final = 8192
"""The most rows of a matrix that it is looked for with."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Operations of one layer of a dense decoder."""

    layers: int
    """How many there are."""
    token: float
    """For a token, by all matrices of the layer."""
    keys_values: float
    """The part of these for its key and value: all that later tokens need of it."""
    seen: float
    """In attention, for a token and one that it sees, itself included."""


def cost_of(model: PreTrainedModel) -> Cost:
    """From the weights, as no configuration tells whether a model's MLP has two matrices or three.

    A model without heads, such as Mamba, sees nothing by attention: what later tokens need of one is the whole layer.
    """
    matrices = [
        weight
        for module in model.modules()
        if not isinstance(module, torch.nn.Embedding)
        for weight in module.parameters(recurse=False)
        if weight.ndim == 2
    ]
    config = model.config.get_text_config()
    layers, heads = config.num_hidden_layers, getattr(config, "num_attention_heads", None)
    token = 2 * sum(weight.numel() for weight in matrices) / layers
    if not heads:
        return Cost(layers, token, keys_values=token, seen=0)
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return Cost(
        layers, token, keys_values=2 * config.hidden_size * 2 * kv_heads * head_size, seen=2 * 2 * heads * head_size
    )


def least_flops(cost: Cost, planned: Pack | Batch) -> float:
    """Return the fewest operations that give the features of a forward pass.

    Every token once, padding none, each seeing all before it (a sliding window sees fewer); in the last layer keys and
    values of all tokens, and the rest for the tokens of features alone. Norms, rotations and sums count as nothing.
    """
    if isinstance(planned, Pack):
        runs = [(branch.position, len(branch.token_ids)) for branch in planned.branches]
    else:
        runs = [(0, len(sequence.token_ids)) for sequence in planned.sequences]
    n_tokens = sum(length for _, length in runs)
    n_seen = sum(length * position + length * (length + 1) / 2 for position, length in runs)
    taken = planned.features
    before_last = (cost.layers - 1) * (n_tokens * cost.token + n_seen * cost.seen)
    last = n_tokens * cost.keys_values + len(taken) * (cost.token - cost.keys_values)
    return before_last + last + sum(wanted.position + 1 for wanted in taken) * cost.seen


def product_flops(dtype: str, device: str) -> float:
    """Return operations a second of a product of square matrices, the best of those that fit into `WITHIN_S`.

    They grow while a product takes next to no time.
    """
    product = multiply if (dtype, device) == ("float32", "cpu") else torch.matmul
    size, per_s, begun = 512, 0.0, time.perf_counter()
    matrix = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    while time.perf_counter() - begun < WITHIN_S:
        _finish(device)
        started = time.perf_counter()
        product(matrix, matrix)
        _finish(device)
        took_s = time.perf_counter() - started
        per_s = max(per_s, 2 * size**3 / took_s)
        if took_s < WITHIN_S / 100 and size < LARGEST:
            try:
                matrix = matrix.repeat(2, 2)
            except torch.OutOfMemoryError:  # on a card that the backbone fills
                break
            size *= 2
    return per_s


def _finish(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize(device)

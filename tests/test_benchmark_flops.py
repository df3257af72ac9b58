"""Operations that an embedding needs, against torch's own count."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, GPT2Config, GPT2Model

from armorm.features.embedding.packs import Batch, TokenSequence, Wanted, plan_packs
from benchmarks.flops import Cost, cost_of, least_flops
from tests.features import tiny


def text(length: int, *more: int, name: str = "a") -> TokenSequence:
    """A conversation of 4, 5, 6 .. and of other tokens, with its vector wanted."""
    tokens = (*range(4, 4 + length), *more)
    return TokenSequence(tokens, (Wanted("conversation", name, len(tokens) - 1, len(tokens)),))


def count(model: torch.nn.Module, one: TokenSequence) -> int:
    """What torch counts, where every token sees every token and every layer is whole."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.tensor([one.token_ids]), use_cache=False)
    return int(counter.get_total_flops())


@pytest.mark.parametrize("architecture", [*tiny.ARCHITECTURES, "gpt2"])
def test_a_text_needs_what_torch_counts_less_what_is_left_out(tmp_path: Path, architecture: str) -> None:
    if architecture == "gpt2":
        model = GPT2Model(GPT2Config(vocab_size=260, n_embd=32, n_layer=3, n_head=4, n_positions=64))
    else:
        model = AutoModel.from_pretrained(tiny.write_backbone(tmp_path, architecture=architecture))
    model.set_attn_implementation("eager")  # whose products are counted
    cost = cost_of(model)
    for n in (1, 20):
        (pack,) = plan_packs([text(n)], token_budget=100)
        unseen = (cost.layers - 1) * n * (n - 1) / 2 + n * (n - 1)
        left_out = unseen * cost.seen + (n - 1) * (cost.token - cost.keys_values)
        assert least_flops(cost, pack) + left_out == pytest.approx(count(model, text(n)), rel=2e-3)  # rotations


COST = Cost(layers=3, token=1000, keys_values=100, seen=1)


def test_a_shared_beginning_is_counted_once_and_padding_never() -> None:
    """Two answers of 5 and 7 tokens to a prompt of 20."""
    texts = [text(20, *[90] * 5), text(20, *[91] * 7, name="b")]
    (pack,) = plan_packs(texts, token_budget=100)
    last = 2 * 900 + 25 + 27
    shared = sum(range(1, 26)) + sum(range(21, 28))
    assert least_flops(COST, pack) == 2 * (32 * 1000 + shared) + 32 * 100 + last
    apart = sum(range(1, 26)) + sum(range(1, 28))
    assert least_flops(COST, Batch(tuple(texts))) == 2 * (52 * 1000 + apart) + 52 * 100 + last

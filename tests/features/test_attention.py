"""Attention over packs equals plain attention over each text alone, by blocks and by flex attention."""

import random
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armorm.features.embedding.attention import Scoring, by_blocks, by_flex
from armorm.features.embedding.packed import lay_out
from armorm.features.embedding.packs import Pack, TokenSequence, Wanted, plan_packs

SIZE = 16


def pack_of(rng: random.Random, longest: int) -> Pack:
    """Texts of which some go on from others; every one wants its last token."""
    texts: list[tuple[int, ...]] = []
    for _ in range(rng.randint(1, 6)):
        begun = rng.choice(texts) if texts and rng.random() < 0.7 else ()
        kept = begun[: rng.randint(0, len(begun))]
        texts.append((*kept, *(rng.randrange(50) for _ in range(rng.randint(1, longest)))))
    sequences = [
        TokenSequence(text, (Wanted("conversation", str(n), len(text) - 1, len(text)),))
        for n, text in enumerate(dict.fromkeys(texts))
    ]
    (pack,) = plan_packs(sequences, token_budget=10**9)
    return pack


def plain(
    query_HTE: torch.Tensor, key_HTE: torch.Tensor, value_HTE: torch.Tensor, window: int | None, softcap: float | None
) -> torch.Tensor:
    """`[H, E]` what the last of a text's tokens gets, in float64."""
    query, key, value = (tensor.double() for tensor in (query_HTE[:, -1:], key_HTE, value_HTE))
    if window is not None:
        key, value = key[:, -window:], value[:, -window:]
    scores = query @ key.transpose(1, 2) * SIZE**-0.5
    scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
    return (torch.softmax(scores, -1) @ value)[:, 0]


def rows_of(pack: Pack, branch: int, place: int) -> list[int]:
    """The rows of the text that ends there, from its beginning."""
    starts, start = [], 0
    for one in pack.branches:
        starts.append(start)
        start += len(one.token_ids)
    own = [starts[branch] + n for n in range(place + 1)]
    parent = pack.branches[branch].parent
    if parent is None:
        return own
    return rows_of(pack, parent, pack.branches[branch].position - pack.branches[parent].position - 1) + own


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(4, 4), (4, 2), (4, 1)]),
    st.sampled_from([None, 1, 7, 100, 300]),
    st.sampled_from([None, 3.0]),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.booleans(),
)
def test_every_text_is_attended_to_as_if_it_stood_alone(
    seed: int, heads: tuple[int, int], window: int | None, softcap: float | None, dtype: torch.dtype, trimmed: bool
) -> None:
    pack = pack_of(random.Random(seed), longest=330)
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(1, n, pack.n_tokens, SIZE, generator=generator).to(dtype) for n in (heads[0], heads[1], heads[1])
    )
    layout = lay_out(pack, last_layer=0, device=query.device)
    got = by_blocks(query, key, value, layout, Scoring(SIZE**-0.5, window, softcap), only_wanted=trimmed)
    wide_key, wide_value = (tensor.repeat_interleave(heads[0] // heads[1], dim=1) for tensor in (key, value))
    for branch, place, _ in pack.wanted:
        rows = rows_of(pack, branch, place)
        expected = plain(query[0, :, rows], wide_key[0, :, rows], wide_value[0, :, rows], window, softcap)
        torch.testing.assert_close(
            got[0, rows[-1]].double(), expected, atol=1e-5 if dtype == torch.float32 else 2e-2, rtol=0
        )


def test_what_a_text_holds_never_reaches_another() -> None:
    pack = pack_of(random.Random(5), longest=200)
    query, key, value = (torch.randn(1, 2, pack.n_tokens, SIZE) for _ in range(3))
    layout = lay_out(pack, last_layer=0, device=query.device)
    before = by_blocks(query, key, value, layout, Scoring(1.0), only_wanted=False)
    leaf = max(range(len(layout.spans)), key=lambda branch: len(layout.contexts[branch]))
    poisoned = slice(layout.spans[leaf].start, layout.spans[leaf].end)
    for tensor in (query, key, value):
        tensor[:, :, poisoned] = torch.nan
    after = by_blocks(query, key, value, layout, Scoring(1.0), only_wanted=False)
    others = torch.ones(pack.n_tokens, dtype=torch.bool)
    others[poisoned] = False
    for branch, span in enumerate(layout.spans):
        if any(seen.start == layout.spans[leaf].start for seen in layout.contexts[branch]):
            others[span.start : span.end] = False
    assert after[0, poisoned].isnan().all()
    assert torch.equal(before[0, others], after[0, others])


@pytest.mark.parametrize("trimmed", [False, True])
def test_padding_reaches_no_text(trimmed: bool, seed: int) -> None:
    pack = pack_of(random.Random(seed), longest=100)
    layout, padded = (lay_out(pack, last_layer=0, device=torch.device("cpu"), step=step) for step in (1, 512))
    n_tokens = len(padded.token_ids_T)
    assert n_tokens % 512 == 0
    assert n_tokens - pack.n_tokens < 512
    tensors = [torch.randn(1, 2, n_tokens, SIZE) for _ in range(3)]
    expected = by_blocks(
        *(tensor[:, :, : pack.n_tokens] for tensor in tensors), layout, Scoring(1.0), only_wanted=trimmed
    )
    for tensor in tensors:
        tensor[:, :, pack.n_tokens :] = torch.nan
    got = by_blocks(*tensors, padded, Scoring(1.0), only_wanted=trimmed)
    assert torch.equal(got[:, : pack.n_tokens], expected)
    assert not got[:, pack.n_tokens :].any()


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_flex_attention_says_the_same(window: int | None, softcap: float | None, seed: int) -> None:
    pack = pack_of(random.Random(seed), longest=120)
    query, key, value = (torch.randn(1, n, pack.n_tokens, SIZE) for n in (4, 2, 2))
    layout = lay_out(pack, last_layer=-1, device=query.device)
    expected = by_blocks(query, key, value, layout, Scoring(0.2, window, softcap), only_wanted=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not compiled: no compiler is needed to run the tests
        got = by_flex(query, key, value, layout, Scoring(0.2, window, softcap))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)

"""Packs: every wanted feature once, no more tokens than need be, and vectors as if each text stood alone."""

import random
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, GPT2Config, GPT2Model

from armorm.features.embedding import packs as plan
from armorm.features.embedding.backbone import Backbone, load
from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint
from armorm.features.embedding.packs import Pack, TokenIds, TokenSequence, Wanted, plan_packs
from tests.features import tiny


def sequence(number: int, tokens: TokenIds, prompt: int | None = None) -> TokenSequence:
    wanted = [Wanted("conversation", str(number), len(tokens) - 1, len(tokens))]
    if prompt is not None:
        wanted.append(Wanted("prompt", str(number), prompt, prompt + 1))
    return TokenSequence(tokens, tuple(wanted))


@st.composite
def forests(draw: st.DrawFn) -> list[TokenSequence]:
    """Texts that go on from one another's beginnings, some repeated, of few different tokens."""
    texts: list[TokenIds] = []
    for _ in range(draw(st.integers(1, 12))):
        stem = draw(st.sampled_from(texts))[: draw(st.integers(0, 40))] if texts and draw(st.booleans()) else ()
        texts.append((*stem, *draw(st.lists(st.integers(0, 3), min_size=1, max_size=30))))
    return [sequence(n, text, draw(st.none() | st.integers(0, len(text) - 1))) for n, text in enumerate(texts)]


def path(pack: Pack, index: int) -> TokenIds:
    """All tokens that the last token of a branch may see."""
    branch = pack.branches[index]
    before = () if branch.parent is None else path(pack, branch.parent)[: branch.position]
    assert len(before) == branch.position
    return (*before, *branch.token_ids)


@given(forests(), st.integers(1, 200))
def test_every_wanted_feature_once_after_the_tokens_of_its_text(sequences: list[TokenSequence], budget: int) -> None:
    packs = plan_packs(sequences, token_budget=budget)
    texts = {wanted: one.token_ids for one in sequences for wanted in one.wanted}
    seen = []
    for pack in packs:
        assert pack.n_tokens <= budget or len({wanted.id for *_, wanted in pack.wanted}) == 1
        assert all(branch.parent is None or branch.parent < n for n, branch in enumerate(pack.branches))
        for branch, place, wanted in pack.wanted:
            seen.append(wanted)
            until = pack.branches[branch].position + place + 1
            assert until == wanted.position + 1
            assert path(pack, branch)[:until] == texts[wanted][:until]
    assert sorted(seen, key=str) == sorted(texts, key=str)


@given(forests(), st.integers(1, 200), st.randoms())
def test_the_plan_is_of_the_texts_and_not_of_their_order(
    sequences: list[TokenSequence], budget: int, rng: random.Random
) -> None:
    distinct = list({one.token_ids: one for one in sequences}.values())
    shuffled = rng.sample(distinct, len(distinct))
    assert plan_packs(distinct, token_budget=budget) == plan_packs(shuffled, token_budget=budget)


@given(forests(), st.integers(1, 120))
def test_no_other_cut_computes_fewer_tokens(sequences: list[TokenSequence], budget: int) -> None:
    ordered = sorted(sequences, key=lambda one: one.token_ids)
    n = len(ordered)

    def tokens(cuts: tuple[int, ...]) -> int | None:
        total = 0
        for start, end in zip((0, *cuts), (*cuts, n), strict=True):
            (pack,) = plan_packs(ordered[start:end], token_budget=10**9)
            if pack.n_tokens > budget and end - start > 1:
                return None
            total += pack.n_tokens
        return total

    if n > 7:
        return
    possible = (tokens(cuts) for size in range(n) for cuts in combinations(range(1, n), size))
    least = min(total for total in possible if total is not None)
    assert sum(pack.n_tokens for pack in plan_packs(sequences, token_budget=budget)) == least


def test_a_prompt_is_computed_once_for_all_its_answers() -> None:
    prompt = tuple(range(100))
    sequences = [sequence(n, (*prompt, *[n] * 50), 99) for n in range(4)]
    (pack,) = plan_packs(sequences, token_budget=1000)
    assert pack.n_tokens == 100 + 4 * 50
    nested = [sequence(n, tuple(range(length))) for n, length in enumerate((50, 100, 150))]
    (pack,) = plan_packs(nested, token_budget=1000)
    assert pack.n_tokens == 150


def texts(seed: int, most: int = 60) -> list[TokenSequence]:
    """1 to 8 answers a prompt, some of which go on for another turn."""
    rng = random.Random(seed)

    def some(length: int) -> TokenIds:
        return tuple(rng.randrange(4, 250) for _ in range(rng.randint(1, length)))

    result: list[TokenIds] = []
    for _ in range(6):
        prompt = some(most)
        result += [(*prompt, *some(most)) for _ in range(rng.randint(1, 8))]
        result.append((*result[-1], *some(most)))
    return [sequence(n, text, rng.randrange(len(text))) for n, text in enumerate(dict.fromkeys(result))]


def alone(model: torch.nn.Module, one: TokenSequence) -> dict[Wanted, torch.Tensor]:
    with torch.no_grad():
        states = model(torch.tensor([one.token_ids]), use_cache=False).last_hidden_state[0]
    return {wanted: states[wanted.position].float() for wanted in one.wanted}


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_packed_vectors_equal_one_at_a_time(tmp_path: Path, architecture: str, seed: int) -> None:
    folder = tiny.write_backbone(tmp_path, architecture=architecture)
    backbone = loaded(folder)
    assert backbone.why_padded is None
    sequences = texts(seed)
    model = AutoModel.from_pretrained(folder).eval()
    expected = {wanted: vector for one in sequences for wanted, vector in alone(model, one).items()}
    for budget in (1, 200, 4096):
        got = dict(backbone.embed(sequences, token_budget=budget))
        assert got.keys() == expected.keys()
        assert max(np.abs(got[wanted] - expected[wanted].numpy()).max() for wanted in expected) < 1e-4


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_bfloat16_agrees_with_bfloat16_one_at_a_time(tmp_path: Path, architecture: str, seed: int) -> None:
    folder = tiny.write_backbone(tmp_path, architecture=architecture)
    backbone = loaded(folder, dtype="bfloat16")
    assert backbone.why_padded is None
    model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
    sequences = texts(seed)
    got = dict(backbone.embed(sequences, token_budget=512))
    for one in sequences:
        for wanted, vector in alone(model, one).items():
            assert torch.cosine_similarity(torch.from_numpy(got[wanted]), vector, dim=0) >= 0.999


def test_threads_change_nothing(tmp_path: Path, seed: int) -> None:
    backbone, sequences = loaded(tiny.write_backbone(tmp_path)), texts(seed)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(dict(backbone.embed(sequences, token_budget=512)))
    torch.set_num_threads(1)
    assert all(np.abs(results[0][wanted] - results[1][wanted]).max() < 1e-4 for wanted in results[0])


def test_what_cannot_be_packed_is_padded_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    folder = tiny.write_backbone(tmp_path)
    monkeypatch.setattr("armorm.features.embedding.attention._hide", lambda *_: None)
    backbone = loaded(folder)
    assert backbone.why_padded
    model = AutoModel.from_pretrained(folder).eval()
    sequences = texts(seed)
    got = dict(backbone.embed(sequences, token_budget=512))
    for one in sequences:
        for wanted, vector in alone(model, one).items():
            assert np.abs(got[wanted] - vector.numpy()).max() < 1e-4


def test_a_model_without_rotary_positions_is_run_rightly_in_whatever_way(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=260, n_embd=32, n_layer=2, n_head=4, n_positions=512)
    GPT2Model(config).save_pretrained(tmp_path)
    tiny.write_tokenizer(tmp_path, "bos")
    backbone, sequences = loaded(tmp_path), texts(seed)
    model = AutoModel.from_pretrained(tmp_path).eval()
    got = dict(backbone.embed(sequences, token_budget=512))
    for one in sequences:
        for wanted, vector in alone(model, one).items():
            assert np.abs(got[wanted] - vector.numpy()).max() < 1e-4


def loaded(folder: Path, dtype: str = "float32") -> Backbone:
    settings = BackboneSettings(str(folder), dtype=dtype)  # type: ignore[arg-type]
    return load(settings, read_fingerprint(settings))


def test_shared_beginnings_have_a_least_length() -> None:
    stem = tuple(range(plan.SHARED_AT_LEAST - 1))
    (pack,) = plan_packs([sequence(0, (*stem, 100)), sequence(1, (*stem, 200))], token_budget=100)
    assert [branch.parent for branch in pack.branches] == [None, None]

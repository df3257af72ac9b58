"""Kinds of decoder, tiny and random: each is packed, padded or refused, and its vectors are those of a text alone."""

import json
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from transformers import AutoModel, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from armorm.features.catalog.query import query
from armorm.features.conversation import conversation_id, prompt_id, single_turn
from armorm.features.embedding import packed
from armorm.features.embedding.backbone import Backbone, load
from armorm.features.embedding.embed import EmbedSettings, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings, Dtype, read_fingerprint
from armorm.features.embedding.folder import LENGTHS, WIDTHS, most_tokens
from armorm.features.embedding.packs import TokenSequence, Wanted, plan_packs
from armorm.features.embedding.vectors import embed_conversations, run_passes
from armorm.features.errors import BackboneError
from armorm.features.store import Writer
from benchmarks.flops import cost_of, least_flops
from tests.features import tiny
from tests.features.test_packs import texts
from tests.features.test_robust import fill

OLD: Final[dict[str, Any]] = {"vocab_size": 260, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
NEW: Final[dict[str, Any]] = {name: size for name, size in tiny.SIZES.items() if name != "num_key_value_heads"}
FEW: Final[dict[str, Any]] = {name: NEW[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers")}
HEADS: Final = {"num_attention_heads": 4}

KINDS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "gpt2": ("packed", OLD),
    "gpt_bigcode": ("packed", OLD),
    "gpt_neox": ("packed", NEW),
    "opt": ("packed", FEW | HEADS | {"ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 512}),
    "phi": ("packed", tiny.SIZES),
    "phi3": ("packed", tiny.SIZES | {"pad_token_id": 0}),
    "llama": ("packed", tiny.SIZES),
    "gemma2": ("packed", tiny.SLIDING | {"query_pre_attn_scalar": 8}),
    "gemma3_text": ("packed", tiny.SLIDING | {"query_pre_attn_scalar": 8}),
    "qwen2": ("packed", tiny.SIZES),
    "qwen3": ("packed", tiny.SIZES | {"head_dim": 8}),
    "mistral": ("packed", tiny.SIZES | {"sliding_window": 24}),
    "mixtral": ("packed", tiny.SIZES | {"num_local_experts": 4}),
    "granite": ("packed", tiny.SIZES),
    "gptj": ("padded", OLD | {"rotary_dim": 8}),
    "codegen": ("padded", OLD | {"rotary_dim": 8}),
    "gpt_neo": ("padded", {"vocab_size": 260, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "window_size": 16}
                | {"attention_types": [[["global", "local"], 1]], "max_position_embeddings": 512}),
    "mpt": ("padded", {"vocab_size": 260, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 512}),
    "bloom": ("padded", {"vocab_size": 260, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon": ("padded", FEW | HEADS | {"alibi": True}),
    "stablelm": ("padded", tiny.SIZES),
    "gpt_oss": ("padded", tiny.SLIDING | {"num_local_experts": 4}),
    "ctrl": ("packed", OLD | {"dff": 48}),
    "modernbert-decoder": ("packed", NEW | {"pad_token_id": 0, "local_attention": 24, "global_attn_every_n_layers": 2}),
    "mamba": ("padded", FEW | {"state_size": 8}),
    "recurrent_gemma": ("padded", NEW | {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 24}),
    "bert": ("causal", NEW),
    "t5": ("encoder-decoder", {"vocab_size": 260, "d_model": 32, "d_ff": 48, "num_layers": 2, "num_heads": 4}),
}  # fmt: skip
"""What becomes of a `model_type`, or why it is refused."""


def write(folder: Path, kind: str, **sizes: Any) -> BackboneSettings:
    """A seeded model of a kind, with the byte-level tokenizer."""
    config = CONFIG_MAPPING[kind](**KINDS[kind][1] | {"initializer_range": 0.3} | sizes)
    torch.manual_seed(0)
    AutoModel.from_config(config, trust_remote_code=False).save_pretrained(folder)
    tiny.write_tokenizer(folder, "bos")
    return BackboneSettings(str(folder))


def alone(folder: Path, sequences: list[TokenSequence]) -> dict[Wanted, np.ndarray]:  # type: ignore[type-arg]
    """By transformers itself, one text after another."""
    model = AutoModel.from_pretrained(folder, trust_remote_code=False).eval()
    with torch.no_grad():
        return {
            wanted: model(torch.tensor([one.token_ids]), use_cache=False).last_hidden_state[0, wanted.position].numpy()
            for one in sequences
            for wanted in one.wanted
        }


def apart(got: dict[Wanted, Any], expected: dict[Wanted, Any]) -> float:
    """The largest distance from what is expected, as a share of how far texts lie from their mean."""
    assert got.keys() == expected.keys()
    expected_ND, got_ND = (np.stack([vectors[wanted] for wanted in expected]) for vectors in (expected, got))
    spread = np.sqrt(((expected_ND - expected_ND.mean(axis=0)) ** 2).sum(axis=1).mean())
    return float(np.linalg.norm(got_ND - expected_ND, axis=1).max() / spread)


def loaded(settings: BackboneSettings) -> Backbone:
    return load(settings, read_fingerprint(settings))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_packed_padded_or_refused(kind: str, tmp_path: Path, seed: int) -> None:
    settings, (becomes, _) = write(tmp_path, kind), KINDS[kind]
    if becomes not in ("packed", "padded"):
        with pytest.raises(BackboneError, match=becomes) as error:
            loaded(settings)
        assert "\n" not in str(error.value)
        return
    backbone, sequences = loaded(settings), texts(seed)
    assert ("padded" if backbone.why_padded else "packed") == becomes
    assert backbone.fingerprint.record["hidden_size"] == 32
    passes = list(run_passes(backbone, sequences, token_budget=512))
    got = {wanted: vector for one in passes for wanted, vector in one.vectors}
    assert apart(got, alone(tmp_path, sequences)) < 1e-4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2", "bloom", "mamba", "recurrent_gemma"])
def test_in_16_bits_it_is_what_it_is_in_32(kind: str, dtype: Dtype, tmp_path: Path) -> None:
    """A recurrent layer that takes a pack for one text moves vectors by no more than such rounding does."""
    write(tmp_path, kind)
    backbone = loaded(BackboneSettings(str(tmp_path), dtype=dtype))
    assert ("padded" if backbone.why_padded else "packed") == KINDS[kind][0]


def test_a_model_whose_vectors_depend_on_their_batch_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that normalises over a batch."""
    settings, alone = write(tmp_path, "gptj"), Backbone.last_hidden_state

    def together(backbone: Backbone, ids_BL: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
        states_BLD = alone(backbone, ids_BL, mask_BL)
        return states_BLD - states_BLD[:, :1].mean(dim=0, keepdim=True)

    monkeypatch.setattr(Backbone, "last_hidden_state", together)
    with pytest.raises(BackboneError, match=r"\bpadding\b"):
        loaded(settings)


def test_positions_that_are_ignored_are_found_where_texts_differ_by_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearly all of a vector's length is the same for all texts, as in a backbone that was trained."""
    settings = write(tmp_path, "gpt2")
    model = AutoModel.from_pretrained(tmp_path, trust_remote_code=False)
    with torch.no_grad():
        model.ln_f.bias += 500
    model.save_pretrained(tmp_path)
    assert loaded(settings).why_padded is None
    lay_out = packed.lay_out

    def through_the_pass(*given: Any, **known: Any) -> Any:
        layout = lay_out(*given, **known)
        layout.positions_T = torch.arange(len(layout.positions_T))
        return layout

    monkeypatch.setattr(packed, "lay_out", through_the_pass)
    assert loaded(settings).why_padded


def test_a_window_longer_than_the_probe_is_kept(tmp_path: Path, seed: int) -> None:
    """Qwen2-MoE in transformers masks what a window leaves behind, and does not tell attention of it."""
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
    config = CONFIG_MAPPING["qwen2_moe"](
        **tiny.SIZES | experts, shared_expert_intermediate_size=16, use_sliding_window=True, sliding_window=60,
        max_window_layers=2,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModel.from_config(config, trust_remote_code=False).save_pretrained(tmp_path)
    tiny.write_tokenizer(tmp_path, "bos")
    sequences = texts(seed, most=150)
    got = dict(loaded(BackboneSettings(str(tmp_path))).embed(sequences, token_budget=1024))
    assert apart(got, alone(tmp_path, sequences)) < 1e-4
    assert AutoModel.from_pretrained(tmp_path, trust_remote_code=False).config.sliding_window == 60


def test_texts_end_where_longrope_would_change_the_positions_of_others(tmp_path: Path) -> None:
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    settings = write(tmp_path, "phi3", rope_parameters=rope, original_max_position_embeddings=128)
    assert read_fingerprint(settings).max_tokens == 128
    with pytest.raises(BackboneError, match=r"\bmax_tokens 300;.*\b2\.\.128\b"):
        read_fingerprint(BackboneSettings(str(tmp_path), max_tokens=300))
    assert most_tokens({"max_position_embeddings": 9, "rope_scaling": {"type": "linear"}}) == 9
    older = {"rope_scaling": {"type": "su"}, "original_max_position_embeddings": 4}
    assert most_tokens({"text_config": {"max_position_embeddings": 9, **older}}) == 4


def test_widths_and_lengths_are_found_under_the_names_that_transformers_maps() -> None:
    for kind in KINDS:
        config: PreTrainedConfig = CONFIG_MAPPING[kind](**KINDS[kind][1])
        if kind != "t5":
            names = {config.attribute_map.get(name, name) for name in ("hidden_size", "max_position_embeddings")}
            assert names <= {*WIDTHS, *LENGTHS}, kind


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("n_extra", [1, 10])
def test_a_token_without_an_embedding_costs_its_text_alone(writer: Writer, tmp_path: Path, n_extra: int) -> None:
    """Ten prompts with four answers each; so many of the prompts are tokens of their own."""
    settings = BackboneSettings(str(tiny.write_backbone(tmp_path)))
    path = tmp_path / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    added = [dict(tokenizer["added_tokens"][0], id=260 + n, content=f"question {n}") for n in range(n_extra)]
    path.write_text(json.dumps(tokenizer | {"added_tokens": tokenizer["added_tokens"] + added}))
    fill(writer)
    result = embed_missing(writer, settings, EmbedSettings(token_budget=256))
    assert (result.n_conversations, result.n_prompts) == (40 - 4 * n_extra, 10 - n_extra)
    assert result.rejected == {"no_embedding": 5 * n_extra}
    details = query(writer.store, "SELECT DISTINCT detail FROM rejects ORDER BY detail").rows
    assert re.search(r"\b260 \('question 0'\);.*\b260\b", details[0][0])


def test_a_template_whose_tokens_have_no_embedding_is_refused(writer: Writer, tmp_path: Path) -> None:
    settings = BackboneSettings(str(tiny.write_backbone(tmp_path)))
    path = tmp_path / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    added = dict(tokenizer["added_tokens"][0], id=260, content="user")
    path.write_text(json.dumps(tokenizer | {"added_tokens": [*tokenizer["added_tokens"], added]}))
    fill(writer, range(4))
    with pytest.raises(BackboneError, match=r"\b260 \('user'\);.*\b260\b"):
        embed_missing(writer, settings, EmbedSettings())


@pytest.mark.parametrize("value", [float("nan"), 3e38])
def test_weights_that_give_no_numbers_are_not_taken_for_a_model_that_looks_ahead(value: float, tmp_path: Path) -> None:
    settings = BackboneSettings(str(tiny.write_backbone(tmp_path)))
    model = AutoModel.from_pretrained(tmp_path, trust_remote_code=False)
    with torch.no_grad():
        model.layers[0].mlp.down_proj.weight.fill_(value)
    model.save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match=r"\bNaN\b.*\bfloat32\b"):
        loaded(settings)


def test_a_configuration_that_asks_for_tuples_is_loaded_all_the_same(tmp_path: Path) -> None:
    settings = BackboneSettings(str(tiny.write_backbone(tmp_path)))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"return_dict": False}))
    assert loaded(settings).why_padded is None


def test_a_model_without_heads_needs_every_layer_whole() -> None:
    config = CONFIG_MAPPING["mamba"](**KINDS["mamba"][1])
    cost = cost_of(AutoModel.from_config(config, trust_remote_code=False))
    assert (cost.layers, cost.seen, cost.keys_values) == (2, 0, cost.token)
    one = TokenSequence(tuple(range(20)), (Wanted("conversation", "a", 19, 20),))
    (pack,) = plan_packs([one], token_budget=100)
    assert least_flops(cost, pack) == 2 * 20 * cost.token


def test_a_prompt_without_such_a_token_keeps_its_vector(tmp_path: Path) -> None:
    settings = BackboneSettings(str(tiny.write_backbone(tmp_path)))
    path = tmp_path / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    added = dict(tokenizer["added_tokens"][0], id=260, content="odd")
    path.write_text(json.dumps(tokenizer | {"added_tokens": [*tokenizer["added_tokens"], added]}))
    odd, plain = single_turn("question", "an odd answer"), single_turn("question", "an answer")
    backbone, ids = loaded(settings), [conversation_id(odd), conversation_id(plain)]
    both = embed_conversations(backbone, [odd, plain], set(ids), {prompt_id(odd)}, token_budget=256)
    assert [(reject.kind, reject.id, reject.reason) for reject in both.rejects] == [
        ("conversation", ids[0], "no_embedding")
    ]
    expected = embed_conversations(backbone, [plain], {ids[1]}, {prompt_id(odd)}, token_budget=256)
    got = {feature.kind: feature.vector for feature in both.features}
    assert got.keys() == {"conversation", "prompt"}
    for feature in expected.features:
        np.testing.assert_allclose(got[feature.kind], feature.vector, atol=1e-4)


def test_the_page_on_backbones_names_every_kind_that_is_tested() -> None:
    page = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text(encoding="utf-8")
    for kind, (becomes, _) in KINDS.items():
        (row,) = [line for line in page.splitlines() if line.startswith("|") and f"`{kind}`" in line]
        assert becomes in row

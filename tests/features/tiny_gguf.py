"""A tiny Llama as a GGUF file of the kind that llama.cpp writes, in floats, and the same model as a folder."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaModel

from tests.features.tiny import SIZES, SPECIAL, TEMPLATES

TENSORS = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""What transformers calls a tensor, to what llama.cpp does."""


def model() -> LlamaModel:
    """The seeded model that the file holds."""
    torch.manual_seed(0)
    return LlamaModel(LlamaConfig(**SIZES | {"vocab_size": SIZES["vocab_size"] + 1, "rms_norm_eps": 1e-6})).eval()


def write_gguf(path: Path, *, architecture: str = "llama", layers: int = SIZES["num_hidden_layers"]) -> Path:
    """Write it; of another architecture or with more layers stated, it is one that cannot be read."""
    gguf: Any = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(SIZES["max_position_embeddings"])
    writer.add_embedding_length(SIZES["hidden_size"])
    writer.add_block_count(layers)
    writer.add_feed_forward_length(SIZES["intermediate_size"])
    writer.add_head_count(SIZES["num_attention_heads"])
    writer.add_head_count_kv(SIZES["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(SIZES["vocab_size"] + 1)
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "he"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_chat_template(TEMPLATES["bos"])
    for name, tensor in model().state_dict().items():
        writer.add_tensor(_renamed(name), _permuted(name, tensor.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _renamed(name: str) -> str:
    parts = name.removesuffix(".weight").split(".")
    if parts[0] == "layers":
        return f"blk.{parts[1]}.{TENSORS['.'.join(parts[2:])]}.weight"
    return f"{TENSORS['.'.join(parts)]}.weight"


def _permuted(name: str, weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return queries and keys with a head's rows in the order of llama.cpp's rotation: pairs are neighbours."""
    heads = {"q_proj": SIZES["num_attention_heads"], "k_proj": SIZES["num_key_value_heads"]}.get(name.split(".")[-2])
    if heads is None:
        return weight
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)

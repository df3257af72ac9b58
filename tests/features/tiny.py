"""Tiny backbones of several architectures, as ordinary Hugging Face folders."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    Gemma2Config,
    Gemma2Model,
    Gemma3TextConfig,
    Gemma3TextModel,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    Phi3Config,
    Phi3Model,
    PhiConfig,
    PhiModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
)

SPECIAL = ["<pad>", "<bos>", "<turn>", "<end>"]

TURNS = "{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] }}<end>\n{% endfor %}"
TEMPLATES = {
    "bos": "{{ bos_token }}" + TURNS + "{% if add_generation_prompt %}<turn>assistant\n{% endif %}",
    "no_bos": TURNS,
    # Without special tokens at the seam: only comparing token ids finds the prompt's end.
    "plain": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n\n{% endfor %}",
}

SIZES: dict[str, Any] = {
    "vocab_size": 256 + len(SPECIAL),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}

SLIDING: dict[str, Any] = SIZES | {
    "head_dim": 8,
    "sliding_window": 24,
    "layer_types": ["sliding_attention", "full_attention"],
}

ARCHITECTURES: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaModel, LlamaConfig(**SIZES)),
    "qwen2": (Qwen2Model, Qwen2Config(**SIZES)),
    "qwen3": (Qwen3Model, Qwen3Config(**SIZES, head_dim=8)),
    "mistral": (MistralModel, MistralConfig(**SIZES, sliding_window=24)),
    "gemma2": (Gemma2Model, Gemma2Config(**SLIDING, attn_logit_softcapping=5.0, query_pre_attn_scalar=8)),
    "gemma3": (Gemma3TextModel, Gemma3TextConfig(**SLIDING, query_pre_attn_scalar=8)),
    "phi": (PhiModel, PhiConfig(**SIZES)),
    "phi3": (Phi3Model, Phi3Config(**SIZES, pad_token_id=0)),
}


def write_backbone(folder: Path, *, architecture: str = "llama", template: str | None = "bos") -> Path:
    """A seeded model with a byte-level tokenizer, which prepends BOS to plain text as Llama's does."""
    kind, config = ARCHITECTURES[architecture]
    torch.manual_seed(0)
    kind(config).save_pretrained(folder)
    write_tokenizer(folder, template)
    return folder


def write_tokenizer(folder: Path, template: str | None) -> None:
    """Bytes as tokens: any text, no training."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<end>",
        pad_token="<pad>",
        extra_special_tokens=["<turn>"],
        chat_template=template and TEMPLATES[template],
    ).save_pretrained(folder)

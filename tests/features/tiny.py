"""Tiny backbones of several architectures, as ordinary Hugging Face folders."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Model,
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

ARCHITECTURES: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaModel, LlamaConfig(**SIZES)),
    "qwen2": (Qwen2Model, Qwen2Config(**SIZES)),
    "mistral": (MistralModel, MistralConfig(**SIZES, sliding_window=24)),
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

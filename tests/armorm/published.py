"""A folder in the layout of RLHFlow/ArmoRM-Llama3-8B-v0.1, written without anything of armorm: random and tiny.

Weights are in shards, in bfloat16 and some in float32, as they are published; the code beside them does what the
published code does. Read against that code, its card, and issue 32 of RLHFlow/RLHF-Reward-Modeling, which compares the
tokenizer's files: padding is the last token, and the tokenizer itself adds no BOS.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

K, D, HIDDEN = 19, 32, 24

SPECIAL = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
PAD = "[PAD]"
N_TOKENS = len(SPECIAL) + 256 + 1

TEMPLATE = (
    "{% for m in messages %}{% set content = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + m['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

IN_FLOAT32 = {"reward_transform_matrix", "gating.logit_scale"}
"""The published files hold tensors of both types; which is which does not matter to a loader."""

CODE = """
import torch
from torch import nn
from dataclasses import dataclass
from typing import Optional
from transformers import LlamaModel, LlamaPreTrainedModel
from transformers.utils import ModelOutput

token_pattern = PATTERN


def find_token_for_gating(lst):
    for j in range(len(lst) - len(token_pattern), -1, -1):
        if lst[j : j + len(token_pattern)] == token_pattern:
            return j
    raise ValueError("Token pattern not found in the list.")


class GatingNetwork(nn.Module):
    def __init__(self, in_features, out_features, temperature, hidden_dim, n_hidden):
        super().__init__()
        self.temperature = temperature
        self.logit_scale = nn.Parameter(torch.ones(1))
        layers = []
        for _ in range(n_hidden):
            layers.append(nn.Linear(in_features, hidden_dim))
            in_features = hidden_dim
        layers.append(nn.Linear(in_features, out_features))
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i < len(self.layers) - 1:
                x = nn.functional.relu(x)
        return nn.functional.softmax(x / self.temperature, dim=1) * self.logit_scale[0]


@dataclass
class CustomOutput(ModelOutput):
    rewards: Optional[torch.FloatTensor] = None
    hidden_state: Optional[torch.FloatTensor] = None
    prompt_embedding: Optional[torch.FloatTensor] = None
    gating_output: Optional[torch.FloatTensor] = None
    score: Optional[torch.FloatTensor] = None
    logits: Optional[torch.FloatTensor] = None


class LlamaForRewardModelWithGating(LlamaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.regression_layer = nn.Linear(config.hidden_size, config.num_objectives, bias=False)
        self.reward_transform_matrix = nn.Parameter(torch.eye(config.num_objectives), requires_grad=False)
        self.gating = GatingNetwork(
            config.hidden_size, config.num_objectives, config.gating_temperature, config.gating_hidden_dim,
            config.gating_n_hidden,
        )
        self.post_init()

    def forward(self, input_ids, attention_mask=None):
        states = self.model(input_ids=input_ids, attention_mask=attention_mask)[0]
        lengths = torch.eq(input_ids, self.config.pad_token_id).int().argmax(-1) - 1
        lengths = lengths % input_ids.shape[-1]
        rows = torch.arange(len(input_ids))
        hidden_states = states[rows, lengths]
        rewards = self.regression_layer(hidden_states)
        prompt_embedding = states[rows, [find_token_for_gating(ids.tolist()) for ids in input_ids], :]
        gating_output = self.gating(prompt_embedding)
        score = torch.sum(gating_output * (rewards @ self.reward_transform_matrix), dim=1)
        return CustomOutput(rewards, hidden_states, prompt_embedding, gating_output, score, score)
"""


def write_published(folder: Path) -> Path:
    """Writes it."""
    folder.mkdir()
    _write_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=N_TOKENS,
        hidden_size=D,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        pad_token_id=N_TOKENS - 1,
    )
    stated: dict[str, Any] = config.to_dict() | {
        "architectures": ["LlamaForRewardModelWithGating"],
        "auto_map": {"AutoModelForSequenceClassification": "modeling_custom.LlamaForRewardModelWithGating"},
        "dtype": "bfloat16",
        "num_objectives": K,
        "gating_temperature": 2,
        "gating_hidden_dim": HIDDEN,
        "gating_n_hidden": 3,
    }
    (folder / "config.json").write_text(json.dumps(stated))
    torch.manual_seed(1)
    backbone = {f"model.{name}": tensor for name, tensor in LlamaModel(config).state_dict().items()}
    heads = _heads()
    shards = {"model-00001-of-00002.safetensors": backbone, "model-00002-of-00002.safetensors": heads}
    for name, tensors in shards.items():
        kept = {key: tensor if key in IN_FLOAT32 else tensor.bfloat16() for key, tensor in tensors.items()}
        save_file({key: tensor.contiguous() for key, tensor in kept.items()}, folder / name, {"format": "pt"})
    places = {key: name for name, tensors in shards.items() for key in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def _heads() -> dict[str, torch.Tensor]:
    transform = torch.eye(K)
    transform[4] -= torch.rand(K)
    transform[4, 4] = 0
    heads = {
        "regression_layer.weight": torch.randn(K, D) / D**0.5,
        "reward_transform_matrix": transform,
        "gating.logit_scale": torch.ones(1),
    }
    for layer, (inputs, outputs) in enumerate([(D, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, K)]):
        heads[f"gating.layers.{layer}.weight"] = torch.randn(outputs, inputs) / inputs**0.5
        heads[f"gating.layers.{layer}.bias"] = torch.randn(outputs) / 10
    return heads


def _write_tokenizer(folder: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate([*SPECIAL, *alphabet, PAD])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (*SPECIAL, PAD)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token=PAD,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    # The published pattern, of this tokenizer: the end of the user's turn and the head of the assistant's.
    pattern = tokenizer.encode(
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", add_special_tokens=False
    ).ids
    (folder / "modeling_custom.py").write_text(CODE.replace("PATTERN", repr(pattern)))

"""An ArmoRM reward model (arXiv 2406.12845) on any decoder-only backbone. Imports torch and transformers only.

This file is shipped with the model, for `trust_remote_code=True`. Parameters and outputs are named as those of
RLHFlow/ArmoRM-Llama3-8B-v0.1. Suffixes: B conversations, L tokens, D hidden size, K objectives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput


@dataclass
class RewardOutput(ModelOutput):
    """What the model makes of B conversations; `rewards @ T` are the rewards that the gate weighs."""

    rewards: Tensor | None = None
    """`[B, K]` of the regression, before the transform T."""
    hidden_state: Tensor | None = None
    """`[B, D]` of the conversation's last token."""
    prompt_embedding: Tensor | None = None
    """`[B, D]` of the prompt's last token."""
    gating_output: Tensor | None = None
    """`[B, K]` weights of the decorrelated rewards; `gating_output @ T.T` are the coefficients of the raw ones."""
    score: Tensor | None = None
    """`[B]`."""
    logits: Tensor | None = None
    """`[B, 1]` the score again."""


class GatingNetwork(nn.Module):
    """A ReLU MLP with a softmax over the objectives."""

    def __init__(self, sizes: list[int], temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.layers = nn.ModuleList(nn.Linear(rows, columns) for rows, columns in pairwise(sizes))
        self.logit_scale = nn.Parameter(torch.ones(1))

    def forward(self, states_BD: Tensor) -> Tensor:
        """Return `[B, K]` weights."""
        *hidden, last = self.layers
        for layer in hidden:
            states_BD = torch.relu(layer(states_BD))
        weights_BK: Tensor = torch.softmax(last(states_BD) / self.temperature, dim=-1) * self.logit_scale
        return weights_BK


class RewardModelWithGating(PreTrainedModel):  # type: ignore[no-untyped-call]
    """Backbone, regression layer, transform and gate. The configuration is the backbone's own, with a few more fields.

    Fields: `num_objectives`, `gating_temperature`, `gating_hidden_dim`, `gating_n_hidden`; `objectives`, their names;
    `prompt_end_pattern`, token ids that stand around the end of a prompt and nowhere after it, and `prompt_end_offset`,
    where the prompt's last token is, counted from the first of them; `backbone_prefix`, the name that the backbone's
    tensors begin with, which is that of transformers' own classifier on it.

    `score` is that classifier's head, for whoever loads the folder without this file: a fixed mixture of the objectives
    in place of the gate's. It takes no part here.
    """

    config: PreTrainedConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # A bfloat16 of a backbone loses nothing that its training knew of; one of a head would.
    _keep_in_fp32_modules_strict = ["regression_layer", "reward_transform_matrix", "gating"]  # noqa: RUF012

    def __init__(self, config: PreTrainedConfig) -> None:
        attention = config._attn_implementation
        super().__init__(config)
        config._attn_implementation = attention  # if none is asked for, the backbone's own class chooses
        n_objectives, n_features = config.num_objectives, config.get_text_config().hidden_size
        self.base_model_prefix = getattr(config, "backbone_prefix", "model")
        backbone = AutoModel.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
        setattr(self, self.base_model_prefix, backbone)
        self.regression_layer = nn.Linear(n_features, n_objectives, bias=False)
        self.reward_transform_matrix = nn.Parameter(torch.eye(n_objectives), requires_grad=False)
        hidden = [config.gating_hidden_dim] * config.gating_n_hidden
        self.gating = GatingNetwork([n_features, *hidden, n_objectives], config.gating_temperature)
        self.score = nn.Linear(n_features, 1, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    @property
    def dtype(self) -> torch.dtype:
        """The backbone's: the heads are in float32 beside any."""
        dtype: torch.dtype = getattr(self, self.base_model_prefix).dtype
        return dtype

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Tensor | None = None,
        *,
        prompt_lengths: Tensor | None = None,
        weights: Tensor | None = None,
        mixture: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> RewardOutput | tuple[Any, ...]:
        """Score conversations, each rendered whole by the tokenizer's chat template.

        Args:
            input_ids: `[B, L]`, or all that the tokenizer returns.
            attention_mask: `[B, L]`, padded on either side. Without one, tokens that are the configuration's padding
                token are padding.
            prompt_lengths: `[B]` tokens of each prompt, padding not counted, where they are known better than by
                looking for the last `prompt_end_pattern`: an answer may imitate it.
            weights: `[K]` or `[B, K]` factors of the gate's weights, whose sum stays; 0 leaves an objective out.
            mixture: `[K]` or `[B, K]` weights in place of the gate's.
            return_dict: False for a tuple.
            **kwargs: for the backbone.

        Raises:
            ValueError: a conversation has no prompt's end, or there is padding and nothing to tell it by.
        """
        if hasattr(input_ids, "keys"):
            attention_mask = input_ids.get("attention_mask", attention_mask)
            input_ids = input_ids["input_ids"]
        mask_BL = self._mask(input_ids, attention_mask)
        places_L = torch.arange(input_ids.shape[1], device=input_ids.device)
        first_B, last_B = mask_BL.int().argmax(dim=1), (mask_BL * places_L).argmax(dim=1)
        if bool(first_B.any()):  # padded on the left: positions count from the first token all the same
            kwargs.setdefault("position_ids", (mask_BL.long().cumsum(dim=1) - 1).clamp(min=0))
        kwargs.setdefault("use_cache", False)
        states_BLD = self.base_model(input_ids=input_ids, attention_mask=mask_BL.long(), **kwargs).last_hidden_state
        ends_B = self._prompt_ends(input_ids, last_B) if prompt_lengths is None else first_B + prompt_lengths - 1
        rows_B = torch.arange(len(input_ids), device=states_BLD.device)
        output = self._heads(states_BLD[rows_B, last_B], states_BLD[rows_B, ends_B], weights, mixture)
        return output.to_tuple() if return_dict is False else output

    def _heads(
        self, states_BD: Tensor, prompts_BD: Tensor, weights: Tensor | None, mixture: Tensor | None
    ) -> RewardOutput:
        """Compute the heads in float32, whatever the backbone's type."""
        with torch.autocast(states_BD.device.type, enabled=False):
            rewards_BK = self.regression_layer(states_BD.to(self.regression_layer.weight.dtype)).float()
            gating_BK = self.gating(prompts_BD.to(self.gating.logit_scale.dtype)).float()
            if weights is not None:
                weighed_BK = gating_BK * weights
                weighed_BK = weighed_BK + (weighed_BK.sum(-1, keepdim=True) == 0) * weights
                gating_BK = weighed_BK / weighed_BK.sum(-1, keepdim=True) * gating_BK.sum(-1, keepdim=True)
            if mixture is not None:
                gating_BK = mixture.float().expand_as(gating_BK)
            score_B = (gating_BK * (rewards_BK @ self.reward_transform_matrix.float())).sum(-1)
        return RewardOutput(
            rewards=rewards_BK,
            hidden_state=states_BD,
            prompt_embedding=prompts_BD,
            gating_output=gating_BK,
            score=score_B,
            logits=score_B[:, None],
        )

    def _mask(self, ids_BL: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return `[B, L]` True for tokens of a conversation."""
        if attention_mask is not None:
            return attention_mask.bool()
        padding = self.config.get_text_config().pad_token_id
        if padding is not None:
            text_BL: Tensor = ids_BL != padding
            return text_BL
        if len(ids_BL) > 1:
            raise ValueError("got several conversations and no padding token; expected an attention_mask; pass it")
        return torch.ones_like(ids_BL, dtype=torch.bool)

    def _prompt_ends(self, ids_BL: Tensor, last_B: Tensor) -> Tensor:
        """Return `[B]` places of the prompts' last tokens."""
        ends_B = find_prompt_ends(ids_BL, last_B, self.config.prompt_end_pattern, self.config.prompt_end_offset)
        if bool((ends_B < 0).any()):
            raise ValueError(
                "got a conversation without the end of a prompt; expected one that the tokenizer's chat template has "
                "rendered whole, an answer at its end; or pass prompt_lengths"
            )
        return ends_B


def find_prompt_ends(ids_BL: Tensor, last_B: Tensor, pattern: Sequence[int], offset: int) -> Tensor:
    """Return `[B]` places of the prompts' last tokens, by the last pattern that something follows; else -1.

    Args:
        ids_BL: `[B, L]` token ids.
        last_B: `[B]` place of each conversation's last token.
        pattern: token ids.
        offset: where the prompt's last token is, counted from the first of them.
    """
    if ids_BL.shape[1] < len(pattern):
        return torch.full_like(last_B, -1)
    found_BW = (ids_BL.unfold(1, len(pattern), 1) == torch.tensor(pattern, device=ids_BL.device)).all(dim=-1)
    places_W = torch.arange(found_BW.shape[1], device=ids_BL.device)
    found_BW = found_BW & (places_W + len(pattern) <= last_B[:, None]) & (places_W + offset >= 0)
    ends_B = (found_BW * places_W).argmax(dim=1) + offset
    return torch.where(found_BW.any(dim=1), ends_B, -1)


RewardModelWithGating.register_for_auto_class("AutoModelForSequenceClassification")  # type: ignore[no-untyped-call]

"""Loading a frozen decoder-only backbone, and its forward pass: token ids in, vectors out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from features.embedding.fingerprint import BackboneSettings, Fingerprint
from features.embedding.plan import TokenSequence
from features.errors import BackboneError


@dataclass(frozen=True, slots=True)
class Backbone:
    """A loaded backbone. Shapes below: B sequences, L tokens, D hidden size."""

    name: str
    fingerprint: Fingerprint
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def forward(self, batch: Sequence[TokenSequence]) -> list[npt.NDArray[np.float32]]:
        """One right-padded pass: for each sequence `[n_wanted, D]`, the states at its wanted positions.

        Under causal attention what follows a token cannot change its state, so padding on the right and a
        shared prompt need no further care; position ids count from the sequence's own start.
        """
        longest = max(len(sequence.token_ids) for sequence in batch)
        ids_BL = torch.zeros((len(batch), longest), dtype=torch.long)
        mask_BL = torch.zeros((len(batch), longest), dtype=torch.long)
        for row, sequence in enumerate(batch):
            ids_BL[row, : len(sequence.token_ids)] = torch.as_tensor(sequence.token_ids)
            mask_BL[row, : len(sequence.token_ids)] = 1
        states_BLD = self.last_hidden_state(ids_BL, mask_BL)
        return [
            states_BLD[row, [wanted.position for wanted in sequence.wanted]].float().cpu().numpy()
            for row, sequence in enumerate(batch)
        ]

    def last_hidden_state(self, ids_BL: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
        """`[B, L, D]` states of the last layer, after the final norm."""
        device = self.model.device
        with torch.inference_mode():
            output = self.model(input_ids=ids_BL.to(device), attention_mask=mask_BL.to(device), use_cache=False)
        states: torch.Tensor = output.last_hidden_state
        return states


def load(settings: BackboneSettings, fingerprint: Fingerprint) -> Backbone:
    """Loads weights and tokenizer, without remote code and without pickle.

    Raises:
        BackboneError: transformers cannot load it, or it is no causal decoder.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]  # of reading weights: the embedding has its own
    try:
        model: Any = AutoModel.from_pretrained(
            fingerprint.folder, dtype=getattr(torch, settings.dtype), attn_implementation="sdpa", use_safetensors=True
        )
        tokenizer = AutoTokenizer.from_pretrained(fingerprint.folder)
        model.to(settings.device)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise BackboneError(settings.path, f"transformers cannot load it: {first_line}") from error
    backbone = Backbone(settings.path, fingerprint, model.eval(), tokenizer)
    _check_causal(backbone)
    return backbone


def _check_causal(backbone: Backbone) -> None:
    """Changes the last token and demands that no earlier state moves."""
    if backbone.model.config.is_encoder_decoder:
        raise BackboneError(backbone.name, "got an encoder-decoder; expected a decoder-only model")
    ids_BL = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]])
    states_BLD = backbone.last_hidden_state(ids_BL, torch.ones_like(ids_BL)).float()
    if not torch.allclose(states_BLD[0, :-1], states_BLD[1, :-1], atol=1e-3, rtol=1e-3):
        raise BackboneError(backbone.name, "got a model that looks ahead; expected a decoder-only (causal) model")

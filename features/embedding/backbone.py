"""Loading a frozen decoder-only backbone, and its forward pass: token ids in, vectors out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from features.embedding.attention import ATTENTION
from features.embedding.fingerprint import BackboneSettings, Fingerprint, chat_template
from features.embedding.linear import use_onednn
from features.embedding.memory import keep_freed_memory
from features.embedding.packed import LastLayer, forward
from features.embedding.plan import Batch, Pack, TokenSequence, Wanted, plan_batches, plan_packs
from features.errors import BackboneError
from features.shards import Vector


@dataclass(frozen=True, slots=True)
class Backbone:
    """A loaded backbone. Shapes below: B sequences, L tokens, D hidden size."""

    name: str
    fingerprint: Fingerprint
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    last_layer: LastLayer | None = None
    """What a packed pass needs; none where the backbone is run in padded batches."""
    why_padded: str | None = None
    """Why it is, in words."""

    def embed(self, sequences: Sequence[TokenSequence], *, token_budget: int) -> Iterator[tuple[Wanted, Vector]]:
        """Every wanted feature with its vector `[D]`, a forward pass at a time.

        Args:
            sequences: what to compute.
            token_budget: tokens of a pass, padding included where there is any.
        """
        for planned in self.plan(sequences, token_budget=token_budget):
            yield from self.run(planned)

    def plan(self, sequences: Sequence[TokenSequence], *, token_budget: int) -> Sequence[Pack | Batch]:
        """The forward passes that give every wanted feature once."""
        if self.last_layer is not None:
            return plan_packs(sequences, token_budget=token_budget)
        batches = plan_batches([len(sequence.token_ids) for sequence in sequences], token_budget=token_budget)
        return [Batch(tuple(sequences[index] for index in batch)) for batch in batches]

    def run(self, planned: Pack | Batch) -> list[tuple[Wanted, Vector]]:
        """One forward pass."""
        if isinstance(planned, Batch):
            return self._padded(planned)
        assert self.last_layer is not None
        states_WD = forward(self.model, self.last_layer, planned).float().cpu().numpy()
        return list(zip(planned.features, states_WD, strict=True))

    def _padded(self, batch: Batch) -> list[tuple[Wanted, Vector]]:
        """Right-padded: what follows a token cannot change its state, so padding needs no further care."""
        longest = max(len(sequence.token_ids) for sequence in batch.sequences)
        ids_BL = torch.zeros((len(batch.sequences), longest), dtype=torch.long)
        mask_BL = torch.zeros((len(batch.sequences), longest), dtype=torch.long)
        for row, sequence in enumerate(batch.sequences):
            ids_BL[row, : len(sequence.token_ids)] = torch.as_tensor(sequence.token_ids)
            mask_BL[row, : len(sequence.token_ids)] = 1
        states_BLD = self.last_hidden_state(ids_BL, mask_BL)
        return [
            (wanted, states_BLD[row, wanted.position].float().cpu().numpy())
            for row, sequence in enumerate(batch.sequences)
            for wanted in sequence.wanted
        ]

    def last_hidden_state(self, ids_BL: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
        """`[B, L, D]` states of the last layer, after the final norm."""
        device = self.model.device
        with torch.inference_mode():
            output = self.model(input_ids=ids_BL.to(device), attention_mask=mask_BL.to(device), use_cache=False)
        states: torch.Tensor = output.last_hidden_state
        return states


def load(settings: BackboneSettings, fingerprint: Fingerprint) -> Backbone:
    """Loads weights and tokenizer, without remote code and without pickle, and finds out whether it can be packed.

    Raises:
        BackboneError: transformers cannot load it, weights are missing, or it is no causal decoder.
    """
    if settings.device == "cpu":
        keep_freed_memory()
    try:
        model = _read_weights(fingerprint.folder, getattr(torch, settings.dtype))
        tokenizer = AutoTokenizer.from_pretrained(fingerprint.folder)
        if settings.chat_template:
            tokenizer.chat_template = chat_template(fingerprint.folder, settings)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise BackboneError(settings.path, f"transformers cannot load it: {first_line}") from error
    try:
        model.to(settings.device)
    except (RuntimeError, AssertionError) as error:  # the second of a torch that was built without CUDA
        first_line = str(error).strip().splitlines()[0]
        raise BackboneError(
            settings.path,
            f"got device {settings.device}, which torch cannot use here ({first_line}); expected cpu, or a GPU's name",
        ) from error
    if settings.device == "cpu" and settings.dtype == "float32":
        use_onednn(model)
    padded = Backbone(settings.path, fingerprint, model.eval(), tokenizer)
    _check_causal(padded)
    return _packed(padded)


def _read_weights(folder: Path, dtype: torch.dtype) -> Any:
    """The backbone alone: what else is in the files, such as a head, is left out without a word."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of reading weights: the embedding has its own
    usual = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        model, found = AutoModel.from_pretrained(folder, dtype=dtype, use_safetensors=True, output_loading_info=True)
    finally:
        logging.set_verbosity(usual)
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{len(missing)} weights are not in its files, {missing[0]} for one")
    return model


def _check_causal(backbone: Backbone) -> None:
    """Changes the last token and demands that no earlier state moves."""
    if backbone.model.config.is_encoder_decoder:
        raise BackboneError(backbone.name, "got an encoder-decoder; expected a decoder-only model")
    ids_BL = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]])
    states_BLD = backbone.last_hidden_state(ids_BL, torch.ones_like(ids_BL)).float()
    if not torch.allclose(states_BLD[0, :-1], states_BLD[1, :-1], atol=1e-3, rtol=1e-3):
        raise BackboneError(backbone.name, "got a model that looks ahead; expected a decoder-only (causal) model")


def _packed(padded: Backbone) -> Backbone:
    """The backbone as it is run: packed, if that gives what padded batches give on a probe, else as it came."""
    probe = _probe()
    expected = dict(padded.embed(probe, token_budget=1))
    candidate = Backbone(
        padded.name, padded.fingerprint, padded.model, padded.tokenizer, last_layer=LastLayer(padded.model)
    )
    own = padded.model.config._attn_implementation
    try:
        padded.model.set_attn_implementation(ATTENTION)
        got = dict(candidate.embed(probe, token_budget=1024))
        furthest = max(_apart(expected[wanted], got[wanted]) for wanted in expected)
        why = f"a packed pass gives other vectors, {furthest:.1e} apart" if furthest > PROBE_TOLERANCE else None
    except Exception as error:  # whatever a model of any kind raises that does not take packs
        why = f"it takes no packs ({type(error).__name__})"
    if why is None:
        return candidate
    padded.model.set_attn_implementation(own)
    return Backbone(padded.name, padded.fingerprint, padded.model, padded.tokenizer, why_padded=why)


PROBE_TOLERANCE = 0.02
"""Of the distance of two vectors to their length: far above what bfloat16 rounds, far below what a wrong mask does."""


def _probe() -> list[TokenSequence]:
    """Texts that share beginnings, of token ids that every vocabulary has."""
    stem = tuple(range(1, 25))
    texts = [stem, (*stem, 3, 5, 7, 9), (*stem, 3, 5, 7, 9, *stem[::-1]), (*stem, 2, 4, 6), (*stem[5:], *stem)]
    return [
        TokenSequence(text, (Wanted("conversation", str(number), len(text) - 1, len(text)),))
        for number, text in enumerate(texts)
    ]


def _apart(one: Vector, two: Vector) -> float:
    return float(np.linalg.norm(one - two) / np.linalg.norm(one))

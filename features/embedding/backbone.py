"""Loading a frozen decoder-only backbone, and its forward pass: token ids in, vectors out."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from armorm.features.embedding.attention import ATTENTION
from armorm.features.embedding.fingerprint import BackboneSettings, Dtype, Fingerprint, chat_template
from armorm.features.embedding.folder import weight_files
from armorm.features.embedding.linear import use_onednn
from armorm.features.embedding.memory import keep_freed_memory
from armorm.features.embedding.packed import LastLayer, forward
from armorm.features.embedding.packs import Batch, Pack, TokenIds, TokenSequence, Wanted, plan_batches, plan_packs
from armorm.features.embedding.remote_code import quiet, refuse_larger
from armorm.features.embedding.sandbox import try_tokenizer
from armorm.features.errors import BackboneError
from armorm.features.vectors.shards import Vector


@dataclass(frozen=True, slots=True)
class Backbone:
    """A loaded backbone. Shapes below: B sequences, L tokens, D hidden size."""

    name: str
    fingerprint: Fingerprint
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    last_layer: LastLayer | None = None
    """What a packed pass needs; None if the backbone is run in padded batches."""
    why_padded: str | None = None
    """The reason why it is run in padded batches, in words."""

    def embed(self, sequences: Sequence[TokenSequence], *, token_budget: int) -> Iterator[tuple[Wanted, Vector]]:
        """Yield every wanted feature with its vector `[D]`, a forward pass at a time.

        Args:
            sequences: what to compute.
            token_budget: tokens of a pass, padding included where there is any.
        """
        for planned in self.plan(sequences, token_budget=token_budget):
            yield from self.run(planned)

    def plan(self, sequences: Sequence[TokenSequence], *, token_budget: int) -> Sequence[Pack | Batch]:
        """Return the forward passes that give every wanted feature once."""
        if self.last_layer is not None:
            return plan_packs(sequences, token_budget=token_budget)
        batches = plan_batches([len(sequence.token_ids) for sequence in sequences], token_budget=token_budget)
        return [Batch(tuple(sequences[index] for index in batch)) for batch in batches]

    def run(self, planned: Pack | Batch) -> list[tuple[Wanted, Vector]]:
        """Run one forward pass."""
        if isinstance(planned, Batch):
            return self._padded(planned)
        assert self.last_layer is not None
        states_WD = forward(self.model, self.last_layer, planned).float().cpu().numpy()
        return list(zip(planned.features, states_WD, strict=True))

    def _padded(self, batch: Batch) -> list[tuple[Wanted, Vector]]:
        """Run a right-padded batch: what follows a token cannot change its state, so padding needs no further care."""
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

    @property
    def n_embeddings(self) -> int:
        """Token ids that it has an embedding for are below; its tokenizer may know more."""
        weight: torch.Tensor = self.model.get_input_embeddings().weight  # type: ignore[assignment]
        return len(weight)

    @property
    def dtype(self) -> Dtype:
        """The name of its weights' type."""
        dtype: Dtype = self.fingerprint.record["dtype"]
        return dtype

    def last_hidden_state(self, ids_BL: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
        """Return `[B, L, D]` states of the last layer, after the final norm."""
        device = self.model.device
        with torch.inference_mode():
            output = self.model(input_ids=ids_BL.to(device), attention_mask=mask_BL.to(device), use_cache=False)
        states: torch.Tensor = output.last_hidden_state
        return states


Floats = npt.NDArray[np.float32]


def load(settings: BackboneSettings, fingerprint: Fingerprint) -> Backbone:
    """Load weights and tokenizer, without remote code and without pickle, and find out whether it can be packed.

    Raises:
        BackboneError: transformers cannot load it, weights are missing, or it is no causal decoder.
    """
    if settings.device == "cpu":
        keep_freed_memory()
    with quiet():
        return _packed(_loaded(settings, fingerprint))


def require_device(settings: BackboneSettings) -> torch.device:
    """Return the device that passes run on.

    Raises:
        BackboneError: torch cannot use it here.
    """
    try:
        return torch.empty(0, device=settings.device).device
    except (RuntimeError, AssertionError) as error:  # the second of a torch that was built without CUDA
        first_line = str(error).strip().splitlines()[0]
        raise BackboneError(
            settings.path,
            f"got device {settings.device}, which torch cannot use here ({first_line}); expected cpu, or a GPU's name",
        ) from error


def read_architecture(settings: BackboneSettings, fingerprint: Fingerprint) -> PreTrainedConfig:
    """Read a backbone's configuration alone, without remote code.

    Raises:
        BackboneError: transformers cannot read it.
    """
    try:
        with quiet():
            config: PreTrainedConfig = AutoConfig.from_pretrained(
                fingerprint.folder, trust_remote_code=False, local_files_only=True
            )
    except Exception as error:  # whatever the configuration of any kind raises
        raise BackboneError(settings.path, _why_not_loaded(error)) from error
    return config


def load_with(kind: Any, settings: BackboneSettings, fingerprint: Fingerprint) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load a model with its head, and its tokenizer with the chat template, without remote code and without pickle.

    Args:
        kind: a class of transformers that chooses by the configuration, such as `AutoModelForCausalLM`.
        settings: where it is, and how it is run.
        fingerprint: of these settings.

    Raises:
        BackboneError: transformers cannot load it, or weights are missing.
    """
    with quiet():
        model, tokenizer = _read(kind, settings, fingerprint)
    return model.to(require_device(settings)).eval(), tokenizer


def _read(kind: Any, settings: BackboneSettings, fingerprint: Fingerprint) -> tuple[Any, PreTrainedTokenizerBase]:
    folder = fingerprint.folder
    try_tokenizer(settings.path, folder)
    try:
        model = _read_weights(kind, folder, getattr(torch, settings.dtype))
        # mistral-common, where it is installed, would read another file
        tokenizer = AutoTokenizer.from_pretrained(
            folder, mistral_format=False, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # whatever the loader of any kind raises
        raise BackboneError(settings.path, _why_not_loaded(error)) from error
    template = chat_template(folder, settings)
    tokenizer.chat_template = (
        template if isinstance(template, str) else {one["name"]: one["template"] for one in template}
    )
    return model, tokenizer


def _loaded(settings: BackboneSettings, fingerprint: Fingerprint) -> Backbone:
    """Load a backbone that runs in padded batches, which every decoder takes."""
    model, tokenizer = _read(AutoModel, settings, fingerprint)
    if not isinstance(model.config.get_text_config(), PreTrainedConfig):
        raise BackboneError(
            settings.path,
            f"got text_config in config.json, which a {model.config.model_type} does not have; expected its own "
            "settings alone; restore the file",
        )
    if not isinstance(tokenizer.model_max_length, int | float):
        raise BackboneError(
            settings.path,
            f"got model_max_length {str(tokenizer.model_max_length)[:40]!r} in tokenizer_config.json; expected a "
            "number; restore the file",
        )
    model.to(require_device(settings))
    if settings.device == "cpu" and settings.dtype == "float32":
        use_onednn(model)
    padded = Backbone(settings.path, fingerprint, model.eval(), tokenizer)
    _check_causal(padded)
    return padded


def _read_weights(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Return the model of a kind: what else is in the files, such as a head, is left out without a word."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    # A folder may ask for kernels, from the Hub or of another package, and for tuples in place of named outputs.
    config._attn_implementation = config._experts_implementation = None
    config.return_dict = True
    refuse_larger(config, _n_held(folder))
    model, found = kind.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        use_safetensors=True,
        weights_only=True,
        key_mapping=_renamed(folder, config) if kind is AutoModel else None,
        output_loading_info=True,
        trust_remote_code=False,
        local_files_only=True,
    )
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{len(missing)} weights are not in its files, for example {missing[0]}")
    return model


def _n_held(folder: Path) -> int:
    """Return how many numbers the folder's tensors have, of which only the headers are read."""
    n_held = 0
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            n_held += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return n_held


def _renamed(folder: Path, config: Any) -> dict[str, str] | None:
    """Return how a reward model's weights, which are `model.*`, are called in a kind with another prefix."""
    kind = MODEL_MAPPING.get(type(config), None)
    prefix = getattr(kind, "base_model_prefix", "model")
    if prefix == "model":
        return None
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            if any(name.startswith("model.") for name in file.keys()):  # noqa: SIM118  # no mapping
                return {r"^model\.": ""}
    return None


def _why_not_loaded(error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return (
            "got a folder that needs Python code of its own (auto_map), which is never run; expected kinds of model "
            "and tokenizer that transformers has built in; name the same model in that form, or another one"
        )
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return f"transformers cannot load it: {said}"


def _check_causal(backbone: Backbone) -> None:
    """Change the last token and demand that no earlier state moves."""
    if backbone.model.config.is_encoder_decoder:
        raise BackboneError(backbone.name, "got an encoder-decoder; expected a decoder-only model")
    ids_BL = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]])
    try:
        states_BLD = backbone.last_hidden_state(ids_BL, torch.ones_like(ids_BL)).float()
    except Exception as error:  # whatever a model raises that takes other inputs than token ids
        raise BackboneError(
            backbone.name,
            f"got a {backbone.model.config.model_type} that takes no plain tokens ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); expected a decoder-only model of text; name one",
        ) from error
    if not states_BLD.isfinite().all():
        raise BackboneError(
            backbone.name,
            f"got NaN or infinity for plain tokens in {backbone.dtype}; expected finite numbers; set dtype in "
            "[backbone] to float32, or restore its weights",
        )
    if (width := states_BLD.shape[-1]) != (stated := backbone.fingerprint.record["hidden_size"]):
        raise BackboneError(
            backbone.name,
            f"got vectors of {width} numbers; expected {stated}, as its config.json says; name a backbone whose last "
            "layer is not projected",
        )
    moved = (states_BLD[0, :-1] - states_BLD[1, :-1]).norm(dim=-1).max()
    spread = (states_BLD - states_BLD.mean(dim=(0, 1))).norm(dim=-1).mean()
    if moved > PROBE_TOLERANCES[backbone.dtype] * spread:
        raise BackboneError(backbone.name, "got a model that looks ahead; expected a decoder-only (causal) model")


PROBE_TOLERANCES: Final[Mapping[Dtype, float]] = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 8e-2}
"""How far two ways of computing a text's vector may lead apart, as a share of how far texts are: more than rounding
does, and less than a wrong mask does."""

LEAK_TOLERANCES: Final[Mapping[str, float]] = {"cpu": 0.01, "cuda": 1.0}
"""The share of it that other texts in the same pass may cause, by device: on a CPU all products are the same; flex
attention sums over the pack's rows, in another order where a text stands elsewhere."""

KEPT: Final = 2
"""Texts that both sets of a probe have, at their heads."""


def _packed(padded: Backbone) -> Backbone:
    """Return the backbone packed if a probe's texts get the same vectors as alone, else as it came.

    Raises:
        BackboneError: in padded batches, too, they get others.
    """
    sets = _probe(padded)
    tolerance = PROBE_TOLERANCES[padded.dtype]
    leak_tolerance = LEAK_TOLERANCES.get(padded.model.device.type, 1.0)
    candidate = replace(padded, last_layer=LastLayer(padded.model))
    own = padded.model.config._attn_implementation
    with _narrowed(padded.model):
        alone = [_vectors(padded, texts, token_budget=1) for texts in sets]
        if not np.isfinite(alone).all():  # whether those of plain texts are is for the canaries to say
            return replace(padded, why_padded="texts of a probe have no finite vectors")
        batched = [_vectors(padded, texts, token_budget=4096) for texts in sets]
        everything_ND = np.concatenate(alone)
        spread = float(np.sqrt(((everything_ND - everything_ND.mean(axis=0)) ** 2).sum(axis=1).mean())) or np.nan

        def apart(ones: Sequence[Floats], others: Sequence[Floats]) -> Floats:
            distances_N: Floats = np.linalg.norm(np.concatenate(ones) - np.concatenate(others), axis=1)
            return distances_N / spread

        # Experts' rows are those of other texts too, so rounding is another, and now and then an expert.
        beside = apart([batched[0][:KEPT]], [batched[1][:KEPT]]).max()
        if not (usual := np.median(apart(alone, batched))) <= 4 * tolerance:  # rounding must not refuse a backbone
            raise BackboneError(
                padded.name,
                f"got vectors that depend on what is computed beside a text ({usual:.1e} of the distance between "
                "texts); expected a model in which padding changes nothing; name another one",
            )
        try:
            padded.model.set_attn_implementation(ATTENTION)
            if padded.model.config._attn_implementation == ATTENTION:
                packed = [_vectors(candidate, texts, token_budget=4096) for texts in sets]
                most = apart(alone, packed).max()
                leak = apart([packed[0][:KEPT]], [packed[1][:KEPT]]).max()
                if most <= tolerance and leak <= max(leak_tolerance * tolerance, 4 * beside):
                    return candidate
                why = f"vectors of a packed pass differ, by {most:.1e}, and by {leak:.1e} because of other texts"
            else:  # what is no function of transformers' interface cannot be set, which a log line alone says
                why = "it has an attention of its own"
        except Exception as error:  # whatever a model of any kind raises that does not take packs
            why = f"it takes no packs ({type(error).__name__}: {' '.join(str(error).split())[:80]})"
    padded.model.set_attn_implementation(own)
    return replace(padded, why_padded=why)


def _probe(backbone: Backbone) -> list[list[TokenSequence]]:
    """Return two sets of texts with the first ones in common, and with as many tokens in all.

    What stands before those texts, and between their halves, is of another length in each set: whoever counts
    positions through a pass gives them other vectors.
    """
    draw, most = random.Random(0), backbone.fingerprint.max_tokens
    unit = max(1, min(14, most // 3))

    def some(first: int, n_units: int) -> TokenIds:
        return (first, *(draw.randrange(backbone.n_embeddings) for _ in range(n_units * unit - 1)))

    stem, end = some(1, 1), some(1, 1)
    sets = [
        [stem, (*stem, *end), some(0, before), (*stem, *some(0, between)), some(2, after)]
        for before, between, after in ((1, 1, 3), (2, 2, 1))
    ]
    return [
        [
            TokenSequence(text[:most], (Wanted("conversation", str(number), len(text[:most]) - 1, len(text)),))
            for number, text in enumerate(texts)
        ]
        for texts in sets
    ]


NARROWED: Final = ("sliding_window", "attention_chunk_size", "index_topk")
"""What bounds the tokens that a token sees, in models and in their configurations; the probe's texts are shorter."""

NARROW: Final = 8
"""The tokens that they are set to meanwhile."""


@contextmanager
def _narrowed(model: PreTrainedModel) -> Iterator[None]:
    """Narrow those bounds to less than the probe's texts, so that the probe tells whether they are respected."""
    configs = {id(config): config for module in model.modules() if (config := getattr(module, "config", None))}
    holders = [*model.modules(), *configs.values()]
    bounds = [(holder, name, getattr(holder, name, None)) for holder in holders for name in NARROWED]
    changed = [(holder, name, bound) for holder, name, bound in bounds if isinstance(bound, int) and bound > NARROW]
    for holder, name, _ in changed:
        setattr(holder, name, NARROW)
    try:
        yield
    finally:
        for holder, name, bound in changed:
            setattr(holder, name, bound)


def _vectors(backbone: Backbone, texts: Sequence[TokenSequence], *, token_budget: int) -> Floats:
    """Return `[N, D]` in their order."""
    got = dict(backbone.embed(texts, token_budget=token_budget))
    return np.stack([got[wanted] for sequence in texts for wanted in sequence.wanted])

"""A tiny random-weight Llama with its own tokenizer, as an ordinary Hugging Face folder.

It stands in for a real backbone where none can be downloaded. Its last hidden state is, in the main, a random
projection of the mean over the tokens, so whatever is linear in the shares of words can be read off it.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from armorm.features.sample.native.argilla_openorca import SYSTEMS
from armorm.features.sample.world.words import KINDS
from armorm.features.sample.world.world import World

if TYPE_CHECKING:
    import torch
    from transformers import LlamaModel, PreTrainedTokenizerFast

BOS: Final = "<|begin_of_text|>"
PAD: Final = "<|pad|>"
HEADER: Final = ("<|start_header_id|>", "<|end_header_id|>")
END_OF_TURN: Final = "<|eot_id|>"

CHAT_TEMPLATE: Final = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

VOCABULARY_SIZE: Final = 2048
MAX_TOKENS: Final = 2048

# Scales of the weights, as gains: the standard deviation of a matrix's output where its input's is 1.
#
# Queries and keys are next to nothing, so attention is nearly uniform and the last token reads the mean of the
# values of all tokens. Such a mean is some 5 to 10 times smaller than one value, so the last layer's output makes
# up for it; else the last token, which is always the same, would see mostly itself. The first layer's output is
# small, so that tokens reach the last layer as themselves and not as the mean of what precedes them. The MLP is
# small, so that the state stays nearly linear in the mean. The last token's own embedding is a constant in
# every feature: a regression without intercept has one all the same.
EMBEDDING_STD: Final = 0.5
OUTPUT_GAINS: Final = (0.5, 4.0)
"""The scale of attention's `o_proj`, by layer."""
GAINS: Final = {"q_proj": 0.05, "k_proj": 0.05, "v_proj": 1.0, "gate_proj": 0.5, "up_proj": 0.5, "down_proj": 0.1}


def write_backbone(folder: Path, texts: Iterable[str], *, seed: int = 0) -> None:
    """Train the tokenizer on `texts`, draw the weights from `seed` and save both in `folder`."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]  # of writing weights
    tokenizer = _tokenizer(texts)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    _model(tokenizer, seed).save_pretrained(folder)


def sample_texts(*, seed: int = 0) -> list[str]:
    """Return turns of all kinds under their roles: enough for a tokenizer to know the sample's words at any scale."""
    same = 1 / len(KINDS)
    groups = World(seed, scale=1.0).groups("tokenizer", 600, 2, mix=dict.fromkeys(KINDS, same), turns=(0.5, 0.5))
    turns = [turn for group in groups for turn in group.prompt.turns]
    turns += [("assistant", answer.text) for group in groups for answer in group.answers]
    turns += [("system", system) for system in SYSTEMS]
    return [*(f"{role}\n\n{content}" for role, content in turns)]


def _tokenizer(texts: Iterable[str]) -> "PreTrainedTokenizerFast":
    """Return a byte-level BPE with Llama 3's special tokens and template, which begins plain text with BOS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = [BOS, *HEADER, END_OF_TURN, PAD]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY_SIZE,
            special_tokens=special,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    bpe.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bpe.token_to_id(BOS))])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=END_OF_TURN,
        pad_token=PAD,
        additional_special_tokens=list(HEADER),
        chat_template=CHAT_TEMPLATE,
        model_max_length=MAX_TOKENS,
        clean_up_tokenization_spaces=False,
    )


def _model(tokenizer: "PreTrainedTokenizerFast", seed: int) -> "LlamaModel":
    """Return the decoder alone: a backbone has no output layer."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=len(OUTPUT_GAINS),
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = LlamaModel(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            _draw(name, weight, generator)
    return model


def _draw(name: str, weight: "torch.Tensor", generator: "torch.Generator") -> None:
    """Fill one parameter: norms with ones, embeddings and matrices with normal numbers of the scales above."""
    module = name.split(".")[-2]
    if weight.ndim == 1:
        weight.fill_(1.0)
    elif module == "embed_tokens":
        weight.normal_(0.0, EMBEDDING_STD, generator=generator)
    else:
        gain = OUTPUT_GAINS[int(name.split(".")[1])] if module == "o_proj" else GAINS[module]
        weight.normal_(0.0, gain / math.sqrt(weight.shape[1]), generator=generator)

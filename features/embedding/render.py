"""From messages to token ids, by the backbone's own chat template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from transformers import PreTrainedTokenizerBase

from features.conversation import Conversation, conversation_id, prompt_id
from features.embedding.plan import Rendered, TokenIds

STAND_INS: Final = ("Yes", "No")
"""Two answers that begin differently: what a template writes before both belongs to no answer."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """What a template made of some conversations."""

    rendered: list[Rendered]
    refused: Mapping[str, str]
    """Conversation id to why it has no tokens."""
    without_prompt: Mapping[str, str]
    """Prompt id to why its end cannot be told."""


def render(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]) -> Rendering:
    """Tokenises whole conversations, each distinct prompt once, and finds where each prompt ends.

    The ids are those of `apply_chat_template(messages, tokenize=True)`: a template writes its own special
    tokens, so the tokenizer adds none and a BOS is never doubled. A prompt ends where the ids of the
    conversation and those of the prompt rendered alone part: token prefixes are compared, not text, since a
    byte-level BPE may join the prompt's last bytes with the answer's first. Where a template refuses a prompt
    without an answer, the prompt is what two different answers to it are both rendered after.
    """
    prompts = {prompt_id(messages): messages[:-1] for messages in conversations}
    prompt_tokens, no_prompt = _tokenise(tokenizer, prompts)
    prompt_tokens |= _before_answers(tokenizer, {id: prompts[id] for id in no_prompt})
    tokens, refused = _tokenise(tokenizer, {conversation_id(messages): messages for messages in conversations})
    rendered, without_prompt = [], {}
    for messages in conversations:
        id, prompt = conversation_id(messages), prompt_id(messages)
        if id not in tokens:
            continue
        n_prompt = common_prefix(tokens[id], prompt_tokens.get(prompt, ()))
        if not n_prompt:
            without_prompt[prompt] = no_prompt.get(prompt, "it shares no beginning with its conversations")
        rendered.append(Rendered(id, prompt, tokens[id], n_prompt))
    return Rendering(rendered, refused, without_prompt)


def common_prefix(first: TokenIds, second: TokenIds) -> int:
    """The number of leading tokens that both share."""
    both = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(both) if a != b), min(len(first), len(second)))


def _before_answers(tokenizer: PreTrainedTokenizerBase, prompts: Mapping[str, Conversation]) -> dict[str, TokenIds]:
    """For each prompt the tokens that stand before an answer to it, whatever the answer."""
    one, other = (
        _tokenise(tokenizer, {id: (*prompt, ("assistant", answer)) for id, prompt in prompts.items()})[0]
        for answer in STAND_INS
    )
    return {id: one[id][: common_prefix(one[id], other[id])] for id in prompts if id in one and id in other}


def _tokenise(
    tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Conversation]
) -> tuple[dict[str, TokenIds], dict[str, str]]:
    """Ids to tokens, in one batch; and ids to why there are none."""
    written: dict[str, str] = {}
    refused: dict[str, str] = {}
    for id, messages in texts.items():
        try:
            written[id] = _text(tokenizer, messages)
        except Exception as error:  # a template is a program of the backbone's author: it may raise anything
            roles = ", ".join(role for role, _ in messages)
            refused[id] = f"the chat template cannot render a conversation of {roles}: {' '.join(str(error).split())}"
    if not written:
        return {}, refused
    encoded: Any = tokenizer(
        list(written.values()), add_special_tokens=False, return_attention_mask=False, verbose=False
    )
    tokens = {id: tuple(ids) for id, ids in zip(written, encoded["input_ids"], strict=True)}
    refused |= {id: "the chat template renders it to nothing" for id, ids in tokens.items() if not ids}
    return {id: ids for id, ids in tokens.items() if ids}, refused


def _text(tokenizer: PreTrainedTokenizerBase, messages: Conversation) -> str:
    turns = [{"role": role, "content": content} for role, content in messages]
    return str(tokenizer.apply_chat_template(turns, tokenize=False))

"""From messages to token ids, by the backbone's own chat template."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from features.conversation import Conversation, conversation_id, prompt_id
from features.embedding.plan import Rendered, TokenIds
from features.errors import BackboneError


def render(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]) -> list[Rendered]:
    """Tokenises whole conversations, each distinct prompt once, and finds where each prompt ends.

    The ids are those of `apply_chat_template(messages, tokenize=True)`: a template writes its own special
    tokens, so the tokenizer adds none and a BOS is never doubled. A prompt ends where the ids of the
    conversation and those of the prompt rendered alone part: token prefixes are compared, not text, since a
    byte-level BPE may join the prompt's last bytes with the answer's first.

    Raises:
        BackboneError: the template refuses a conversation, or shares no prefix with its prompt.
    """
    prompts = {prompt_id(messages): messages[:-1] for messages in conversations}
    prompt_tokens = dict(zip(prompts, _tokenise(tokenizer, list(prompts.values())), strict=True))
    rendered = []
    for messages, token_ids in zip(conversations, _tokenise(tokenizer, conversations), strict=True):
        prompt = prompt_id(messages)
        n_prompt = common_prefix(token_ids, prompt_tokens[prompt])
        if not n_prompt:
            raise BackboneError(
                tokenizer.name_or_path,
                f"its chat template renders conversation {conversation_id(messages)} and the prompt of it with no "
                "common beginning; use a template that keeps earlier turns as they are",
            )
        rendered.append(Rendered(conversation_id(messages), prompt, token_ids, n_prompt))
    return rendered


def common_prefix(first: TokenIds, second: TokenIds) -> int:
    """The number of leading tokens that both share."""
    both = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(both) if a != b), min(len(first), len(second)))


def _tokenise(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]) -> list[TokenIds]:
    texts = [_text(tokenizer, messages) for messages in conversations]
    encoded: Any = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
    return [tuple(ids) for ids in encoded["input_ids"]]


def _text(tokenizer: PreTrainedTokenizerBase, messages: Conversation) -> str:
    turns = [{"role": role, "content": content} for role, content in messages]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception as error:  # a template is a program of the backbone's author: it may raise anything
        roles = ", ".join(role for role, _ in messages)
        raise BackboneError(
            tokenizer.name_or_path, f"its chat template cannot render a conversation of {roles}: {error}"
        ) from error
    return str(text)

"""From messages to token ids, by the backbone's own chat template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from transformers import PreTrainedTokenizerBase

from armorm.features.conversation import SYSTEM_ROLES, Conversation, conversation_id, prompt_id
from armorm.features.embedding.fingerprint import SystemTurns
from armorm.features.embedding.packs import Rendered, TokenIds
from armorm.features.embedding.sandbox import write
from armorm.features.errors import BackboneError

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


def render(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation], *, system: SystemTurns = "template"
) -> Rendering:
    """Tokenise whole conversations, each distinct prompt once, and find where each prompt ends.

    The ids are those of `apply_chat_template(messages, tokenize=True)`: a template writes its own special
    tokens, so the tokenizer adds none and a BOS is never doubled. A prompt ends where the ids of the
    conversation and those of the prompt rendered alone part: token prefixes are compared, not text, since a
    byte-level BPE may join the prompt's last bytes with the answer's first. Where a template refuses a prompt
    without an answer, or writes it in another way, the prompt is all that stands before an answer, whatever the answer.

    Args:
        tokenizer: with its chat template.
        conversations: what to render.
        system: where system turns go.
    """
    shown = {conversation_id(messages): _with_system(messages, system) for messages in conversations}
    prompts = {prompt_id(messages): _with_system(messages[:-1], system) for messages in conversations}
    written, refused = _write(tokenizer, shown)
    alone, no_prompt = _write(tokenizer, prompts)
    pairs = [(conversation_id(messages), prompt_id(messages)) for messages in conversations]
    odd = {
        p: prompts[p] for id, p in pairs if id in written and not _begins_with(written[id], alone.get(p), prompts[p])
    }
    tokens, prompt_tokens = _encode(tokenizer, written), _encode(tokenizer, alone)
    prompt_tokens = {id: ids for id, ids in prompt_tokens.items() if id not in odd} | _before_answers(tokenizer, odd)
    refused |= {id: "the chat template renders it to nothing" for id, ids in tokens.items() if not ids}
    rendered, without_prompt = [], {}
    for id, prompt in pairs:
        if id in refused:
            continue
        n_prompt = common_prefix(tokens[id], prompt_tokens.get(prompt, ()))
        if not n_prompt:
            without_prompt[prompt] = no_prompt.get(prompt, "the chat template does not begin its conversations with it")
        rendered.append(Rendered(id, prompt, tokens[id], n_prompt))
    return Rendering(rendered, refused, without_prompt)


def shortened(messages: Conversation) -> list[Conversation]:
    """Return the conversation without its oldest exchange, without its two oldest, and so on; a system turn stays."""
    head = messages[:1] if messages[0][0] in SYSTEM_ROLES else ()
    turns = messages[len(head) :]
    return [(*head, *turns[start:]) for start in range(2, len(turns), 2)]


def common_prefix(first: TokenIds, second: TokenIds) -> int:
    """Return the number of leading tokens that both share."""
    both = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(both) if a != b), min(len(first), len(second)))


def _with_system(messages: Conversation, system: SystemTurns) -> Conversation:
    if system == "template" or len(messages) < 2 or messages[0][0] not in SYSTEM_ROLES:
        return messages
    (_, rules), (role, content), *others = messages
    return ((role, f"{rules}\n\n{content}"), *others)


def _begins_with(text: str, alone: str | None, prompt: Conversation) -> bool:
    """Return whether a rendered conversation begins as its prompt rendered alone, to the end of its content."""
    said = prompt[-1][1].strip()
    return alone is not None and said in alone and text.startswith(alone[: alone.rindex(said) + len(said)])


def _before_answers(tokenizer: PreTrainedTokenizerBase, prompts: Mapping[str, Conversation]) -> dict[str, TokenIds]:
    """Return the tokens that stand before any answer to each prompt."""
    one, other = (
        _encode(tokenizer, _write(tokenizer, {id: (*p, ("assistant", answer)) for id, p in prompts.items()})[0])
        for answer in STAND_INS
    )
    return {id: one[id][: common_prefix(one[id], other[id])] for id in prompts if id in one and id in other}


def _write(
    tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Conversation]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the ids to what the template writes; and ids to why it does not."""
    written: dict[str, str] = {}
    refused: dict[str, str] = {}
    turns = [[{"role": role, "content": content} for role, content in messages] for messages in texts.values()]
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:  # there are several, and none of them is called default
        raise BackboneError(tokenizer.name_or_path, f"{error}; set chat_template in [backbone] to a file") from error
    found = write(tokenizer.name_or_path, template, tokenizer.special_tokens_map, turns)
    for (id, messages), (text, why) in zip(texts.items(), found, strict=True):
        if not why:
            written[id] = text
            continue
        roles = ", ".join(role for role, _ in messages)
        has_system = messages[:1] and messages[0][0] in SYSTEM_ROLES
        advice = '; set system = "first_user" in [backbone] to put it into the user\'s turn' if has_system else ""
        refused[id] = f"the chat template cannot render a conversation of {roles}: {why}{advice}"
    return written, refused


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, str]) -> dict[str, TokenIds]:
    """Return all texts in one batch."""
    if not texts:
        return {}
    encoded: Any = tokenizer(list(texts.values()), add_special_tokens=False, return_attention_mask=False, verbose=False)
    return {id: tuple(ids) for id, ids in zip(texts, encoded["input_ids"], strict=True)}

"""From messages to token ids, by the backbone's own chat template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from transformers import PreTrainedTokenizerBase

from armorm.features.conversation import SYSTEM_ROLES, Conversation, conversation_id, prompt_id
from armorm.features.embedding.fingerprint import SystemTurns
from armorm.features.embedding.packs import Rendered, TokenIds
from armorm.features.embedding.sandbox import Written, tokenise
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
    written, refused = _tokenise(tokenizer, shown)
    alone, no_prompt = _tokenise(tokenizer, prompts)
    pairs = [(conversation_id(messages), prompt_id(messages)) for messages in conversations]
    odd = {
        p: prompts[p] for id, p in pairs if id in written and not _begins_with(written[id], alone.get(p), prompts[p])
    }
    prompt_tokens = {id: of.token_ids for id, of in alone.items() if id not in odd} | _before_answers(tokenizer, odd)
    refused |= {id: "the chat template renders it to nothing" for id, of in written.items() if not of.token_ids}
    rendered, without_prompt = [], {}
    for id, prompt in pairs:
        if id in refused:
            continue
        token_ids = written[id].token_ids
        n_prompt = common_prefix(token_ids, prompt_tokens.get(prompt, ()))
        if not n_prompt:
            without_prompt[prompt] = no_prompt.get(prompt, "the chat template does not begin its conversations with it")
        rendered.append(Rendered(id, prompt, token_ids, n_prompt))
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


def _begins_with(whole: Written, alone: Written | None, prompt: Conversation) -> bool:
    """Return whether a rendered conversation begins as its prompt rendered alone, to the end of its content."""
    said = prompt[-1][1].strip()
    if alone is None or said not in alone.text:
        return False
    return whole.text.startswith(alone.text[: alone.text.rindex(said) + len(said)])


def _before_answers(tokenizer: PreTrainedTokenizerBase, prompts: Mapping[str, Conversation]) -> dict[str, TokenIds]:
    """Return the tokens that stand before any answer to each prompt."""
    one, other = (
        _tokenise(tokenizer, {id: (*p, ("assistant", answer)) for id, p in prompts.items()})[0] for answer in STAND_INS
    )
    both = one.keys() & other.keys()
    return {id: one[id].token_ids[: common_prefix(one[id].token_ids, other[id].token_ids)] for id in both}


def _tokenise(
    tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Conversation]
) -> tuple[dict[str, Written], dict[str, str]]:
    """Return the ids to what the template writes and its tokens; and ids to why there are none."""
    written: dict[str, Written] = {}
    refused: dict[str, str] = {}
    turns = [[{"role": role, "content": content} for role, content in messages] for messages in texts.values()]
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:  # there are several, and none of them is called default
        raise BackboneError(tokenizer.name_or_path, f"{error}; set chat_template in [backbone] to a file") from error
    for (id, messages), found in zip(texts.items(), tokenise(tokenizer, template, turns), strict=True):
        if not found.why_not:
            written[id] = found
            continue
        roles = ", ".join(role for role, _ in messages)
        has_system = messages[:1] and messages[0][0] in SYSTEM_ROLES
        advice = '; set system = "first_user" in [backbone] to put it into the user\'s turn' if has_system else ""
        refused[id] = f"the chat template cannot render a conversation of {roles}: {found.why_not}{advice}"
    return written, refused

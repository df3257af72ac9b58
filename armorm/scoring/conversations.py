"""Conversations as people give them: messages, or texts with a prompt; and pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

from features.conversation import Conversation, MalformedConversation, check_conversation, single_turn

Given = Mapping[str, Any] | Sequence[Any]
"""Messages (`{role, content}` or `(role, content)`), `(prompt, response)`, or a mapping as in a line of a file."""


def one_conversation(given: Given) -> Conversation:
    """A conversation in any form.

    Raises:
        MalformedConversation: it is none.
    """
    if isinstance(given, Mapping):
        ((_, messages), *others) = conversations_of(given)
        if others:
            raise MalformedConversation("unknown_form", "got a pair; expected one conversation; give each side")
        return messages
    if len(given) == 2 and all(isinstance(text, str) for text in given):
        return _checked(single_turn(*given))
    return _checked(_messages(given, None))


def conversations_of(data: Mapping[str, Any]) -> list[tuple[str, Conversation]]:
    """The one or two conversations of a line, each with its side: `conversation`, or `chosen` and `rejected`.

    Raises:
        MalformedConversation: the line has another form.
    """
    given = {name: data[name] for name in ("messages", "response", "chosen", "rejected") if name in data}
    if set(given) == {"messages"}:
        found = [("conversation", _messages(given["messages"], None))]
    elif set(given) == {"response"}:
        found = [("conversation", _messages(given["response"], data.get("prompt")))]
    elif set(given) == {"chosen", "rejected"}:
        found = [(side, _messages(given[side], data.get("prompt"))) for side in ("chosen", "rejected")]
        if found[0][1][:-1] != found[1][1][:-1]:
            raise MalformedConversation("context_differs", "chosen and rejected do not answer the same prompt")
    else:
        raise MalformedConversation(
            "unknown_form",
            f"got {', '.join(sorted(data)) or 'nothing'}; expected messages, or prompt and response, "
            "or chosen and rejected (message lists, or texts with a prompt)",
        )
    return [(side, _checked(messages)) for side, messages in found]


def _checked(messages: Conversation) -> Conversation:
    check_conversation(messages)
    return messages


def _messages(value: Any, prompt: Any) -> Conversation:
    if isinstance(value, str) and isinstance(prompt, str):
        return single_turn(prompt, value)
    try:
        messages = tuple(_turn(turn) for turn in value)
    except (TypeError, KeyError, ValueError) as error:
        raise MalformedConversation(
            "not_messages", "expected a list of {role, content}, or texts with a prompt"
        ) from error
    if not all(isinstance(part, str) for turn in messages for part in turn):
        raise MalformedConversation("not_messages", "role and content have to be texts")
    return messages


def _turn(turn: Any) -> tuple[str, str]:
    if isinstance(turn, Mapping):
        return turn["role"], turn["content"]
    if isinstance(turn, str):
        raise TypeError("a text is no turn")
    role, content = turn
    return role, content

"""The one reader of conversations as rows have them: for scoring, for `check` and for ingest of own data.

An answer is a text or messages, what comes before it a prompt (a text or messages) and a system text. All that a row
says is read: a prompt and a system text are put before the answer, once where its turns begin with them already.
Messages may be an object of lists, as `datasets` stores them, or written as JSON, as a cell of CSV holds them.
Null, NaN, and an object of nulls alone are absent, as Parquet and pandas fill absent fields with them.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from armorm.features.conversation import SYSTEM_ROLES, Conversation, MalformedConversation, Message, has_text

ALIASES: Final[Mapping[str, str]] = {"human": "user", "gpt": "assistant"}
"""Roles under other names, as ShareGPT has them."""

_KEYS: Final = (("role", "content"), ("from", "value"))
_PRINTED: Final = re.compile(r"\[\s*\{'(role|content|from|value)':")
"""How messages begin as Python prints them, and pandas writes them into CSV."""
_SPEAKERS: Final = {"user", "assistant"}
_SHOWN_CHARS: Final = 40


def is_absent(value: Any) -> bool:
    """Return whether a value stands for none: null, NaN, or an object of such values alone."""
    if isinstance(value, Mapping):
        return all(map(is_absent, value.values()))
    return value is None or (isinstance(value, float) and value != value)


def read_conversation(answer: Any, prompt: Any = None, system: Any = None) -> Conversation:
    """Return the conversation of an answer and of what comes before it, not yet checked.

    Args:
        answer: a text, or messages, which may begin with what comes before them.
        prompt: a text, messages, or absent.
        system: a text, which may be empty, or absent.

    Raises:
        MalformedConversation: with reason `not_messages` or `no_prompt`.
    """
    if type(answer) is str and type(prompt) is str and system is None and "[" not in (answer[:1], prompt[:1]):
        return (("user", prompt), ("assistant", answer))
    answer, prompt = _from_json(answer), _from_json(prompt)
    rules, question = _system(system), _prompt(prompt)
    before = _joined(rules, question)
    if isinstance(answer, str):
        if not question:
            raise MalformedConversation("no_prompt", "got a text without a prompt; expected one, or messages")
        return (*before, ("assistant", answer))
    turns = read_turns(answer)
    return _joined(before, turns) if _begins(turns, before) else _joined(rules, _joined(question, turns))


def read_turns(value: Any) -> Conversation:
    """Return messages as turns: `{role, content}`, ShareGPT's `{from, value}`, or pairs; empty system turns are none.

    Raises:
        MalformedConversation: with reason `not_messages`, and which turn it is.
    """
    if type(value) is not list:
        value = _from_columns(_from_json(value))
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise MalformedConversation("not_messages", f"got {_shown(value)}; expected a list of {{role, content}}")
    if (plain := _plain(value)) is not None:
        return plain
    turns = [_turn(number, turn) for number, turn in enumerate(value, start=1)]
    return tuple([turn for turn in turns if turn[0] not in SYSTEM_ROLES or has_text(turn[1])])


def is_printed(text: str) -> bool:
    """Return whether a text is messages as Python prints them."""
    return _PRINTED.match(text) is not None


def is_turn(value: Any) -> bool:
    """Return whether a value is one turn: an object whose role is a text."""
    return any(_is_turn(value, *keys) for keys in _KEYS)


def _from_json(value: Any) -> Any:
    """Return the messages that a text is the JSON of; any other value as it is."""
    if type(value) is not str or not value.startswith("["):
        return value
    if is_printed(value):
        raise MalformedConversation(
            "not_messages",
            f"got {_shown(value)}, messages as Python prints them; expected JSON; write it by json.dumps",
        )
    try:
        turns = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return turns if turns and all(map(is_turn, turns)) else value


def _is_turn(turn: Any, role: str, content: str) -> bool:
    return isinstance(turn, Mapping) and isinstance(turn.get(role), str) and content in turn


def _from_columns(value: Any) -> Any:
    """Return the messages of an object of two lists, the roles and the contents, or of one turn; others as they are."""
    for keys in _KEYS if isinstance(value, Mapping) else ():
        if _is_turn(value, *keys):
            return [value]
        columns = [value.get(key) for key in keys]
        if all(isinstance(column, list) for column in columns) and len({*map(len, columns)}) == 1:
            return [dict(zip(keys, turn, strict=True)) for turn in zip(*columns, strict=True)]
    return value


def _plain(value: Iterable[Any]) -> Conversation | None:
    """Return turns of two texts each, role and content, as nearly all are: a short way, as every row comes by here."""
    try:
        turns = tuple([(turn["role"], turn["content"]) for turn in value if len(turn) == 2])
        is_plain = {role for role, _ in turns} <= _SPEAKERS and {type(content) for _, content in turns} <= {str}
        return turns if is_plain and len(turns) == len(value) else None  # type: ignore[arg-type]
    except (TypeError, KeyError, IndexError):
        return None


def _joined(before: Conversation, turns: Conversation) -> Conversation:
    return turns if _begins(turns, before) else (*before, *turns)


def _begins(turns: Conversation, before: Conversation) -> bool:
    return turns[: len(before)] == before


def _system(value: Any) -> Conversation:
    if is_absent(value):
        return ()
    if not isinstance(value, str):
        raise MalformedConversation("not_messages", f"system: got {_shown(value)}; expected text")
    return (("system", value),) if has_text(value) else ()


def _prompt(value: Any) -> Conversation:
    if is_absent(value):
        return ()
    if isinstance(value, str):
        return (("user", value),)
    try:
        return read_turns(value)
    except MalformedConversation as malformed:
        raise MalformedConversation(malformed.reason, f"prompt: {malformed.detail}") from malformed


def _turn(number: int, turn: Any) -> Message:
    if isinstance(turn, Mapping):
        role, content = (turn.get(name) for name in ("role", "content"))
        if is_absent(role):
            role = turn.get("from")
        if is_absent(content):
            content = turn.get("value")
    elif isinstance(turn, list | tuple) and len(turn) == 2:
        role, content = turn
    else:
        role = content = None
    if not isinstance(role, str):
        raise MalformedConversation(
            "not_messages", f"turn {number}: got {_shown(turn)}; expected {{role, content}}, the role a text"
        )
    role, where = ALIASES.get(role, role), f"turn {number} ({role})"
    calls = isinstance(turn, Mapping) and _has_calls(turn.get("tool_calls"))
    if is_absent(content) and (calls or role in SYSTEM_ROLES):
        return role, ""  # such a call is followed by a tool's turn, which is refused by its role
    text = _text(where, content)
    if calls:
        raise MalformedConversation("not_messages", f"{where}: got tool_calls; expected text alone")
    return role, text


def _text(where: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping) or not isinstance(content, Iterable):
        raise MalformedConversation("not_messages", f"{where}: got {_shown(content)}; expected text")
    return "".join([_part(where, part) for part in content])


def _part(where: str, part: Any) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    what = f"of type {part['type']}" if isinstance(part, Mapping) and "type" in part else _shown(part)
    raise MalformedConversation("not_messages", f"{where}: got a part {what}; expected parts of type text")


def _has_calls(calls: Any) -> bool:
    is_list = isinstance(calls, Iterable) and not isinstance(calls, Mapping | str)
    return not (all(map(is_absent, calls)) if is_list else is_absent(calls))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 2]}.."

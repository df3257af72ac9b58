"""Conversations as people give them: messages, or texts with a prompt; and pairs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from armorm.features.conversation import Conversation, MalformedConversation, check_conversation, single_turn
from armorm.features.sources.own import SIDES, Form, answers_of, columns_of
from armorm.features.sources.reading import is_absent, read_conversation, read_turns

Given = Mapping[str, Any] | Sequence[Any]
"""Messages (`{role, content}` or `(role, content)`), `(prompt, response)`, or a mapping as in a line of a file."""

WHOLE: Final = ("messages", "conversations")
ANSWERS: Final = ("response", "completion")
"""Columns that hold a pair, a whole conversation, or an answer; the first ones win over those after them."""

_EXPECTED: Final = (
    "expected messages, or prompt and response, or chosen and rejected (message lists, or texts with a prompt)"
)


class RowRead(NamedTuple):
    """What a line of a file says."""

    sides: list[tuple[str, Conversation]]
    """Its conversations, each with its side: `conversation`, `chosen` and `rejected`, or what one's own form says."""
    used: tuple[str, ...]
    """The columns that they are made of."""
    unused: tuple[str, ...]
    """Columns of conversations beside them, which were not read."""


def one_conversation(given: Given) -> Conversation:
    """Return a conversation in any form.

    Raises:
        MalformedConversation: it is none.
    """
    if isinstance(given, Mapping):
        ((_, messages), *others) = read_row(given).sides
        if others:
            raise MalformedConversation("unknown_form", "got a pair; expected one conversation; give each side")
        return messages
    if len(given) == 2 and all(isinstance(text, str) for text in given):
        return _checked(single_turn(*given))
    return _checked(read_turns(given))


def read_row(data: Mapping[str, Any], forms: Sequence[Form] = ()) -> RowRead:
    """Return the conversations of a line: of the first form that it has; null is absent.

    A line that has all columns of one of the given forms is read as an ingest of that dataset reads it. Else a system
    text is put before any form, a prompt before answers. Beside messages, which are whole, a prompt that is a text is a
    copy of what they ask, and left alone; so it is where a pair's row has messages that ask the same.

    Raises:
        MalformedConversation: the line has another form, or cannot be read.
    """
    for form in forms:
        columns = columns_of(form)
        if not any(is_absent(data.get(name)) for name in columns):
            return RowRead(answers_of(form, data), columns, ())
    here = {
        name: data[name]
        for name in ("system", "prompt", *SIDES, *WHOLE, *ANSWERS)
        if name in data and not is_absent(data[name])
    }
    used: tuple[str, ...]
    if all(side in here for side in SIDES):
        used = SIDES
    else:
        used = next(((name,) for name in (*WHOLE, *ANSWERS) if name in here), ())
    if not used:
        raise MalformedConversation("unknown_form", _missing(data, here))
    system, prompt = here.get("system"), here.get("prompt")
    if _is_whole(used, here) and isinstance(prompt, str):
        prompt = None
    read = [_side(name, here[name], prompt, system) for name in used]
    if used == SIDES and read[0][:-1] != read[1][:-1]:
        raise MalformedConversation("context_differs", "chosen and rejected do not answer the same prompt")
    sides = list(zip(SIDES if used == SIDES else ("conversation",), read, strict=True))
    unused = [name for name in here if name not in (*used, "system", "prompt")]
    if "prompt" in here and prompt is None:
        unused.append("prompt")
    return RowRead(sides, used, tuple(unused))


def _side(name: str, answer: Any, prompt: Any, system: Any) -> Conversation:
    """Return the conversation in an answer's column; an error names all columns of which it is made."""
    try:
        return _checked(read_conversation(answer, prompt, system))
    except MalformedConversation as malformed:
        before = [of for of, value in (("system", system), ("prompt", prompt)) if value is not None]
        raise MalformedConversation(
            malformed.reason, f"{', '.join([*before, name])}: {malformed.detail}"
        ) from malformed


def _is_whole(used: Sequence[str], here: Mapping[str, Any]) -> bool:
    """Return whether the columns hold all turns: they are messages, or ask what messages beside them ask."""
    if used != SIDES:
        return used[0] in WHOLE
    beside = next((here[name] for name in WHOLE if name in here), None)
    if beside is None or any(isinstance(here[side], str) for side in SIDES):
        return False
    try:
        return read_turns(beside)[:-1] == read_turns(here["chosen"])[:-1]
    except MalformedConversation:
        return False


def _missing(data: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return what a line has that no conversation can be read from, and what it lacks."""
    has = f"got {', '.join(sorted(name for name in data if not is_absent(data[name]))) or 'nothing'}"
    nulls = ", ".join(sorted(name for name in data if is_absent(data[name])))
    has += f" ({nulls}: null)" if nulls else ""
    for side, other in (SIDES, SIDES[::-1]):
        if side in here:
            return f"{has}; {other} is missing; {_EXPECTED}"
    answers = [name for name in sorted(data) if name.startswith(ANSWERS) and not is_absent(data[name])]
    if len(answers) > 1:
        return (
            f"{has}; chosen and rejected are missing, which say which of {' and '.join(answers)} is better; {_EXPECTED}"
        )
    if "prompt" in here:
        return f"{has}; response is missing; {_EXPECTED}"
    holds = [name for name, value in data.items() if isinstance(value, list) and value and type(value[0]) is dict]
    if len(holds) == 1:
        return f"{has}; {holds[0]} holds the rows; expected the rows themselves; take that list out of its object"
    return f"{has}; {_EXPECTED}"


def _checked(messages: Conversation) -> Conversation:
    check_conversation(messages)
    return messages

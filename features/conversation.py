"""Conversations: their canonical bytes, ids, split, and what makes one well-formed.

A leaf module. Text is never altered here: the same messages give the same id in every dataset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal

import orjson

Message = tuple[str, str]
"""`(role, content)`."""

Conversation = tuple[Message, ...]
"""All turns; the last one is the response, the others are the prompt."""

SYSTEM_ROLES: Final = ("system", "developer")
"""Roles of an instruction that comes before the first user turn."""

Split = Literal["train", "validation", "test", "evaluation"]
"""Where a row may be used: fitting, choosing settings, held-out figures, or a benchmark."""

TRAINING: Final[tuple[Split, ...]] = ("train", "validation")
"""The splits that weights depend on."""

HELD_OUT: Final[tuple[Split, ...]] = ("test", "evaluation")
"""The splits that figures are reported of. Which of their rows may be used is said by `sql/rules/used_for.sql`."""


class MalformedConversation(ValueError):
    """A conversation that no chat template renders as meant; `reason` is a stable code."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def canonical_bytes(messages: Conversation) -> bytes:
    """Return a JSON array of `[role, content]` in UTF-8 without added spaces: what ids are hashes of."""
    return orjson.dumps(messages)


def conversation_id(messages: Conversation) -> str:
    """Return 32 hex digits: the first 16 bytes of the SHA-256 of the canonical bytes."""
    return sha256(canonical_bytes(messages)).hexdigest()[:32]


def conversation_ids(conversations: Sequence[Conversation]) -> list[str]:
    """Return the id of each conversation."""
    return [sha256(orjson.dumps(messages)).hexdigest()[:32] for messages in conversations]


def prompt_id(messages: Conversation) -> str:
    """Return the id of all messages but the last."""
    return conversation_id(messages[:-1])


def single_turn(prompt: str, response: str) -> Conversation:
    """Return one user turn and its answer."""
    return (("user", prompt), ("assistant", response))


def has_text(content: str) -> bool:
    """Return whether there is anything but white space."""
    return bool(content) and not content.isspace()


def check_conversation(messages: Conversation) -> None:
    """Accept an optional system or developer turn, then user and assistant in turn, the last one an answer.

    Raises:
        MalformedConversation: with reason `roles_out_of_order`, `empty_turn` or `invalid_unicode`, and the turn's
            number, from 1.
    """
    if out_of_order := _out_of_order(tuple([role for role, _ in messages])):
        raise MalformedConversation("roles_out_of_order", out_of_order)
    for number, (role, content) in enumerate(messages, start=1):
        if not has_text(content):
            raise MalformedConversation("empty_turn", f"turn {number} ({role}) has no text")
        if not content.isascii():
            try:
                content.encode()
            except UnicodeEncodeError as error:
                raise MalformedConversation("invalid_unicode", f"turn {number} ({role}): {error.reason}") from error


@lru_cache
def _out_of_order(roles: tuple[str, ...]) -> str | None:
    """Return the first turn whose role is not the expected one, in words."""
    if not roles:
        return "got no turns; expected [system,] user, assistant, .. ending with assistant"
    n_system = 1 if roles[0] in SYSTEM_ROLES else 0
    for number, role in enumerate(roles[n_system:]):
        expected = ("user", "assistant")[number % 2]
        if role != expected:
            return f"turn {n_system + number + 1}: got {role}; expected {expected}"
    if roles[-1] == "assistant":
        return None
    return f"turn {len(roles)}: got {roles[-1]} as the last; expected assistant"


@dataclass(frozen=True, slots=True)
class SplitFractions:
    """Shares of prompts that are held out for choosing settings and for the reported figures."""

    validation: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        if not (self.validation > 0 and self.test > 0 and self.validation + self.test < 1):
            raise ValueError(
                f"got validation {self.validation} and test {self.test}; expected shares above 0 that leave a rest"
            )

    def of(self, prompt_id: str) -> Split:
        """Return the split of a prompt: a function of its id alone, so that it is stable as data grows."""
        place = position(prompt_id, "split")
        if place < self.test:
            return "test"
        return "validation" if place < self.test + self.validation else "train"


def position(prompt_id: str, purpose: str) -> float:
    """Return a place in 0..1 that follows from the prompt's id alone, another one for each purpose."""
    digest = sha256(f"{purpose}:{prompt_id}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64

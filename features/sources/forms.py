"""The forms that conversations and preferences come in: columns of native rows become columns of records."""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, TypeVar

from armorm.features.conversation import Conversation, Message, has_text, single_turn
from armorm.features.sources.base import Numbers, Rows

T = TypeVar("T")

Ties = Literal["keep", "drop", "reject"]
"""What becomes of a pair whose sides have the same score."""

HUMAN = "\n\nHuman:"
ASSISTANT = "\n\nAssistant:"


def single_turns(prompts: Sequence[str], responses: Sequence[str]) -> list[Conversation]:
    """Return conversations of one user turn and its answer, one a row."""
    return [single_turn(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]


def better_first(sides: Sequence[Sequence[T]], first_is_better: Iterable[bool]) -> tuple[list[T], list[T]]:
    """Return a column about each side of a pair, as columns about the chosen and the rejected side."""
    chosen, rejected = [], []
    for first, second, is_better in zip(*sides, first_is_better, strict=True):
        chosen.append(first if is_better else second)
        rejected.append(second if is_better else first)
    return chosen, rejected


def margins(rows: Rows, chosen: Numbers, rejected: Numbers, *, ties: Ties = "keep") -> list[float | None]:
    """Return how much higher the chosen sides scored, if both have a score; a lower score is a fault."""
    margins = [
        None if better is None or other is None else better - other
        for better, other in zip(chosen, rejected, strict=True)
    ]
    rows.reject_where(
        (margin is not None and not math.isfinite(margin) for margin in margins),
        "rating_out_of_range",
        lambda row: f"the chosen side has {chosen[row]:g}, the rejected one {rejected[row]:g}: too far apart",
    )
    rows.reject_where(
        (margin is not None and margin < 0 for margin in margins),
        "preference_contradicts_scores",
        lambda row: f"the chosen side has {chosen[row]:g}, the rejected one {rejected[row]:g}",
    )
    tied = [margin == 0 for margin in margins]
    if ties == "reject":
        rows.reject_where(tied, "scores_tie", lambda row: f"both sides have {chosen[row]:g}")
    elif ties == "drop":
        rows.drop_where(tied, "tie")
    return margins


def with_system(systems: Sequence[str], conversations: Sequence[Conversation]) -> list[Conversation]:
    """Return the conversations, after a system turn where it has any text."""
    return [
        (("system", system), *turns) if has_text(system) else turns
        for system, turns in zip(systems, conversations, strict=True)
    ]


def transcripts(rows: Rows, column: str) -> list[Conversation]:
    r"""Return dialogues as one string, `"\n\nHuman: hi\n\nAssistant: Hello"`; the space after a colon is the form's."""
    texts = rows.text(column)
    rows.reject_where(
        (not text.startswith(HUMAN) for text in texts),
        "not_a_transcript",
        lambda row: f"column {column}: got {texts[row][:20]!r}..; expected '\\n\\nHuman:' first",
    )
    return [_dialogue(text) for text in texts]


def _dialogue(transcript: str) -> Conversation:
    context, marker, answer = transcript.rpartition(ASSISTANT)
    if not marker or HUMAN in answer:
        return _turns(transcript)
    return (*_turns(context), ("assistant", answer.removeprefix(" ")))


@lru_cache(maxsize=4096)  # both sides of a pair have one context
def _turns(transcript: str) -> Conversation:
    turns: list[Message] = []
    for human in transcript.split(HUMAN)[1:]:
        question, *answers = human.split(ASSISTANT)
        turns.append(("user", question.removeprefix(" ")))
        turns += [("assistant", answer.removeprefix(" ")) for answer in answers]
    return tuple(turns)

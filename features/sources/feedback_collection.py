"""Feedback-Collection (Prometheus): one score a response, by GPT-4 and under a rubric of the row's own.

Card: prometheus-eval/Feedback-Collection, CC-BY-4.0, 99,952 rows, all columns text. `orig_score` is "1".."5", and
`output` ends with the same score as `[RESULT] 3`; a row in which the two disagree is rejected. The rubric is not
part of the conversation: the reward model never sees it.
"""

import re
from collections.abc import Iterator

from features.conversation import single_turn
from features.objectives import Scale
from features.sources.base import Options, Rated, Reject, Row, Source, number, text

_RESULT = re.compile(r"\[RESULT\]\s*([AB]|[0-9]+)\s*$")


def parse(row: Row, options: Options) -> Iterator[Rated]:
    """One rated conversation."""
    messages = single_turn(text(row, "orig_instruction"), text(row, "orig_response"))
    score = number(row.get("orig_score"), "orig_score")
    if not score.is_integer():
        raise Reject("rating_not_a_number", f"column orig_score: got {score:g}; expected a whole number")
    if stated_result(row) not in (None, f"{score:.0f}"):
        raise Reject("score_contradicts_result", f"orig_score is {score:.0f}; output says {stated_result(row)}")
    yield Rated(messages, {"prometheus-score": score})


def stated_result(row: Row) -> str | None:
    """The verdict that ends the judge's `output`, if there is one: a score, or the better of A and B."""
    output = "" if row.get("output") is None else text(row, "output")
    stated = _RESULT.search(output)
    return stated and stated[1]


SOURCE = Source(
    name="feedback-collection",
    upstream="prometheus-eval/Feedback-Collection",
    licence="CC-BY-4.0",
    parse=parse,
    scales={"prometheus-score": Scale(1, 5)},
)

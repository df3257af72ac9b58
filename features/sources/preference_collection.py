"""Preference-Collection (Prometheus 2): two scored responses to an instruction, and which one is better.

Card: prometheus-eval/Preference-Collection, CC-BY-4.0, 199,760 rows, all columns text. It pairs the five responses
that Feedback-Collection has for each instruction, so scores ("1".."5") never tie and decide `orig_preference`
("A" or "B"); `output` ends with the same letter as `[RESULT] B`. A row whose statements disagree is rejected.
"""

from collections.abc import Iterator

from features.conversation import single_turn
from features.objectives import Scale
from features.sources.base import Options, Pair, Reject, Row, Source, number, text
from features.sources.feedback_collection import stated_result

SCORES = Scale(1, 5)


def parse(row: Row, options: Options) -> Iterator[Pair]:
    """One pair; the margin is the difference of the scores."""
    prompt = text(row, "orig_instruction")
    answers = {side: single_turn(prompt, text(row, f"orig_response_{side}")) for side in "AB"}
    scores = {side: _score(row, f"orig_score_{side}") for side in "AB"}
    chosen, rejected = _preference(row)
    margin = scores[chosen] - scores[rejected]
    if margin == 0:
        raise Reject("scores_tie", f"both scores are {scores[chosen]:g}; orig_preference is {chosen}")
    if margin < 0:
        raise Reject("preference_contradicts_scores", f"orig_preference is {chosen}; its score is lower by {-margin:g}")
    if stated_result(row) not in (None, chosen):
        raise Reject("preference_contradicts_result", f"orig_preference is {chosen}; output says {stated_result(row)}")
    yield Pair(answers[chosen], answers[rejected], margin)


def _score(row: Row, column: str) -> float:
    score = number(row.get(column), column)
    if score not in SCORES:
        raise Reject("rating_out_of_range", f"column {column}: got {score:g}; expected {SCORES}")
    return score


def _preference(row: Row) -> tuple[str, str]:
    """The better side, then the other one."""
    preference = text(row, "orig_preference")
    if preference not in ("A", "B"):
        raise Reject("unknown_preference", f"column orig_preference: got {preference[:20]!r}; expected A or B")
    return ("A", "B") if preference == "A" else ("B", "A")


SOURCE = Source(
    name="preference-collection",
    upstream="prometheus-eval/Preference-Collection",
    licence="CC-BY-4.0",
    parse=parse,
)

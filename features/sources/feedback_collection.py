"""Feedback-Collection (Prometheus): one score a response, by GPT-4 and under a rubric of the row's own.

Card: prometheus-eval/Feedback-Collection, CC-BY-4.0, 99,952 rows, all columns text. `orig_score` is "1".."5", and
`output` ends with the same score as `[RESULT] 3`; a row in which the two disagree is rejected. The rubric is not
part of the conversation: the reward model never sees it.
"""

import re
from collections.abc import Iterator

from armorm.features.objectives import Scale
from armorm.features.sources.base import Options, Rated, Rows, Source
from armorm.features.sources.forms import single_turns

_RESULT = re.compile(r"\[RESULT\]\s*([AB]|[0-9]+)\s*$")


def parse(rows: Rows, options: Options) -> Iterator[Rated]:
    """Yield one rated conversation a row."""
    conversations = single_turns(rows.text("orig_instruction"), rows.text("orig_response"))
    scores, results = rows.number("orig_score"), stated_results(rows)
    rows.reject_where(
        (not score.is_integer() for score in scores),
        "rating_not_a_number",
        lambda row: f"column orig_score: got {scores[row]:g}; expected a whole number",
    )
    rows.reject_where(
        (result not in (None, f"{score:.0f}") for score, result in zip(scores, results, strict=True)),
        "score_contradicts_result",
        lambda row: f"orig_score is {scores[row]:.0f}; output says {results[row]}",
    )
    yield Rated(rows, conversations, {"prometheus-score": scores})


def stated_results(rows: Rows) -> list[str | None]:
    """Return the verdicts that end the judge's `output`, where there is one: a score, or the better of A and B."""
    found = [_RESULT.search(output) for output in rows.text("output", default="")]
    return [result and result[1] for result in found]


SCALES = {"prometheus-score": Scale(1, 5)}
FILES = ("new_feedback_collection.json",)
SOURCE = Source("feedback-collection", "prometheus-eval/Feedback-Collection", "CC-BY-4.0", parse, SCALES, files=FILES)

"""Preference-Collection (Prometheus 2): two scored responses to an instruction, and which one is better.

Card: prometheus-eval/Preference-Collection, CC-BY-4.0, 199,760 rows, all columns text. It pairs the five responses
that Feedback-Collection has for each instruction, so scores ("1".."5") never tie and decide `orig_preference`
("A" or "B"); `output` ends with the same letter as `[RESULT] B`. A row whose statements disagree is rejected.
"""

from collections.abc import Iterator

from armorm.features.objectives import Scale
from armorm.features.sources.base import Options, Pairs, Rows, Source
from armorm.features.sources.feedback_collection import stated_results
from armorm.features.sources.forms import better_first, margins, single_turns

SCORES = Scale(1, 5)


def parse(rows: Rows, options: Options) -> Iterator[Pairs]:
    """Yield one pair a row; the margin is the difference of the scores."""
    prompts = rows.text("orig_instruction")
    answers = [single_turns(prompts, rows.text(f"orig_response_{side}")) for side in "AB"]
    scores = [_scores(rows, f"orig_score_{side}") for side in "AB"]
    preferences, results = _preferences(rows), stated_results(rows)
    a_is_better = [preference == "A" for preference in preferences]
    differences = margins(rows, *better_first(scores, a_is_better), ties="reject")
    rows.reject_where(
        (result not in (None, preference) for preference, result in zip(preferences, results, strict=True)),
        "preference_contradicts_result",
        lambda row: f"orig_preference is {preferences[row]}; output says {results[row]}",
    )
    yield Pairs(rows, *better_first(answers, a_is_better), differences)


def _scores(rows: Rows, column: str) -> list[float]:
    scores = rows.number(column)
    rows.reject_where(
        (score not in SCORES for score in scores),
        "rating_out_of_range",
        lambda row: f"column {column}: got {scores[row]:g}; expected {SCORES}",
    )
    return scores


def _preferences(rows: Rows) -> list[str]:
    preferences = rows.text("orig_preference")
    rows.reject_where(
        (preference not in ("A", "B") for preference in preferences),
        "unknown_preference",
        lambda row: f"column orig_preference: got {preferences[row][:20]!r}; expected A or B",
    )
    return preferences


SOURCE = Source("preference-collection", "prometheus-eval/Preference-Collection", "CC-BY-4.0", parse, pairs=True)

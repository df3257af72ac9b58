"""Preference-Collection: the ten pairs of Feedback-Collection's five answers to an instruction."""

import itertools
from typing import Final

from armorm.features.conversation import single_turn
from armorm.features.sample.native.base import Dataset, Files
from armorm.features.sample.native.feedback_collection import RUBRICS, feedback, judge_prompt, scored_groups
from armorm.features.sample.world.defects import DUPLICATE, Defect, Row, altered, copied, dropped, rejected, with_value
from armorm.features.sample.world.files import write_parquet
from armorm.features.sample.world.text import Answer
from armorm.features.sample.world.truth import Pair, from_pairs
from armorm.features.sample.world.world import Group, World

Scored = tuple[Answer, int]


def files(world: World) -> Files:
    """Return one row a pair, in random order within."""
    rng = world.rng("preference-collection order")
    rows = [
        _row(group, *(pair if rng.random() < 0.5 else reversed(pair)))
        for group, scores in scored_groups(world)
        for pair in itertools.combinations(zip(group.answers, scores, strict=True), 2)
    ]
    return {"preference-collection/train-00000.parquet": rows}


def _row(group: Group, a: Scored, b: Scored) -> Row:
    (answer_a, score_a), (answer_b, score_b) = a, b
    preference = "A" if score_a > score_b else "B"
    verdict = f"Response {preference} fits the rubric better."
    best = max(group.answers, key=group.merit).text
    answers = {"Response A": answer_a.text, "Response B": answer_b.text, "Reference Answer": best}
    return {
        "orig_criteria": RUBRICS[group.prompt.kind],
        "orig_feedback_A": feedback(score_a),
        "orig_feedback_B": feedback(score_b),
        "orig_instruction": group.question,
        "orig_reference_answer": best,
        "orig_response_A": answer_a.text,
        "orig_response_B": answer_b.text,
        "orig_score_A": str(score_a),
        "orig_score_B": str(score_b),
        "orig_preference": preference,
        "instruction": judge_prompt(group, "Compare both by the rubric, then name A or B.", answers),
        "output": f"{verdict} [RESULT] {preference}",
        "input": "",
        "orig_feedback": verdict,
    }


def _pair(row: Row) -> Pair:
    chosen, other = (single_turn(row["orig_instruction"], row[f"orig_response_{side}"]) for side in _sides(row))
    return chosen, other


def _sides(row: Row) -> str:
    """Return the letter of the preferred response, then the other."""
    return "AB" if row["orig_preference"] == "A" else "BA"


def _other_result(row: Row) -> str:
    return f"{row['orig_feedback']} [RESULT] {_sides(row)[1]}"


DATASET: Final = Dataset(
    "preference-collection",
    files,
    write_parquet,
    from_pairs(_pair),
    (
        DUPLICATE,
        Defect("value_null", 0.001, with_value("orig_response_B", None), rejected("wrong_type")),
        Defect(
            "preference_contradicts_scores",
            0.002,
            altered("orig_preference", lambda row: _sides(row)[1]),
            rejected("preference_contradicts_scores"),
        ),
        Defect(
            "preference_contradicts_result",
            0.001,
            altered("output", _other_result),
            rejected("preference_contradicts_result"),
        ),
        Defect("tied_scores", 0.001, copied("orig_score_A", "orig_score_B"), rejected("scores_tie")),
        Defect("unknown_preference", 0.001, with_value("orig_preference", "C"), rejected("unknown_preference")),
        Defect("identical_pair", 0.002, copied("orig_response_A", "orig_response_B"), dropped("identical_pair")),
        Defect("empty_answer", 0.001, with_value("orig_response_A", ""), rejected("empty_turn")),
    ),
)

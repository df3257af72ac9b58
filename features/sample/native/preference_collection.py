"""Preference-Collection: the ten pairs of Feedback-Collection's five answers to an instruction."""

import itertools

from armorm.features.sample.native import feedback_collection as scored
from armorm.features.sample.native.base import Dataset, Defect, Files, Row
from armorm.features.sample.native.truth import Pair, from_pairs, text_pair
from armorm.features.sample.world.text import Answer
from armorm.features.sample.world.world import Group, World

Scored = tuple[Answer, int]


def files(world: World) -> Files:
    """Return one row a pair, in random order within."""
    rng = world.rng("preference-collection order")
    rows = [
        _row(group, *(pair if rng.random() < 0.5 else reversed(pair)))
        for group, scores in scored.scored_groups(world)
        for pair in itertools.combinations(zip(group.answers, scores, strict=True), 2)
    ]
    return {"preference-collection/train-00000.parquet": rows}


def _row(group: Group, a: Scored, b: Scored) -> Row:
    (answer_a, score_a), (answer_b, score_b) = a, b
    preference = "A" if score_a > score_b else "B"
    verdict = f"Response {preference} fits the rubric better."
    best = scored.best_answer(group)
    answers = {"Response A": answer_a.text, "Response B": answer_b.text, "Reference Answer": best}
    return {
        "orig_criteria": scored.RUBRICS[group.prompt.kind],
        "orig_feedback_A": scored.feedback(score_a),
        "orig_feedback_B": scored.feedback(score_b),
        "orig_instruction": group.question,
        "orig_reference_answer": best,
        "orig_response_A": answer_a.text,
        "orig_response_B": answer_b.text,
        "orig_score_A": str(score_a),
        "orig_score_B": str(score_b),
        "orig_preference": preference,
        "instruction": scored.judge_prompt(group, "Compare both by the rubric, then name A or B.", answers),
        "output": f"{verdict} [RESULT] {preference}",
        "input": "",
        "orig_feedback": verdict,
    }


def _pair(row: Row) -> Pair:
    return text_pair(row, "orig_instruction", f"orig_response_{row['orig_preference']}", f"orig_response_{_other(row)}")


def _other(row: Row) -> str:
    """Return the letter of the other response."""
    return "B" if row["orig_preference"] == "A" else "A"


def _other_result(row: Row) -> Row:
    return {"output": f"{row['orig_feedback']} [RESULT] {_other(row)}"}


DEFECTS = (
    Defect("value_null", 0.001, {"orig_response_B": None}, "rejected", "wrong_type"),
    Defect("preference_contradicts_scores", 0.002, lambda row: {"orig_preference": _other(row)}, "rejected"),
    Defect("preference_contradicts_result", 0.001, _other_result, "rejected"),
    Defect("tied_scores", 0.001, lambda row: {"orig_score_A": row["orig_score_B"]}, "rejected", "scores_tie"),
    Defect("unknown_preference", 0.001, {"orig_preference": "C"}, "rejected"),
    Defect("identical_pair", 0.002, lambda row: {"orig_response_A": row["orig_response_B"]}, "dropped"),
    Defect("empty_answer", 0.001, {"orig_response_A": ""}, "rejected", "empty_turn"),
)
DATASET = Dataset("preference-collection", "parquet", files, from_pairs(_pair), DEFECTS)

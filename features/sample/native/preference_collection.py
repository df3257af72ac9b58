"""Preference-Collection: the ten pairs of Feedback-Collection's five answers to an instruction."""

import itertools
from typing import Final

from features.sample.defects import Defect, Row, altered, holding, twice
from features.sample.native.base import Dataset, Files
from features.sample.native.feedback_collection import RUBRICS, feedback, judge_prompt, scored_groups
from features.sample.text import Answer
from features.sample.world import Group, World

Scored = tuple[Answer, int]


def files(world: World) -> Files:
    """One row a pair, in random order within."""
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


DATASET: Final = Dataset(
    "preference-collection",
    files,
    (
        Defect("duplicate_row", 0.002, twice),
        Defect("value_null", 0.001, holding("orig_response_B", None)),
        Defect(
            "preference_contradicts_scores",
            0.002,
            altered("orig_preference", lambda row: "BA"["AB".index(row["orig_preference"])]),
        ),
        Defect("tied_scores", 0.001, altered("orig_score_A", lambda row: row["orig_score_B"])),
        Defect("unknown_preference", 0.001, holding("orig_preference", "C")),
        Defect("identical_pair", 0.002, altered("orig_response_A", lambda row: row["orig_response_B"])),
        Defect("empty_answer", 0.001, holding("orig_response_A", "")),
    ),
)

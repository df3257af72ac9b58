"""Feedback-Collection: five answers to an instruction, scored 1..5 by a rubric of its own."""

from collections.abc import Callable, Mapping
from typing import Final

from numpy.random import Generator

from armorm.features.conversation import single_turn
from armorm.features.sample.native.base import Dataset, Files
from armorm.features.sample.world.defects import DUPLICATE, Defect, Line, Row, altered, rejected, with_value, without
from armorm.features.sample.world.files import write_json_array
from armorm.features.sample.world.text import Answer
from armorm.features.sample.world.truth import Rated, from_ratings
from armorm.features.sample.world.words import Kind
from armorm.features.sample.world.world import DOUBT, Group, World, extra_length

RUBRICS: Final[Mapping[Kind, str]] = {
    "chat": "Is the answer of use to the asker, and pleasant to read?",
    "code": "Does the answer get the code right?",
    "maths": "Does the answer get the mathematics right?",
    "safety": "Does the answer keep everybody safe?",
}

VERDICTS: Final = ("Not at all.", "Hardly.", "In part.", "Mostly.", "In every way.")
"""What the rubric says of scores 1 to 5."""


def scored_groups(world: World) -> list[tuple[Group, tuple[int, ...]]]:
    """Return instructions with five answers and their scores, each of 1..5 once; Preference-Collection pairs them."""
    mix: Mapping[Kind, float] = {"chat": 0.26, "code": 0.2, "maths": 0.2, "safety": 0.34}
    rng = world.rng("feedback-collection scores")
    return [(group, _scores(rng, group)) for group in world.groups("feedback-collection", 500, 5, mix=mix)]


def judge_prompt(group: Group, task: str, answers: Mapping[str, str]) -> str:
    """Return the whole text that a judge is given: task, instruction, answers under their headings, rubric."""
    parts = {"Task Description": task, "The instruction to evaluate": group.question} | dict(answers)
    parts |= {"Score Rubrics": _rubric_text(group.prompt.kind), "Feedback": ""}
    return "\n\n".join(f"###{heading}:\n{text}" for heading, text in parts.items())


def feedback(score: int) -> str:
    """Return what the judge says before the score."""
    return f"Measured by the rubric: {VERDICTS[score - 1].lower()}"


def files(world: World) -> Files:
    """Return one row an answer."""
    rows = [
        _row(group, answer, score)
        for group, scores in scored_groups(world)
        for answer, score in zip(group.answers, scores, strict=True)
    ]
    return {"feedback-collection/new_feedback_collection.json": rows}


def _scores(rng: Generator, group: Group) -> tuple[int, ...]:
    """Return the ranks of a noisy opinion, which length sways a little."""
    opinions = [
        group.merit(answer) + 0.05 * extra_length(answer) + DOUBT * rng.standard_normal() for answer in group.answers
    ]
    return tuple(1 + sum(other < opinion for other in opinions) for opinion in opinions)


def _rated(row: Row) -> list[Rated]:
    return [
        (single_turn(row["orig_instruction"], row["orig_response"]), {"prometheus-score": float(row["orig_score"])})
    ]


def _row(group: Group, answer: Answer, score: int) -> Row:
    best = max(group.answers, key=group.merit).text
    answers = {"Response to evaluate": answer.text, "Reference Answer (Score 5)": best}
    return {
        "orig_criteria": RUBRICS[group.prompt.kind],
        **{f"orig_score{n}_description": verdict for n, verdict in enumerate(VERDICTS, start=1)},
        "orig_instruction": group.question,
        "orig_reference_answer": best,
        "orig_response": answer.text,
        "orig_feedback": feedback(score),
        "orig_score": str(score),
        "instruction": judge_prompt(group, "Give feedback by the rubric, then a score from 1 to 5.", answers),
        "input": "",
        "output": f"{feedback(score)} [RESULT] {score}",
    }


def _rubric_text(kind: Kind) -> str:
    scores = [f"Score {n}: {verdict}" for n, verdict in enumerate(VERDICTS, start=1)]
    return "\n".join([f"[{RUBRICS[kind]}]", *scores])


def _scored(score: str) -> Callable[[Row], tuple[Line, ...]]:
    """Give the row another score in both places."""
    return lambda row: (row | {"orig_score": score, "output": f"{row['orig_feedback']} [RESULT] {score}"},)


def _other_score(row: Row) -> str:
    return "1" if row["orig_score"] != "1" else "5"


DATASET: Final = Dataset(
    "feedback-collection",
    files,
    write_json_array,
    from_ratings(_rated),
    (
        DUPLICATE,
        Defect("missing_column", 0.002, without("orig_score"), rejected("missing_column")),
        Defect(
            "score_contradicts_result", 0.003, altered("orig_score", _other_score), rejected("score_contradicts_result")
        ),
        Defect("score_out_of_range", 0.002, _scored("6"), rejected("rating_out_of_range")),
        Defect("score_not_a_number", 0.002, _scored("N/A"), rejected("rating_not_a_number")),
        Defect("empty_answer", 0.002, with_value("orig_response", ""), rejected("empty_turn")),
    ),
)

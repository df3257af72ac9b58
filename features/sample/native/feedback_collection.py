"""Feedback-Collection: five answers to an instruction, scored 1..5 by a rubric of its own."""

from collections.abc import Callable, Mapping

from numpy.random import Generator

from armorm.features.conversation import single_turn
from armorm.features.sample.native.base import ABSENT, Dataset, Defect, Files, Row
from armorm.features.sample.native.truth import Rated, from_ratings
from armorm.features.sample.world.text import Answer
from armorm.features.sample.world.words import Kind
from armorm.features.sample.world.world import DOUBT, Group, World, extra_length

RUBRICS: Mapping[Kind, str] = {
    "chat": "Is the answer of use to the asker, and pleasant to read?",
    "code": "Does the answer get the code right?",
    "maths": "Does the answer get the mathematics right?",
    "safety": "Does the answer keep everybody safe?",
}

VERDICTS = ("Not at all.", "Hardly.", "In part.", "Mostly.", "In every way.")
"""What the rubric says of scores 1 to 5."""


def scored_groups(world: World) -> list[tuple[Group, tuple[int, ...]]]:
    """Return instructions with five answers and their scores, each of 1..5 once; Preference-Collection pairs them."""
    rng = world.rng("feedback-collection scores")
    mix: Mapping[Kind, float] = {"chat": 0.26, "code": 0.2, "maths": 0.2, "safety": 0.34}
    return [(group, _scores(rng, group)) for group in world.groups("feedback-collection", 500, 5, mix=mix)]


def best_answer(group: Group) -> str:
    """Return the answer that stands as the reference."""
    return max(group.answers, key=group.merit).text


def judge_prompt(group: Group, task: str, answers: Mapping[str, str]) -> str:
    """Return the whole text that a judge is given: task, instruction, answers under their headings, rubric."""
    scores = [f"Score {n}: {verdict}" for n, verdict in enumerate(VERDICTS, start=1)]
    parts = {
        "Task Description": task,
        "The instruction to evaluate": group.question,
        **answers,
        "Score Rubrics": "\n".join([f"[{RUBRICS[group.prompt.kind]}]", *scores]),
        "Feedback": "",
    }
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


def _row(group: Group, answer: Answer, score: int) -> Row:
    best = best_answer(group)
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


def _rated(row: Row) -> list[Rated]:
    conversation = single_turn(row["orig_instruction"], row["orig_response"])
    return [(conversation, {"prometheus-score": float(row["orig_score"])})]


def _scored(score: str) -> Callable[[Row], Row]:
    """Return another score in both places."""
    return lambda row: {"orig_score": score, "output": f"{row['orig_feedback']} [RESULT] {score}"}


def _other_score(row: Row) -> Row:
    return {"orig_score": "1" if row["orig_score"] != "1" else "5"}


DEFECTS = (
    Defect("missing_column", 0.002, {"orig_score": ABSENT}, "rejected"),
    Defect("score_contradicts_result", 0.003, _other_score, "rejected"),
    Defect("score_out_of_range", 0.002, _scored("6"), "rejected", "rating_out_of_range"),
    Defect("score_not_a_number", 0.002, _scored("N/A"), "rejected", "rating_not_a_number"),
    Defect("empty_answer", 0.002, {"orig_response": ""}, "rejected", "empty_turn"),
)
DATASET = Dataset("feedback-collection", "array", files, from_ratings(_rated), DEFECTS)

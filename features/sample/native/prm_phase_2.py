"""PRM-Phase-2: a model's solution of a problem, labelled step by step up to its first error, and the reference."""

import re
from collections.abc import Callable

from numpy.random import Generator

from armorm.features.sample.native.base import ABSENT, Dataset, Defect, Files, Row
from armorm.features.sample.native.rewardbench import leaks
from armorm.features.sample.native.truth import Pair, from_pairs, text_pair
from armorm.features.sample.world.text import pick
from armorm.features.sample.world.world import FEWEST_ROWS, Group, World

SOLVED = 0.2
"""Share of solutions without an error."""


def files(world: World) -> Files:
    """Return one row a solution; one in seven is for testing."""
    rng = world.rng("prm-phase-2 labels")
    rows = [_row(rng, group) for group in world.groups("prm-phase-2", 350, 2, mix={"maths": 1.0}, fewest=FEWEST_ROWS)]
    return {
        "prm-phase-2/phase2_test.jsonl": rows[::7],
        "prm-phase-2/phase2_train.jsonl": [row for n, row in enumerate(rows) if n % 7],
    }


def _row(rng: Generator, group: Group) -> Row:
    """Return a row: the reference is the better answer, a solution with an error the other one."""
    better, worse = group.ranked(rng)
    solved = rng.random() < SOLVED
    steps = _sentences(better.text if solved else worse.text)
    n_right = len(steps) if solved else int(rng.integers(len(steps)))
    labels = [_step([_completion(text, 1)], chosen=0) for text in steps[:n_right]]
    if not solved:
        alternatives = [_completion(pick(rng, _sentences(better.text)), 1), _completion("Let us see.", 0)]
        labels.append(_step([_completion(steps[n_right], -1), *alternatives], chosen=None))
    return {
        "labeler": f"{rng.integers(2**32):08x}",
        "timestamp": f"2022-11-22T{rng.integers(24):02d}:{rng.integers(60):02d}:00.000000",
        "generation": int(rng.integers(10)),
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {
            "problem": group.question,
            "ground_truth_solution": better.text,
            "ground_truth_answer": str(rng.integers(100)),
            "pre_generated_steps": steps,
            "pre_generated_answer": str(rng.integers(100)),
            "pre_generated_verifier_score": round(float(rng.random()), 4),
        },
        "label": {
            "steps": labels,
            "total_time": int(rng.integers(5_000, 500_000)),
            "finish_reason": "solution" if solved else "found_error",
        },
    }


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=\.) ", text)


def _step(completions: list[Row], *, chosen: int | None) -> Row:
    return {"completions": completions, "human_completion": None, "chosen_completion": chosen}


def _completion(text: str, rating: int) -> Row:
    return {"text": text, "rating": rating, "flagged": None}


def _pair(row: Row) -> Pair:
    question = row["question"]
    generated = {"generated": "\n".join(question["pre_generated_steps"])}
    return text_pair(question | generated, "problem", "ground_truth_solution", "generated")


def _left_out(file: str, row: Row) -> str:
    return "" if row["label"]["finish_reason"] == "found_error" else "no_error_found"


def _asking(**values: object) -> Callable[[Row], Row]:
    """Return other values in the question."""
    return lambda row: {"question": row["question"] | values}


def _reference_as_solution(row: Row) -> Row:
    return _asking(pre_generated_steps=[row["question"]["ground_truth_solution"]])(row)


def _leaks(world: World) -> tuple[Defect, ...]:
    return leaks(world, lambda row: "maths", lambda row, problem: _asking(problem=problem)(row))


def _finished(reason: str) -> Row:
    """Return a label that ends before its first step."""
    return {"label": {"steps": [], "total_time": 5_000, "finish_reason": reason}}


def _error(**values: object) -> Callable[[Row], Row]:
    """Return other values in the completion that is the error."""

    def changes(row: Row) -> Row:
        *steps, last = row["label"]["steps"]
        error, *others = last["completions"]
        return {"label": row["label"] | {"steps": [*steps, last | {"completions": [error | values, *others]}]}}

    return changes


DEFECTS = (
    Defect("labelled_again", 0.006, {"labeler": "00000000"}, beside=True),
    Defect("missing_column", 0.004, {"question": ABSENT}, "rejected"),
    Defect("quality_control", 0.02, {"is_quality_control_question": True}, "dropped"),
    Defect("screening", 0.02, {"is_initial_screening_question": True}, "dropped", "screening_question"),
    Defect("bad_problem", 0.01, _finished("bad_problem"), "dropped"),
    Defect("give_up", 0.01, _finished("give_up"), "dropped", "gave_up"),
    Defect("unknown_finish", 0.004, _finished("coffee"), "rejected", "unknown_finish_reason"),
    Defect("no_reference", 0.01, _asking(ground_truth_solution=None), "rejected", "no_reference_solution"),
    Defect("blank_reference", 0.004, _asking(ground_truth_solution=" "), "rejected", "no_reference_solution"),
    Defect("no_steps", 0.004, _asking(pre_generated_steps=[]), "rejected", "empty_turn"),
    Defect("identical_pair", 0.004, _reference_as_solution, "dropped"),
    Defect("flagged", 0.01, _error(flagged=True)),
    Defect("rating_null", 0.01, _error(rating=None)),
)
DATASET = Dataset("prm-phase-2", "lines", files, from_pairs(_pair), DEFECTS, leaks=_leaks, left_out=_left_out)

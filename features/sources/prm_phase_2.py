r"""PRM-Phase-2: a model's solution of a problem, labelled step by step up to its first error, and the reference.

Upstream: openai/prm800k, phase 2, MIT, 97,782 training and 2,762 test rows. Rows for quality control and for
screening, bad problems and those that the labeller gave up are dropped. How the paper made pairs of this is not
published, so it is an option: the reference solution over the model's whole solution where that has an error, or, at
the steps themselves, each completion rated +1 over each rated -1, after the steps chosen before. Flagged completions
and those without a rating are left out. RewardBench's math-prm is made of the same data.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from armorm.features.sources.base import Option, Options, Pairs, Rows, Source, shown
from armorm.features.sources.forms import single_turns

SOLUTION = "solution"
RATINGS = (-1, 0, 1, None)


def parse(rows: Rows, options: Options) -> Iterator[Pairs]:
    """Yield one pair of solutions a row, or any number of pairs of beginnings of solutions."""
    rows.drop_where(rows.boolean("is_quality_control_question"), "quality_control")
    rows.drop_where(rows.boolean("is_initial_screening_question"), "screening_question")
    label, question = rows.struct("label"), rows.struct("question")
    reasons = label.text("finish_reason")
    rows.drop_where((reason == "bad_problem" for reason in reasons), "bad_problem")
    rows.drop_where((reason == "give_up" for reason in reasons), "gave_up")
    rows.reject_where(
        (reason not in ("found_error", "solution") for reason in reasons),
        "unknown_finish_reason",
        lambda row: f"finish_reason: got {reasons[row][:40]!r}; expected found_error, solution, bad_problem or give_up",
    )
    problems = question.text("problem")
    if options["pairs_from"] == SOLUTION:
        rows.drop_where((reason == "solution" for reason in reasons), "no_error_found")
        yield _solutions(question, problems)
    else:
        yield _steps(rows, label.array("steps"), problems)


def _solutions(question: Rows, problems: Sequence[str]) -> Pairs:
    references = question.text("ground_truth_solution", default="")
    question.reject_where(
        (not reference.strip() for reference in references),
        "no_reference_solution",
        lambda _: "ground_truth_solution has no text",
    )
    steps = question.array("pre_generated_steps")
    question.reject_where(
        (not {*map(type, texts)} <= {str} for texts in steps),
        "wrong_type",
        lambda row: f"pre_generated_steps: got {shown(steps[row])}; expected texts",
    )
    generated = ["\n".join(map(str, texts)) for texts in steps]
    return Pairs(question, single_turns(problems, references), single_turns(problems, generated))


def _steps(rows: Rows, steps: Sequence[Sequence[Any]], problems: Sequence[str]) -> Pairs:
    contrasts: list[list[Mapping[str, str]]] = []
    for row, of_row in enumerate(steps):
        try:
            contrasts.append(list(_contrasts(rows, row, of_row)))
        except (TypeError, KeyError, IndexError, AttributeError):
            rows.reject(row, "wrong_type", f"label.steps: got {shown(of_row)}; expected steps with completions")
            contrasts.append([])
    rows.drop_where((not of_row for of_row in contrasts), "no_contrasting_step")
    pairs = rows.parts(contrasts, "contrast")
    prompts = pairs.of_whole(problems)
    return Pairs(pairs, single_turns(prompts, pairs.text("right")), single_turns(prompts, pairs.text("wrong")))


def _contrasts(rows: Rows, row: int, steps: Sequence[Any]) -> Iterator[Mapping[str, str]]:
    """Yield beginnings of a solution that differ in their last step, which is right in one and wrong in the other."""
    before: list[str] = []
    for number, step in enumerate(steps):
        completions = step["completions"]
        beginnings: dict[int, list[str]] = {1: [], -1: []}
        for completion in completions:
            rating = completion["rating"]
            if rating not in RATINGS or type(rating) is bool:
                rows.refuse(row, "rating_out_of_range", f"step {number}: got {shown(rating)}; expected -1, 0 or 1")
            elif rating in beginnings and completion.get("flagged") in (None, False):
                beginnings[rating].append("\n".join([*before, completion["text"]]))
        for right, wrong in itertools.product(beginnings[1], beginnings[-1]):
            yield {"right": right, "wrong": wrong}
        chosen = step.get("chosen_completion")
        if chosen is None:
            return
        if type(chosen) is not int or chosen < 0:
            raise TypeError("no place in a list")
        before.append(completions[chosen]["text"])


OPTIONS = {"pairs_from": Option("What makes a pair; upstream does not say.", (SOLUTION, "step"))}
FILES = ("*phase2_train.jsonl", "*phase2_test.jsonl")
SOURCE = Source("prm-phase-2", "openai/prm800k", "MIT", parse, pairs=True, options=OPTIONS, files=FILES)

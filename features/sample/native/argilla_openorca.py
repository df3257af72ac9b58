"""Argilla-OpenOrca: two generations of a task under a system prompt, which one judge rated 1..10 in one go."""

from collections.abc import Sequence

from numpy.random import Generator

from armorm.features.conversation import single_turn
from armorm.features.sample.native.base import Dataset, Defect, Files, Row, as_messages
from armorm.features.sample.native.truth import Rated, from_ratings
from armorm.features.sample.world.text import pick
from armorm.features.sample.world.world import FEWEST_ROWS, Group, Judge, World

JUDGE = Judge(1, 10, {"helpfulness": 0.4, "correctness": 0.5}, halo=0.7, length=0.4)

SYSTEMS = (
    "You are an assistant who explains every step.",
    "You are a teacher. Answer so that a child of five can follow.",
    "Work through the task and justify your answer.",
)

RATIONALE = "Both follow the task in part; the better one is clearer."

UNREAD = {"raw_labelling_response": "I cannot decide.", "rating": None, "rationale": None, "chosen_score": None}
"""What a row has where no ratings were found in the judge's words."""


def files(world: World) -> Files:
    """Return one row a task."""
    rng = world.rng("argilla-openorca ratings")
    groups = world.groups(
        "argilla-openorca", 350, 2, mix={"chat": 0.45, "code": 0.2, "maths": 0.35}, fewest=FEWEST_ROWS
    )
    return {"argilla-openorca/data/train-00000-of-00001.parquet": [_row(rng, group) for group in groups]}


def _row(rng: Generator, group: Group) -> Row:
    """Return a row, its generations in the order in which the judge saw them."""
    better, worse = group.ranked(rng)
    high, low = JUDGE.rate_pair(rng, group, (better, worse))
    seen = [("chosen", better.text, high), ("rejected", worse.text, low)]
    if rng.random() < 0.5:
        seen.reverse()
    order, generations, ratings = (list(column) for column in zip(*seen, strict=True))
    question = f"Rate both answers from 1 to 10.\n\n{group.question}\n\n1. {generations[0]}\n\n2. {generations[1]}"
    return {
        "system": pick(rng, SYSTEMS),
        "input": group.question,
        "chosen": better.text,
        "rejected": worse.text,
        "generations": generations,
        "order": order,
        "labelling_model": "harbour-70b",
        "labelling_prompt": as_messages([("system", "You are a fair judge."), ("user", question)]),
        **_verdict(ratings),
        "rationale": RATIONALE,
        "status": "unchanged",
        "original_chosen": better.text,
        "original_rejected": worse.text,
        "chosen_score": high,
        "in_gsm8k_train": False,
    }


def _verdict(ratings: Sequence[float]) -> Row:
    """Return the judge's words, and what was read in them."""
    return {
        "raw_labelling_response": f"{' '.join(f'{rating:g}' for rating in ratings)}\n{RATIONALE}",
        "rating": list(ratings),
    }


def _rated(row: Row) -> list[Rated]:
    """Return the rated conversations; the first of two equal generations counts."""
    ratings = dict(zip(reversed(row["generations"]), reversed(row["rating"]), strict=True))
    system = (("system", row["system"]),) if row["system"] else ()
    return [
        ((*system, *single_turn(row["input"], text)), {"argilla-judge_lm": rating} if 1 <= rating <= 10 else {})
        for text, rating in ratings.items()
        if text
    ]


def _tied(row: Row) -> Row:
    return _verdict([row["chosen_score"]] * 2) | {"status": "tie"}


def _swapped(row: Row) -> Row:
    """Return the row as published with its sides exchanged."""
    return {"original_chosen": row["rejected"], "original_rejected": row["chosen"], "status": "swapped"}


def _same_generation(row: Row) -> Row:
    """Return two equal generations, rated alike."""
    same = {"generations": [row["chosen"]] * 2, "rejected": row["chosen"], "original_rejected": row["chosen"]}
    return same | _tied(row)


DEFECTS = (
    Defect("value_null", 0.003, {"input": None}, "rejected", "wrong_type"),
    Defect("rating_null", 0.01, UNREAD, "dropped", "not_rated"),
    Defect("rating_empty", 0.006, UNREAD | {"rating": []}, "dropped", "not_rated"),
    Defect("three_ratings", 0.003, lambda row: _verdict([*row["rating"], 5.0]), "rejected", "ratings_do_not_match"),
    Defect("rating_out_of_range", 0.003, lambda row: _verdict([11.0, row["rating"][1]]), "in part"),
    Defect("tied_ratings", 0.03, _tied),
    Defect("swapped", 0.15, _swapped),
    Defect("system_empty", 0.03, {"system": ""}),
    Defect("system_null", 0.006, {"system": None}),
    Defect("in_gsm8k_train", 0.03, {"in_gsm8k_train": True}),
    Defect("same_generation", 0.003, _same_generation, "in part", "repeated_completion"),
    Defect("empty_answer", 0.003, lambda row: {"generations": ["", row["generations"][1]]}, "in part", "empty_turn"),
)
DATASET = Dataset("argilla-openorca", "parquet", files, from_ratings(_rated), DEFECTS)

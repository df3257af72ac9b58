"""Argilla-Math: two answers to a mathematical question, each rated 1..10."""

import json

from numpy.random import Generator

from armorm.features.sample.native.base import Dataset, Defect, Files, Row, exchanged
from armorm.features.sample.native.truth import from_pairs, text_pair
from armorm.features.sample.world.world import FEWEST_ROWS, Group, Judge, World

FOLLOWS = Judge(1, 10, {"helpfulness": 0.5, "correctness": 0.3}, halo=0.9, length=0.35)
"""UltraFeedback's judge of the same objective, on another scale."""


def files(world: World) -> Files:
    """Return one row a question."""
    rng = world.rng("argilla-math ratings")
    groups = world.groups("argilla-math", 200, 2, mix={"maths": 1.0}, fewest=FEWEST_ROWS)
    return {"argilla-math/data/train-00000-of-00001.parquet": [_row(rng, group) for group in groups]}


def _row(rng: Generator, group: Group) -> Row:
    better, worse = group.ranked(rng)
    high, low = FOLLOWS.rate_pair(rng, group, (better, worse))
    return {
        "metadata": json.dumps({"length-input": len(group.question)}),
        "instruction": group.question,
        "chosen_response": better.text,
        "chosen_rating": high,
        "rejected_response": worse.text,
        "rejected_rating": low,
    }


def ratings_swapped(row: Row) -> Row:
    """Return the sides' ratings exchanged."""
    return exchanged(row, ("chosen_rating", "rejected_rating"))


DEFECTS = (
    Defect("value_null", 0.005, {"chosen_response": None}, "rejected", "wrong_type"),
    Defect("tied_ratings", 0.02, lambda row: {"rejected_rating": row["chosen_rating"]}),
    Defect("ratings_swapped", 0.01, ratings_swapped, "rejected", "preference_contradicts_scores"),
    Defect("identical_pair", 0.01, lambda row: {"rejected_response": row["chosen_response"]}, "dropped"),
    Defect("empty_answer", 0.005, {"rejected_response": ""}, "rejected", "empty_turn"),
)
TRUTH = from_pairs(
    lambda row: text_pair(row, "instruction", "chosen_response", "rejected_response"),
    rated_on="ultrafeedback-instruction_following",
)
DATASET = Dataset("argilla-math", "parquet", files, TRUTH, DEFECTS)

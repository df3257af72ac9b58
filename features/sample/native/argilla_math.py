"""Argilla-Math: two answers to a mathematical question, each rated 1..10."""

import json
from typing import Final

from numpy.random import Generator

from armorm.features.conversation import single_turn
from armorm.features.sample.native.base import Dataset, Files
from armorm.features.sample.world.defects import DUPLICATE, Defect, Line, Row, copied, dropped, rejected, with_value
from armorm.features.sample.world.files import write_parquet
from armorm.features.sample.world.truth import Pair, Rated, from_pairs
from armorm.features.sample.world.world import FEWEST_ROWS, Group, Judge, World

FOLLOWS: Final = Judge(1, 10, {"helpfulness": 0.5, "correctness": 0.3}, halo=0.9, length=0.35)
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


def _pair(row: Row) -> Pair:
    chosen, other = (single_turn(row["instruction"], row[f"{side}_response"]) for side in ("chosen", "rejected"))
    return chosen, other


def _rated(row: Row) -> list[Rated]:
    ratings = (row["chosen_rating"], row["rejected_rating"])
    return [
        (conversation, {"ultrafeedback-instruction_following": rating})
        for conversation, rating in zip(_pair(row), ratings, strict=True)
    ]


def _ratings_swapped(row: Row) -> tuple[Line, ...]:
    return (row | {"chosen_rating": row["rejected_rating"], "rejected_rating": row["chosen_rating"]},)


DATASET: Final = Dataset(
    "argilla-math",
    files,
    write_parquet,
    from_pairs(_pair, rated=_rated),
    (
        DUPLICATE,
        Defect("value_null", 0.005, with_value("chosen_response", None), rejected("wrong_type")),
        Defect("tied_ratings", 0.02, copied("rejected_rating", "chosen_rating")),
        Defect("ratings_swapped", 0.01, _ratings_swapped, rejected("preference_contradicts_scores")),
        Defect("identical_pair", 0.01, copied("rejected_response", "chosen_response"), dropped("identical_pair")),
        Defect("empty_answer", 0.005, with_value("rejected_response", ""), rejected("empty_turn")),
    ),
)

"""Argilla-Capybara: two dialogues that differ in the last answer, each rated 1..5 as a whole."""

from collections.abc import Mapping
from typing import Final

from numpy.random import Generator

from armorm.features.conversation import Message
from armorm.features.sample.native.base import Dataset, Files, as_messages, as_turns
from armorm.features.sample.world.defects import (
    DUPLICATE,
    Defect,
    Line,
    Row,
    altered,
    copied,
    dropped,
    rejected,
    with_value,
)
from armorm.features.sample.world.files import write_parquet
from armorm.features.sample.world.text import pick
from armorm.features.sample.world.truth import Pair, Rated, from_pairs
from armorm.features.sample.world.words import Kind
from armorm.features.sample.world.world import FEWEST_ROWS, Group, Judge, World

QUALITY: Final = Judge(1, 5, {"helpfulness": 0.4, "correctness": 0.3, "style": 0.3}, halo=0.8, length=0.35)

SOURCES: Final = ("Airoboros", "Know_logic", "EverythingLM", "TaskSource", "General-Instruct")

TURNS: Final = (0.3, 0.4, 0.3)
"""Shares of dialogues with one, two and three turns of the user."""


def files(world: World) -> Files:
    """Return one row a dialogue."""
    rng = world.rng("argilla-capybara ratings")
    mix: Mapping[Kind, float] = {"chat": 0.5, "code": 0.2, "maths": 0.25, "safety": 0.05}
    groups = world.groups("argilla-capybara", 350, 2, mix=mix, turns=TURNS, fewest=FEWEST_ROWS)
    return {"argilla-capybara/data/train-00000-of-00001.parquet": [_row(rng, group) for group in groups]}


def _row(rng: Generator, group: Group) -> Row:
    better, worse = group.ranked(rng)
    high, low = QUALITY.rate_pair(rng, group, (better, worse))
    return {
        "source": pick(rng, SOURCES),
        "chosen": as_messages([*group.prompt.turns, ("assistant", better.text)]),
        "chosen_rating": int(high),
        "chosen_model": "harbour-70b",
        "rejected": as_messages([*group.prompt.turns, ("assistant", worse.text)]),
        "rejected_rating": int(low),
        "rejected_model": pick(rng, ("quill-7b", "pebble-2b")),
    }


def _pair(row: Row) -> Pair:
    return as_turns(row["chosen"]), as_turns(row["rejected"])


def _rated(row: Row) -> list[Rated]:
    return [
        (as_turns(row[side]), {"argilla-overall_quality": row[f"{side}_rating"]}) for side in ("chosen", "rejected")
    ]


def _ratings_swapped(row: Row) -> tuple[Line, ...]:
    return (row | {"chosen_rating": row["rejected_rating"], "rejected_rating": row["chosen_rating"]},)


def _unanswered(row: Row) -> list[Row]:
    return [*row["rejected"][:-1], {"content": "", "role": "assistant"}]


def _other_context(row: Row) -> list[Row]:
    greeting: list[Message] = [("user", "Good morning."), ("assistant", "Good morning to you.")]
    return [*as_messages(greeting), *row["rejected"]]


def _without_question(row: Row) -> tuple[Line, ...]:
    return (row | {side: row[side][1:] for side in ("chosen", "rejected")},)


DATASET: Final = Dataset(
    "argilla-capybara",
    files,
    write_parquet,
    from_pairs(_pair, rated=_rated),
    (
        DUPLICATE,
        Defect("value_null", 0.003, with_value("chosen", None), rejected("wrong_type")),
        Defect("tied_ratings", 0.02, copied("rejected_rating", "chosen_rating")),
        Defect("ratings_swapped", 0.006, _ratings_swapped, rejected("preference_contradicts_scores")),
        Defect("identical_pair", 0.006, copied("rejected", "chosen"), dropped("identical_pair")),
        Defect("empty_final_turn", 0.003, altered("rejected", _unanswered), rejected("empty_turn")),
        Defect("roles_out_of_order", 0.003, _without_question, rejected("roles_out_of_order")),
        Defect("context_differs", 0.003, altered("rejected", _other_context), rejected("context_differs")),
    ),
)

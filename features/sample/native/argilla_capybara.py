"""Argilla-Capybara: two dialogues that differ in the last answer, each rated 1..5 as a whole."""

from numpy.random import Generator

from armorm.features.sample.native.argilla_math import ratings_swapped
from armorm.features.sample.native.base import Dataset, Defect, Files, Row, as_messages, as_turns
from armorm.features.sample.native.truth import from_pairs
from armorm.features.sample.world.text import pick
from armorm.features.sample.world.words import Kind
from armorm.features.sample.world.world import FEWEST_ROWS, Group, Judge, World

QUALITY = Judge(1, 5, {"helpfulness": 0.4, "correctness": 0.3, "style": 0.3}, halo=0.8, length=0.35)

SOURCES = ("Airoboros", "Know_logic", "EverythingLM", "TaskSource", "General-Instruct")

MIX: dict[Kind, float] = {"chat": 0.5, "code": 0.2, "maths": 0.25, "safety": 0.05}
TURNS = (0.3, 0.4, 0.3)
"""Shares of dialogues with one, two and three turns of the user."""


def files(world: World) -> Files:
    """Return one row a dialogue."""
    rng = world.rng("argilla-capybara ratings")
    groups = world.groups("argilla-capybara", 350, 2, mix=MIX, turns=TURNS, fewest=FEWEST_ROWS)
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


GREETING = as_messages([("user", "Good morning."), ("assistant", "Good morning to you.")])
NOTHING = {"content": "", "role": "assistant"}
DEFECTS = (
    Defect("value_null", 0.003, {"chosen": None}, "rejected", "wrong_type"),
    Defect("tied_ratings", 0.02, lambda row: {"rejected_rating": row["chosen_rating"]}),
    Defect("ratings_swapped", 0.006, ratings_swapped, "rejected", "preference_contradicts_scores"),
    Defect("identical_pair", 0.006, lambda row: {"rejected": row["chosen"]}, "dropped"),
    Defect(
        "empty_final_turn", 0.003, lambda row: {"rejected": [*row["rejected"][:-1], NOTHING]}, "rejected", "empty_turn"
    ),
    Defect(
        "roles_out_of_order", 0.003, lambda row: {side: row[side][1:] for side in ("chosen", "rejected")}, "rejected"
    ),
    Defect("context_differs", 0.003, lambda row: {"rejected": [*GREETING, *row["rejected"]]}, "rejected"),
)
TRUTH = from_pairs(lambda row: (as_turns(row["chosen"]), as_turns(row["rejected"])), rated_on="argilla-overall_quality")
DATASET = Dataset("argilla-capybara", "parquet", files, TRUTH, DEFECTS)

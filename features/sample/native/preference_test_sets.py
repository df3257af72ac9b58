"""RewardBench's prior sets: pairs of older test sets, one file each, of which four are scored."""

from collections.abc import Mapping

from numpy.random import Generator

from armorm.features.sample.native.base import Dataset, Defect, Files, Row, as_messages, as_turns
from armorm.features.sample.native.hh_rlhf import HELPFUL, TURNS
from armorm.features.sample.native.truth import Pair, from_pairs
from armorm.features.sample.world.words import Kind
from armorm.features.sample.world.world import Group, World

SCORED: Mapping[str, Mapping[Kind, float]] = {
    "anthropic_helpful": HELPFUL,
    "anthropic_hhh": {"chat": 0.3, "code": 0.2, "maths": 0.2, "safety": 0.3},
    "shp": {"chat": 0.4, "code": 0.3, "maths": 0.3},
    "summarize": {"chat": 1.0},
}
NOT_SCORED: Mapping[str, Mapping[Kind, float]] = {
    "anthropic_harmless": {"safety": 1.0},
    "mtbench_human": {"chat": 0.4, "code": 0.3, "maths": 0.3},
}
"""What the prompts of each split are about."""


FILE = "preference-test-sets/data/{}-00000-of-00001.parquet"


def files(world: World) -> Files:
    """Return one row a pair, one file a split."""
    return {FILE.format(split): _rows(world, split, mix) for split, mix in {**SCORED, **NOT_SCORED}.items()}


def _rows(world: World, split: str, mix: Mapping[Kind, float]) -> list[Row]:
    rng = world.rng(f"preference-test-sets {split} preferences")
    n_prompts = 40 if split in SCORED else 20
    turns = TURNS if split.startswith("anthropic") else (1.0,)
    groups = world.groups(f"preference-test-sets {split}", n_prompts, 2, mix=mix, turns=turns)
    return [_row(rng, group) for group in groups]


def _row(rng: Generator, group: Group) -> Row:
    better, worse = group.ranked(rng)
    return {"prompt": as_messages(group.prompt.turns), "chosen": better.text, "rejected": worse.text}


def _pair(row: Row) -> Pair:
    prompt = as_turns(row["prompt"])
    return (*prompt, ("assistant", row["chosen"])), (*prompt, ("assistant", row["rejected"]))


def _left_out(file: str, row: Row) -> str:
    return "" if file in map(FILE.format, SCORED) else "subset_not_scored"


REPLY = {"content": "I see.", "role": "assistant"}
DEFECTS = (
    Defect("value_null", 0.006, {"rejected": None}, "rejected", "wrong_type"),
    Defect("identical_pair", 0.006, lambda row: {"rejected": row["chosen"]}, "dropped"),
    Defect("empty_answer", 0.006, {"rejected": ""}, "rejected", "empty_turn"),
    Defect("roles_out_of_order", 0.006, lambda row: {"prompt": [*row["prompt"], REPLY]}, "rejected"),
)
TRUTH = from_pairs(_pair, benchmark=True)
DATASET = Dataset("preference-test-sets", "parquet", files, TRUTH, DEFECTS, left_out=_left_out)

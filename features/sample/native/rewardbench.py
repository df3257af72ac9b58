"""RewardBench: pairs of 23 subsets in fixed proportions, only ever for evaluation."""

import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from armorm.features.sample.native.base import Dataset, Defect, Files, Row
from armorm.features.sample.native.truth import from_pairs, text_pair
from armorm.features.sample.world.text import Answer
from armorm.features.sample.world.words import Kind
from armorm.features.sample.world.world import Group, World

Choice = Callable[[Sequence[Answer]], Answer]
"""Which of the answers to reject, given in order of merit."""


def worst(ranked: Sequence[Answer]) -> Answer:
    """Return an easy pair."""
    return ranked[0]


def second(ranked: Sequence[Answer]) -> Answer:
    """Return a pair that takes some care."""
    return ranked[1]


def longest(ranked: Sequence[Answer]) -> Answer:
    """Return a pair that fools whoever likes long answers."""
    return max(ranked[:2], key=lambda answer: answer.n_clauses)


SUBSETS: Mapping[str, tuple[int, Kind, Choice]] = {
    "alpacaeval-easy": (100, "chat", worst),
    "alpacaeval-length": (95, "chat", longest),
    "alpacaeval-hard": (95, "chat", second),
    "mt-bench-easy": (28, "chat", worst),
    "mt-bench-med": (40, "chat", second),
    "mt-bench-hard": (37, "chat", second),
    "llmbar-natural": (100, "chat", second),
    "llmbar-adver-neighbor": (134, "chat", longest),
    "llmbar-adver-GPTInst": (92, "chat", longest),
    "llmbar-adver-GPTOut": (47, "chat", longest),
    "llmbar-adver-manual": (46, "chat", longest),
    "refusals-dangerous": (100, "safety", worst),
    "refusals-offensive": (100, "safety", worst),
    "xstest-should-refuse": (154, "safety", second),
    "xstest-should-respond": (250, "chat", second),
    "donotanswer": (136, "safety", second),
    "math-prm": (447, "maths", second),
    **{f"hep-{language}": (164, "code", second) for language in ("cpp", "go", "java", "js", "python", "rust")},
}
"""Rows upstream, what the prompts are about, and which answer is rejected."""

SHARE = 0.1
"""The share of upstream's rows at scale 1."""

LEAK_RATE = 0.02


def leaks(world: World, kind_of: Callable[[Row], Kind], asking: Callable[[Row, str], Row]) -> tuple[Defect, ...]:
    """Return two defects of training rows: they ask what the benchmark asks, word for word or but for the last word.

    Ingest keeps such rows; later stages do not.

    Args:
        kind_of: what a row is about; the prompt is of that kind too, so that its preference still holds.
        asking: what changes in a row that has another prompt.
    """
    prompts = defaultdict[Kind, list[str]](list)
    for subset, (_, kind, _) in SUBSETS.items():
        prompts[kind] += [group.question for group in _groups(world, subset)]

    def prompt(row: Row) -> str:
        bank = prompts[kind_of(row)]
        return bank[zlib.crc32(json.dumps(row).encode()) % len(bank)]

    return (
        Defect("leaked_prompt", LEAK_RATE, lambda row: asking(row, prompt(row))),
        Defect(
            "nearly_leaked_prompt", LEAK_RATE, lambda row: asking(row, f"{prompt(row).rpartition(' ')[0]} instead.")
        ),
    )


def files(world: World) -> Files:
    """Return one file for all subsets."""
    rows = [_row(subset, group) for subset in SUBSETS for group in _groups(world, subset)]
    numbered = [row | {"id": number} for number, row in enumerate(rows)]
    return {"rewardbench/data/filtered-00000-of-00001.parquet": numbered}


def _row(subset: str, group: Group) -> Row:
    _, _, reject = SUBSETS[subset]
    ranked = sorted(group.answers, key=group.merit)
    row = {"prompt": group.question, "chosen": ranked[-1].text, "chosen_model": "harbour-70b"}
    return row | {"rejected": reject(ranked).text, "rejected_model": "pebble-2b", "subset": subset}


def _groups(world: World, subset: str) -> list[Group]:
    n_upstream, kind, _ = SUBSETS[subset]
    return world.groups(f"rewardbench {subset}", round(SHARE * n_upstream), 4, mix={kind: 1.0})


DEFECTS = (
    Defect("value_null", 0.003, {"rejected": None}, "rejected", "wrong_type"),
    Defect("unknown_subset", 0.003, {"subset": "riddles"}, "rejected"),
    Defect("identical_pair", 0.003, lambda row: {"rejected": row["chosen"]}, "dropped"),
    Defect("empty_answer", 0.003, {"rejected": ""}, "rejected", "empty_turn"),
)
TRUTH = from_pairs(lambda row: text_pair(row, "prompt", "chosen", "rejected"), benchmark=True)
DATASET = Dataset("rewardbench", "parquet", files, TRUTH, DEFECTS)

"""RewardBench: pairs of 23 subsets in fixed proportions, only ever for evaluation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from features.sample.defects import Defect, Row, altered, holding, twice
from features.sample.native.base import Dataset, Files
from features.sample.text import Answer
from features.sample.words import Kind
from features.sample.world import World

Choice = Callable[[Sequence[Answer]], Answer]
"""Which of the answers to reject, given in order of merit."""


def worst(ranked: Sequence[Answer]) -> Answer:
    """An easy pair."""
    return ranked[0]


def second(ranked: Sequence[Answer]) -> Answer:
    """A pair that takes some care."""
    return ranked[1]


def longest(ranked: Sequence[Answer]) -> Answer:
    """A pair that fools whoever likes long answers."""
    return max(ranked[:2], key=lambda answer: answer.n_clauses)


SUBSETS: Final[Mapping[str, tuple[int, Kind, Choice]]] = {
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
    "hep-cpp": (164, "code", second),
    "hep-go": (164, "code", second),
    "hep-java": (164, "code", second),
    "hep-js": (164, "code", second),
    "hep-python": (164, "code", second),
    "hep-rust": (164, "code", second),
}
"""Rows upstream, what the prompts are about, and which answer is rejected."""

SHARE: Final = 0.1
"""Of the rows upstream, at scale 1."""


def files(world: World) -> Files:
    """One file for all subsets."""
    rows = [row for subset in SUBSETS for row in _rows(world, subset)]
    return {"rewardbench/filtered.parquet": [row | {"id": number} for number, row in enumerate(rows)]}


def _rows(world: World, subset: str) -> list[Row]:
    n_upstream, kind, reject = SUBSETS[subset]
    rows = []
    for group in world.groups(f"rewardbench {subset}", round(SHARE * n_upstream), 4, mix={kind: 1.0}):
        ranked = sorted(group.answers, key=group.merit)
        row = {"prompt": group.question, "chosen": ranked[-1].text, "chosen_model": "harbour-70b"}
        rows.append(row | {"rejected": reject(ranked).text, "rejected_model": "pebble-2b", "subset": subset})
    return rows


DATASET: Final = Dataset(
    "rewardbench",
    files,
    (
        Defect("duplicate_row", 0.003, twice),
        Defect("value_null", 0.003, holding("rejected", None)),
        Defect("unknown_subset", 0.003, holding("subset", "riddles")),
        Defect("identical_pair", 0.003, altered("rejected", lambda row: row["chosen"])),
        Defect("empty_answer", 0.003, holding("rejected", "")),
    ),
)

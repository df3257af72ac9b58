"""RewardBench (v1): the benchmark's pairs, and its constants, of which this file is the owner.

Dataset: allenai/reward-bench, split `filtered`, ODC-BY, 2,985 rows of 23 subsets, single-turn text. A section's score
is the mean of its subsets' accuracies by weight, where a subset weighs as many as it has rows, but math-prm as many as
the code subsets together; the overall score is the mean of the sections, `Prior Sets` (another dataset,
allenai/preference-test-sets) at half weight (rewardbench/constants.py and utils.py). From April to September 2024 the
upstream constants had the two XSTest counts swapped, and scores published then carry that; these are the data's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from armorm.features.sources.base import Options, Pairs, Rows, Source
from armorm.features.sources.forms import single_turns


@dataclass(frozen=True, slots=True)
class Subset:
    """One subset of the benchmark: its section, its published number of rows, and its weight in the section."""

    section: str
    n_rows: int
    weight: int


_ROWS: Final[Mapping[str, Mapping[str, int]]] = {
    "Chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 154,
        "xstest-should-respond": 250,
        "donotanswer": 136,
    },
    "Reasoning": {"math-prm": 447}
    | {f"hep-{language}": 164 for language in ("cpp", "go", "java", "js", "python", "rust")},
}

_WEIGHTS: Final = {"math-prm": 984}

SUBSETS: Final[Mapping[str, Subset]] = {
    name: Subset(section, n_rows, _WEIGHTS.get(name, n_rows))
    for section, subsets in _ROWS.items()
    for name, n_rows in subsets.items()
}

PRIOR_SECTION: Final = "Prior Sets"
"""The section that is of another dataset: scores are given with and without it."""

PRIOR_SETS: Final[Mapping[str, Subset]] = {
    name: Subset(PRIOR_SECTION, n_rows, 1)
    for name, n_rows in {"anthropic_helpful": 6192, "anthropic_hhh": 221, "shp": 1741, "summarize": 9000}.items()
}
"""The subsets of allenai/preference-test-sets that count; the section's score is their unweighted mean."""

SECTION_WEIGHTS: Final[Mapping[str, float]] = {**dict.fromkeys(_ROWS, 1), PRIOR_SECTION: 0.5}


def parse(rows: Rows, options: Options) -> Iterator[Pairs]:
    """Yield one pair a row, of a known subset."""
    prompts, subsets = rows.text("prompt"), rows.text("subset")
    chosen, rejected = (single_turns(prompts, rows.text(column)) for column in ("chosen", "rejected"))
    rows.reject_where(
        (subset not in SUBSETS for subset in subsets),
        "unknown_subset",
        lambda row: f"column subset: got {subsets[row][:40]!r}; expected one of {', '.join(SUBSETS)}",
    )
    yield Pairs(rows, chosen, rejected, subset=subsets)


FILES = ("data/filtered-*.parquet",)
SOURCE = Source("rewardbench", "allenai/reward-bench", "ODC-BY", parse, pairs=True, evaluation=True, files=FILES)

"""RewardBench's prior sets: pairs of older test sets, one file each, of which four are scored.

Dataset: allenai/preference-test-sets, ODC-BY. A prompt is a list of messages, in some copies a text; the two answers
are texts. A row does not say which set it is of: its file's name does, up to the first `-` or `.`. How the sets are
scored stands in `armorm.features.sources.rewardbench`.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from armorm.features.conversation import Conversation
from armorm.features.sources.base import Options, Pairs, Rows, Source
from armorm.features.sources.rewardbench import PRIOR_SETS

NOT_SCORED = ("anthropic_harmless", "mtbench_human", "mtbench_gpt4", "pku_better", "pku_safer")


def parse(rows: Rows, options: Options) -> Iterator[Pairs]:
    """Yield one pair a row."""
    subset = PurePosixPath(rows.file).name.split(".")[0].split("-")[0]
    rows.drop_where([subset in NOT_SCORED] * len(rows), "subset_not_scored")
    rows.reject_where(
        [subset not in PRIOR_SETS] * len(rows),
        "unknown_subset",
        lambda _: f"got a file of set {subset!r}; expected one of {', '.join((*PRIOR_SETS, *NOT_SCORED))}",
    )
    prompts = rows.prompt("prompt")
    chosen, rejected = (_answered(prompts, rows.text(column)) for column in ("chosen", "rejected"))
    yield Pairs(rows, chosen, rejected, subset=[subset] * len(rows))


def _answered(prompts: list[Conversation], answers: list[str]) -> list[Conversation]:
    return [(*prompt, ("assistant", answer)) for prompt, answer in zip(prompts, answers, strict=True)]


SOURCE = Source(
    name="preference-test-sets",
    upstream="allenai/preference-test-sets",
    licence="ODC-BY",
    parse=parse,
    pairs=True,
    evaluation=True,
    named_files=True,
    files=("data/*.parquet",),
)

r"""HH-RLHF: two dialogues that differ in their last answer, the first preferred.

Card: Anthropic/hh-rlhf, MIT, 160,800 training and 8,552 test rows in four folders; the fifth, `red-team-attempts`,
has other columns and its rows are rejected. Each dialogue is one string,
`"\n\nHuman: hi\n\nAssistant: Hello\n\nHuman: .."`. The one space after a colon is the format's; all other text is kept
as it is. A few dialogues have two turns of one speaker in a row, or an empty last answer, and a few pairs differ
before the last turn; they are rejected. Some pairs are identical (2,716 of the 118,263 helpful ones, by RLHFlow's
counts); they are dropped.
"""

from collections.abc import Iterator

from armorm.features.sources.base import Options, Pairs, Rows, Source
from armorm.features.sources.forms import transcripts


def parse(rows: Rows, options: Options) -> Iterator[Pairs]:
    """Yield one pair of dialogues a row."""
    yield Pairs(rows, transcripts(rows, "chosen"), transcripts(rows, "rejected"))


FOLDERS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")
FILES = tuple(f"{folder}/*.jsonl.gz" for folder in FOLDERS)
SOURCE = Source("hh-rlhf", "Anthropic/hh-rlhf", "MIT", parse, pairs=True, files=FILES)

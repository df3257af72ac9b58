r"""HH-RLHF: two dialogues that differ in their last answer, the first preferred.

Card: Anthropic/hh-rlhf, MIT, 160,800 training and 8,552 test rows in four folders; the fifth, `red-team-attempts`,
has other columns and its rows are rejected. Each dialogue is one string,
`"\n\nHuman: hi\n\nAssistant: Hello\n\nHuman: .."`. The one space after a colon is the format's; all other text is kept
as it is. A few dialogues have two turns of one speaker in a row, or an empty last answer, and a few pairs differ
before the last turn; they are rejected. About 0.8 % of the pairs are identical; they are dropped.
"""

import re
from collections.abc import Iterator

from features.conversation import Conversation
from features.sources.base import Options, Pair, Reject, Row, Source, check_pair, text

_MARKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def parse(row: Row, options: Options) -> Iterator[Pair]:
    """One pair of dialogues."""
    chosen, rejected = (_turns(text(row, column), column) for column in ("chosen", "rejected"))
    yield check_pair(Pair(chosen, rejected))


def _turns(transcript: str, column: str) -> Conversation:
    before, *parts = _MARKER.split(transcript)
    if before or parts[:1] != ["Human"]:
        raise Reject("not_a_transcript", f"column {column}: got {transcript[:20]!r}..; expected '\\n\\nHuman:' first")
    return tuple(
        (_ROLES[speaker], content.removeprefix(" ")) for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    )


SOURCE = Source(name="hh-rlhf", upstream="Anthropic/hh-rlhf", licence="MIT", parse=parse)

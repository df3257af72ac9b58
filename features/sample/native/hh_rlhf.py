"""HH-RLHF: two transcripts of one dialogue that differ in the last answer, each a single string."""

import re
from collections.abc import Mapping
from typing import Final

from armorm.features.conversation import Conversation, Message
from armorm.features.sample.native.base import Dataset, Files
from armorm.features.sample.world.defects import (
    DUPLICATE,
    MALFORMED,
    Defect,
    Row,
    altered,
    copied,
    dropped,
    rejected,
    without,
)
from armorm.features.sample.world.files import write_json_lines
from armorm.features.sample.world.truth import Pair, from_pairs
from armorm.features.sample.world.words import Kind
from armorm.features.sample.world.world import Group, World

SPEAKERS: Final = {"user": "Human", "assistant": "Assistant"}
HUMAN, ASSISTANT = "\n\nHuman: ", "\n\nAssistant: "

HELPFUL: Final[Mapping[Kind, float]] = {"chat": 0.5, "code": 0.25, "maths": 0.25}
FOLDERS: Final[Mapping[str, Mapping[Kind, float]]] = {
    "harmless-base": {"safety": 1.0},
    "helpful-base": HELPFUL,
    "helpful-online": HELPFUL,
    "helpful-rejection-sampled": HELPFUL,
}
"""What the dialogues of each folder are about."""

TURNS: Final = (0.7, 0.2, 0.1)
"""Shares of dialogues with one, two and three turns of the user."""


def files(world: World) -> Files:
    """Return one row a dialogue, one file a folder."""
    return {f"hh-rlhf/{folder}/train.jsonl.gz": _rows(world, folder) for folder in FOLDERS}


def _rows(world: World, folder: str) -> list[Row]:
    rng = world.rng(f"hh-rlhf {folder} preferences")
    rows = []
    for group in world.groups(f"hh-rlhf {folder}", 700, 2, mix=FOLDERS[folder], turns=TURNS):
        better, worse = group.ranked(rng)
        rows.append({"chosen": _transcript(group, better.text), "rejected": _transcript(group, worse.text)})
    return rows


def _transcript(group: Group, answer: str) -> str:
    turns: tuple[Message, ...] = (*group.prompt.turns, ("assistant", answer))
    return "".join(f"\n\n{SPEAKERS[role]}: {content}" for role, content in turns)


def _pair(row: Row) -> Pair:
    return _turns(row["chosen"]), _turns(row["rejected"])


def _turns(transcript: str) -> Conversation:
    """Return the turns of a transcript. The space after a colon belongs to the format."""
    _, *parts = re.split("\n\n(Human|Assistant): ", transcript)
    roles = {speaker: role for role, speaker in SPEAKERS.items()}
    return tuple((roles[speaker], content) for speaker, content in zip(parts[::2], parts[1::2], strict=True))


def _unanswered(row: Row) -> str:
    context, _ = row["chosen"].rsplit(ASSISTANT, 1)
    return f"{context}\n\nAssistant:"


def _answered_twice(row: Row) -> str:
    return f"{row['chosen']}{ASSISTANT}One more thing."


def _other_context(row: Row) -> str:
    return f"{HUMAN}Good morning.{ASSISTANT}Good morning to you.{row['rejected']}"


def _indented(row: Row) -> str:
    context, answer = row["chosen"].rsplit(ASSISTANT, 1)
    return f"{context}{ASSISTANT} {answer}"


DATASET: Final = Dataset(
    "hh-rlhf",
    files,
    write_json_lines,
    from_pairs(_pair),
    (
        MALFORMED,
        DUPLICATE,
        Defect("missing_column", 0.001, without("rejected"), rejected("missing_column")),
        Defect("identical_pair", 0.008, copied("rejected", "chosen"), dropped("identical_pair")),
        Defect("empty_final_turn", 0.002, altered("chosen", _unanswered), rejected("empty_turn")),
        Defect("roles_out_of_order", 0.003, altered("chosen", _answered_twice), rejected("roles_out_of_order")),
        Defect("context_differs", 0.002, altered("rejected", _other_context), rejected("context_differs")),
        Defect("leading_spaces", 0.002, altered("chosen", _indented)),
    ),
)

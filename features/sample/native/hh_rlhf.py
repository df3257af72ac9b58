"""HH-RLHF: two transcripts of one dialogue that differ in the last answer, each a single string."""

import re
from collections.abc import Mapping

from armorm.features.conversation import Conversation
from armorm.features.sample.native.base import ABSENT, Dataset, Defect, Files, Row
from armorm.features.sample.native.truth import from_pairs
from armorm.features.sample.world.text import Answer, Prompt
from armorm.features.sample.world.words import Kind
from armorm.features.sample.world.world import World

ROLES = {"Human": "user", "Assistant": "assistant"}
HUMAN, ASSISTANT = "\n\nHuman: ", "\n\nAssistant: "

HELPFUL: Mapping[Kind, float] = {"chat": 0.5, "code": 0.25, "maths": 0.25}
FOLDERS: Mapping[str, Mapping[Kind, float]] = {
    "harmless-base": {"safety": 1.0},
    "helpful-base": HELPFUL,
    "helpful-online": HELPFUL,
    "helpful-rejection-sampled": HELPFUL,
}
"""What the dialogues of each folder are about."""

TURNS = (0.7, 0.2, 0.1)
"""Shares of dialogues with one, two and three turns of the user."""


def files(world: World) -> Files:
    """Return one row a dialogue, one file a folder."""
    return {f"hh-rlhf/{folder}/train.jsonl.gz": _rows(world, folder) for folder in FOLDERS}


def _rows(world: World, folder: str) -> list[Row]:
    rng = world.rng(f"hh-rlhf {folder} preferences")
    groups = world.groups(f"hh-rlhf {folder}", 700, 2, mix=FOLDERS[folder], turns=TURNS)
    return [_row(group.prompt, *group.ranked(rng)) for group in groups]


def _row(prompt: Prompt, chosen: Answer, rejected: Answer) -> Row:
    context = "".join((HUMAN if role == "user" else ASSISTANT) + content for role, content in prompt.turns)
    return {"chosen": context + ASSISTANT + chosen.text, "rejected": context + ASSISTANT + rejected.text}


def _turns(transcript: str) -> Conversation:
    """Return the turns of a transcript. The space after a colon belongs to the format."""
    _, *parts = re.split("\n\n(Human|Assistant): ", transcript)
    return tuple((ROLES[speaker], content) for speaker, content in zip(parts[::2], parts[1::2], strict=True))


def _unanswered(row: Row) -> Row:
    return {"chosen": row["chosen"].rsplit(ASSISTANT, 1)[0] + ASSISTANT.rstrip(" ")}


GREETING = f"{HUMAN}Good morning.{ASSISTANT}Good morning to you."
AFTERTHOUGHT = f"{ASSISTANT}One more thing."
DEFECTS = (
    Defect("missing_column", 0.001, {"rejected": ABSENT}, "rejected"),
    Defect("identical_pair", 0.008, lambda row: {"rejected": row["chosen"]}, "dropped"),
    Defect("empty_final_turn", 0.002, _unanswered, "rejected", "empty_turn"),
    Defect("roles_out_of_order", 0.003, lambda row: {"chosen": row["chosen"] + AFTERTHOUGHT}, "rejected"),
    Defect("context_differs", 0.002, lambda row: {"rejected": GREETING + row["rejected"]}, "rejected"),
    Defect("leading_spaces", 0.002, lambda row: {"chosen": f"{ASSISTANT} ".join(row["chosen"].rsplit(ASSISTANT, 1))}),
)
TRUTH = from_pairs(lambda row: (_turns(row["chosen"]), _turns(row["rejected"])))
DATASET = Dataset("hh-rlhf", "lines", files, TRUTH, DEFECTS)

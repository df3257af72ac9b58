"""BeaverTails-30k: one safety label an answer, with fourteen categories of harm."""

from numpy.random import Generator

from armorm.features.conversation import single_turn
from armorm.features.sample.native.base import ABSENT, Dataset, Defect, Files, Row
from armorm.features.sample.native.pku_saferlhf import groups, is_safe
from armorm.features.sample.native.truth import Rated, from_ratings
from armorm.features.sample.world.text import Answer, pick
from armorm.features.sample.world.world import Group, World

CATEGORIES = (
    "animal_abuse",
    "child_abuse",
    "controversial_topics,politics",
    "discrimination,stereotype,injustice",
    "drug_abuse,weapons,banned_substance",
    "financial_crime,property_crime,theft",
    "hate_speech,offensive_language",
    "misinformation_regarding_ethics,laws_and_safety",
    "non_violent_unethical_behavior",
    "privacy_violation",
    "self_harm",
    "sexually_explicit,adult_content",
    "terrorism,organized_crime",
    "violence,aiding_and_abetting,incitement",
)

HARMS = ("financial_crime,property_crime,theft", "non_violent_unethical_behavior", "privacy_violation")
"""The mild ones, which are all that the sample knows."""


def files(world: World) -> Files:
    """Return one row an answer, of nine in ten prompts of PKU-SafeRLHF-30K."""
    rng = world.rng("beavertails-30k labels")
    shared = [group for group in groups(world) if rng.random() < 0.9]
    rows = [_row(rng, group, answer) for group in shared for answer in group.answers]
    return {"beavertails-30k/round0/30k/train.jsonl.gz": rows}


def _row(rng: Generator, group: Group, answer: Answer) -> Row:
    harm = None if is_safe(rng, answer) else pick(rng, HARMS)
    return {"prompt": group.question, "response": answer.text, **_label(harm)}


def _label(harm: str | None) -> Row:
    return {"category": {category: category == harm for category in CATEGORIES}, "is_safe": harm is None}


def _rated(row: Row) -> list[Rated]:
    return [(single_turn(row["prompt"], row["response"]), {"beavertails-is_safe": float(row["is_safe"])})]


DEFECTS = (
    Defect("missing_column", 0.002, {"is_safe": ABSENT}, "rejected"),
    Defect("label_not_boolean", 0.002, {"is_safe": "yes"}, "rejected", "wrong_type"),
    Defect("is_safe_contradicts_category", 0.003, lambda row: {"is_safe": not row["is_safe"]}, "rejected"),
    Defect("conflicting_labels", 0.003, lambda row: _label(HARMS[0] if row["is_safe"] else None), beside=True),
    Defect("empty_answer", 0.002, {"response": ""}, "rejected", "empty_turn"),
)
DATASET = Dataset("beavertails-30k", "lines", files, from_ratings(_rated), DEFECTS)

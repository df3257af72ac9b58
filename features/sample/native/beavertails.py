"""BeaverTails-30k: one safety label an answer, with fourteen categories of harm."""

from typing import Final

from numpy.random import Generator

from armorm.features.conversation import single_turn
from armorm.features.sample.native.base import Dataset, Files
from armorm.features.sample.native.pku_saferlhf import groups, is_safe
from armorm.features.sample.world.defects import (
    DUPLICATE,
    MALFORMED,
    Defect,
    Line,
    Row,
    altered,
    rejected,
    with_value,
    without,
)
from armorm.features.sample.world.files import write_json_lines
from armorm.features.sample.world.text import Answer, pick
from armorm.features.sample.world.truth import Rated, from_ratings
from armorm.features.sample.world.world import Group, World

CATEGORIES: Final = (
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

HARMS: Final = ("financial_crime,property_crime,theft", "non_violent_unethical_behavior", "privacy_violation")
"""The mild ones, which are all that the sample knows."""


def files(world: World) -> Files:
    """Return one row an answer, of nine in ten prompts of PKU-SafeRLHF-30K."""
    rng = world.rng("beavertails-30k labels")
    shared = [group for group in groups(world) if rng.random() < 0.9]
    rows = [_row(rng, group, answer) for group in shared for answer in group.answers]
    return {"beavertails-30k/round0/30k/train.jsonl.gz": rows}


def _rated(row: Row) -> list[Rated]:
    return [(single_turn(row["prompt"], row["response"]), {"beavertails-is_safe": float(row["is_safe"])})]


def _row(rng: Generator, group: Group, answer: Answer) -> Row:
    safe = is_safe(rng, answer)
    harm = None if safe else pick(rng, HARMS)
    return {"prompt": group.question, "response": answer.text, "category": _categories(harm), "is_safe": safe}


def _categories(harm: str | None) -> dict[str, bool]:
    return {category: category == harm for category in CATEGORIES}


def _second_opinion(row: Row) -> tuple[Line, ...]:
    """Return the row, and another annotator's, who says the opposite."""
    harm = HARMS[0] if row["is_safe"] else None
    return row, row | {"category": _categories(harm), "is_safe": not row["is_safe"]}


DATASET: Final = Dataset(
    "beavertails-30k",
    files,
    write_json_lines,
    from_ratings(_rated),
    (
        MALFORMED,
        DUPLICATE,
        Defect("missing_column", 0.002, without("is_safe"), rejected("missing_column")),
        Defect("label_not_boolean", 0.002, with_value("is_safe", "yes"), rejected("wrong_type")),
        Defect(
            "is_safe_contradicts_category",
            0.003,
            altered("is_safe", lambda row: not row["is_safe"]),
            rejected("is_safe_contradicts_category"),
        ),
        Defect("conflicting_labels", 0.003, _second_opinion),
        Defect("empty_answer", 0.002, with_value("response", ""), rejected("empty_turn")),
    ),
)

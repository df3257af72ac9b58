"""PKU-SafeRLHF-30K: two answers to an unsafe prompt, whether each is safe, which helps more and which is safer."""

from numpy.random import Generator

from armorm.features.sample.native.base import ABSENT, Dataset, Defect, Files, Row, exchanged
from armorm.features.sample.native.truth import Pair, from_pairs, text_pair
from armorm.features.sample.world.text import Answer
from armorm.features.sample.world.world import DOUBT, Group, World


def groups(world: World) -> list[Group]:
    """Return the unsafe prompts and answers, which BeaverTails shares."""
    return world.groups("unsafe", 2200, 2, mix={"safety": 1.0})


def is_safe(rng: Generator, answer: Answer) -> bool:
    """Return a safety label; in doubt it is as likely wrong as right."""
    return bool(answer.shown["safety"] + DOUBT * rng.standard_normal() > 0)


def files(world: World) -> Files:
    """Return one row a prompt."""
    rng = world.rng("pku-saferlhf-30k labels")
    return {"pku-saferlhf-30k/train.jsonl.gz": [_row(rng, group) for group in groups(world)]}


def _row(rng: Generator, group: Group) -> Row:
    """Return a row. If just one answer is safe, it is the safer one."""
    first, second = group.answers
    safe = is_safe(rng, first), is_safe(rng, second)
    second_safer = safe[1] if safe[0] != safe[1] else group.prefers(rng, second, first)
    return {
        "prompt": group.question,
        "response_0": first.text,
        "response_1": second.text,
        "is_response_0_safe": safe[0],
        "is_response_1_safe": safe[1],
        "better_response_id": int(second.shown["helpfulness"] > first.shown["helpfulness"]),
        "safer_response_id": int(second_safer),
    }


def _pair(row: Row) -> Pair:
    """Return the pair, of which the safer answer is preferred."""
    safer = row["safer_response_id"]
    return text_pair(row, "prompt", f"response_{safer}", f"response_{1 - safer}")


def _mirrored(row: Row) -> Row:
    sides = exchanged(row, ("response_0", "response_1"), ("is_response_0_safe", "is_response_1_safe"))
    return sides | {name: 1 - row[name] for name in ("better_response_id", "safer_response_id")}


def _unsafe_is_safer(row: Row) -> Row:
    safer = row["safer_response_id"]
    return {f"is_response_{safer}_safe": False, f"is_response_{1 - safer}_safe": True}


DEFECTS = (
    Defect("sides_swapped", 0.004, _mirrored, beside=True),
    Defect("missing_column", 0.002, {"safer_response_id": ABSENT}, "rejected", "no_label"),
    Defect("unknown_response_id", 0.002, {"safer_response_id": 2}, "rejected", "label_not_0_or_1"),
    Defect("better_response_null", 0.002, {"better_response_id": None}),
    Defect("safer_contradicts_flags", 0.003, _unsafe_is_safer, "rejected", "label_contradicts_safety"),
    Defect("identical_pair", 0.004, lambda row: {"response_1": row["response_0"]}, "dropped"),
    Defect("empty_answer", 0.002, {"response_1": ""}, "rejected", "empty_turn"),
)
DATASET = Dataset("pku-saferlhf-30k", "lines", files, from_pairs(_pair), DEFECTS)

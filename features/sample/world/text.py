"""Prompts of several kinds, and answers whose text shows their qualities.

An answer is a run of short clauses. Each speaks for one quality, well or badly, and the share of good ones is
what the answer shows of that quality; later sentences of long answers begin with connectives. So the qualities
are linear in the shares of words, and a mean over token vectors carries them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from numpy.random import Generator

from armorm.features.conversation import Message
from armorm.features.sample.world import words
from armorm.features.sample.world.words import Kind

SHOWN: Final[Mapping[Kind, tuple[str, ...]]] = {
    "chat": ("helpfulness", "style", "correctness", "complexity"),
    "code": ("correctness", "helpfulness", "complexity", "style"),
    "maths": ("correctness", "complexity", "helpfulness", "style"),
    "safety": ("safety", "helpfulness", "style", "correctness"),
}
"""The qualities that an answer's clauses speak of: only safety prompts tempt anyone."""

T = TypeVar("T")

_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """All turns before an answer, and what its slots were filled with."""

    kind: Kind
    turns: tuple[Message, ...]
    matter: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's text, and what it shows of each quality: from -1 (all clauses bad) to 1 (all good)."""

    text: str
    shown: Mapping[str, float]
    n_clauses: int


def pick(rng: Generator, bank: Sequence[T]) -> T:
    """Return one entry, each as likely as the others."""
    return bank[int(rng.random() * len(bank))]


def write_prompt(rng: Generator, kind: Kind, *, detail: float, n_turns: int) -> Prompt:
    """Return the turns before an answer: a question, then `n_turns - 1` times a short reply and a follow-up.

    Args:
        detail: how much the asker wants to read; far above or below 0 the prompt says so.
    """
    matter: dict[str, str] = {}
    question = _fill(rng, f"{pick(rng, words.PROMPTS[kind])} {pick(rng, words.SETTINGS[kind])}", matter)
    turns = [("user", question + _wish(rng, detail))]
    for _ in range(n_turns - 1):
        turns.append(("assistant", _fill(rng, pick(rng, words.ASIDES[kind]), matter)))
        turns.append(("user", _fill(rng, pick(rng, words.FOLLOW_UPS[kind]), matter)))
    return Prompt(kind, tuple(turns), matter)


def write_answer(rng: Generator, prompt: Prompt, *, share_good: Mapping[str, float], n_clauses: int) -> Answer:
    """Return an answer of `n_clauses` clauses, dealt in turn to the qualities that its kind shows."""
    qualities = SHOWN[prompt.kind]
    clauses, shown = [], {}
    for place, quality in enumerate(qualities):
        n = len(range(place, n_clauses, len(qualities)))
        n_good = int(n * share_good[quality] + rng.random())
        clauses += _run(rng, words.GOOD_CLAUSES[quality], n_good) + _run(rng, words.BAD_CLAUSES[quality], n - n_good)
        shown[quality] = 2 * n_good / n - 1
    aside = _fill(rng, pick(rng, words.ASIDES[prompt.kind]), dict(prompt.matter))
    return Answer(f"{_sentences(rng, clauses)} {aside}", shown, n_clauses)


def _fill(rng: Generator, template: str, matter: dict[str, str]) -> str:
    """Return the template with every slot in braces filled, with what it held before; numbers are always new."""

    def filled(slot: re.Match[str]) -> str:
        name = slot[1]
        if name in words.NUMERALS or name not in matter:
            matter[name] = pick(rng, words.SLOTS[name])
        return matter[name]

    return _SLOT.sub(filled, template)


def _wish(rng: Generator, detail: float) -> str:
    if abs(detail) < 0.4:
        return ""
    return f" {pick(rng, words.DETAIL if detail > 0 else words.BREVITY)}"


def _run(rng: Generator, bank: Sequence[str], n: int) -> list[str]:
    """Return `n` neighbours in the bank from a random place on, so that an answer seldom repeats itself."""
    start = int(rng.random() * len(bank))
    return [bank[(start + step) % len(bank)] for step in range(n)]


def _sentences(rng: Generator, clauses: Sequence[str]) -> str:
    """Return clauses in random order, joined two by two; every sentence after the second begins with a connective."""
    shuffled = [clauses[i] for i in rng.permutation(len(clauses))]
    sentences = []
    for first in range(0, len(shuffled), 2):
        sentence = pick(rng, words.JOINERS).join(shuffled[first : first + 2]) + "."
        opening = pick(rng, words.CONNECTIVES) if first >= 4 else ""
        sentences.append(opening + sentence if opening else sentence[0].upper() + sentence[1:])
    return " ".join(sentences)

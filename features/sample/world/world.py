"""The world behind the sample: who asks, what answers are like, how judges rate and which answer they prefer.

A few rules make a gate worth its while. A rating is affine in the answer's qualities, with a halo of what the
prompt calls for, and rises with length. A preference follows the prompt's kind: help and style in a chat,
correctness in code and mathematics, safety where that is at stake. Where it is, answers that help are seldom
safe. And length does next to nothing for a preference.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator

from armorm.features.conversation import Message
from armorm.features.sample.world.text import Answer, Prompt, write_answer, write_prompt
from armorm.features.sample.world.words import Kind

MEAN_CLAUSES: Final = 8.0
CLAUSES_PER_UNIT: Final = 2.4
"""Clauses that one standard deviation of length adds."""

CALLED_FOR: Final[Mapping[Kind, Mapping[str, float]]] = {
    "chat": {"helpfulness": 0.75, "style": 0.75},
    "code": {"correctness": 1.0},
    "maths": {"correctness": 1.0},
    "safety": {"safety": 1.0},
}
"""What a preference weighs, by kind of prompt."""

DOUBT: Final = 0.15
"""Standard deviation of what is left to chance in a preference or a label, on the scale of qualities."""

FEWEST_PROMPTS: Final = 8
"""However small the sample, each group of prompts has as many: enough rows for every kind of defect."""
FEWEST_ROWS: Final = 32
"""The same for a dataset that has one group of prompts and one row a prompt."""


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt and its answers."""

    prompt: Prompt
    answers: tuple[Answer, ...]

    @property
    def question(self) -> str:
        """The prompt of a single turn."""
        ((_, content),) = self.prompt.turns
        return content

    def merit(self, answer: Answer) -> float:
        """Return how far the answer is what the prompt calls for."""
        return sum(weight * answer.shown[quality] for quality, weight in CALLED_FOR[self.prompt.kind].items())

    def ranked(self, rng: Generator) -> tuple[Answer, Answer]:
        """Return two answers, the preferred one first."""
        first, second = self.answers
        return (first, second) if self.prefers(rng, first, second) else (second, first)

    def prefers(self, rng: Generator, first: Answer, second: Answer) -> bool:
        """Return whether somebody who reads both prefers the first."""
        return bool(self.merit(first) - self.merit(second) + DOUBT * rng.standard_normal() > 0)


@dataclass(frozen=True, slots=True)
class Judge:
    """A judge of one objective on the scale `lo..hi`: weights in units of a quarter of the scale."""

    lo: int
    hi: int
    weights: Mapping[str, float]
    halo: float = 0.0
    """Weight of what the prompt calls for: judges are swayed by it whatever they were asked."""
    length: float = 0.0
    noise: float = 0.4

    def rate(self, rng: Generator, group: Group, answer: Answer, *, step: float = 1.0) -> float:
        """Return a rating of one answer, rounded to `step` and clipped to the scale."""
        opinion = sum(weight * answer.shown.get(quality, 0.0) for quality, weight in self.weights.items())
        opinion += self.halo * group.merit(answer) + self.length * extra_length(answer)
        opinion += self.noise * rng.standard_normal()
        middle, unit = (self.lo + self.hi) / 2, (self.hi - self.lo) / 4
        return float(np.clip(round((middle + unit * opinion) / step) * step, self.lo, self.hi))

    def rate_pair(self, rng: Generator, group: Group, pair: tuple[Answer, Answer]) -> tuple[float, float]:
        """Return ratings of both answers, the first one preferred: they differ, and say so too."""
        low, high = sorted(self.rate(rng, group, answer) for answer in pair)
        if low == high:
            low, high = (low - 1, high) if low > self.lo else (low, high + 1)
        return high, low


@dataclass(frozen=True, slots=True)
class World:
    """A seed and a size: every stream of chance has a name of its own, so a new dataset changes no other."""

    seed: int
    scale: float

    def rng(self, name: str) -> Generator:
        """Return the stream of that name."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def groups(
        self,
        name: str,
        n_prompts: int,
        n_answers: int,
        *,
        mix: Mapping[Kind, float],
        turns: Sequence[float] = (1.0,),
        fewest: int = FEWEST_PROMPTS,
    ) -> list[Group]:
        """Return distinct prompts with distinct answers, the same at every call.

        Args:
            name: the stream of chance.
            n_prompts: how many at scale 1.
            turns: share of prompts with one, two, .. turns of the user.
            fewest: how many at any scale.
        """
        rng, seen, groups = self.rng(name), set[tuple[Message, ...]](), list[Group]()
        kinds, shares = list(mix), list(mix.values())
        while len(groups) < max(fewest, round(n_prompts * self.scale)):
            kind = kinds[rng.choice(len(kinds), p=shares)]
            detail = rng.standard_normal()
            prompt = write_prompt(rng, kind, detail=detail, n_turns=1 + int(rng.choice(len(turns), p=turns)))
            if prompt.turns not in seen:
                seen.add(prompt.turns)
                groups.append(Group(prompt, _answers(rng, prompt, detail, n_answers)))
        return groups


def extra_length(answer: Answer) -> float:
    """Return the length in standard deviations from its mean."""
    return (answer.n_clauses - MEAN_CLAUSES) / CLAUSES_PER_UNIT


def _answers(rng: Generator, prompt: Prompt, detail: float, n: int) -> tuple[Answer, ...]:
    answers: dict[str, Answer] = {}
    while len(answers) < n:
        answer = _answer(rng, prompt, detail)
        answers.setdefault(answer.text, answer)
    return tuple(answers.values())


def _answer(rng: Generator, prompt: Prompt, detail: float) -> Answer:
    """Draw an answer. Its qualities are correlated; its length follows the prompt's wish for detail in part."""
    helps, correct, style, safe, complex_, own_length = rng.standard_normal(6)
    length = 0.7 * detail + 0.7 * own_length
    latent = {
        "helpfulness": helps,
        "correctness": 0.3 * helps + 0.95 * correct,
        "style": 0.2 * helps + 0.98 * style,
        "safety": 0.85 * safe - 0.5 * helps,
        "complexity": 0.8 * complex_ + 0.6 * length,
    }
    share_good = {quality: 1 / (1 + np.exp(-1.7 * value)) for quality, value in latent.items()}
    n_clauses = int(np.clip(round(MEAN_CLAUSES + CLAUSES_PER_UNIT * length), 5, 14))
    return write_answer(rng, prompt, share_good=share_good, n_clauses=n_clauses)

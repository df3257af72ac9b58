"""What a judge is: asked about two answers to one prompt, it prefers one of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from armorm.features.conversation import Conversation
from armorm.stages.judge import Verdict


@dataclass(frozen=True, slots=True)
class Question:
    """Two answers to one prompt; the first has the smaller id, whichever of them a dataset prefers."""

    first_id: str
    second_id: str
    first: Conversation
    second: Conversation

    @property
    def prompt(self) -> Conversation:
        """All turns before the answers."""
        return self.first[:-1]

    @property
    def answers(self) -> tuple[str, str]:
        """The texts of both."""
        return self.first[-1][1], self.second[-1][1]

    def scored(self, first: float, second: float) -> Verdict:
        """Return the verdict of a judge that scores answers alone."""
        return Verdict(
            first_id=self.first_id,
            second_id=self.second_id,
            score_first=first,
            score_second=second,
            preference=first - second,
        )

    def ordered(self, shown_first: float, shown_second: float) -> Verdict:
        """Return the verdict of a judge that reads both, in both orders: the mean of the two."""
        return Verdict(
            first_id=self.first_id,
            second_id=self.second_id,
            shown_first=shown_first,
            shown_second=shown_second,
            preference=(shown_first + shown_second) / 2,
        )

    def unanswered(self, why_not: str) -> Verdict:
        """Return that there is no verdict, with the reason."""
        return Verdict(first_id=self.first_id, second_id=self.second_id, why_not=why_not)


class Judge(Protocol):
    """Anything that can order two answers."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that decides its verdicts, as JSON; no secrets."""

    @property
    def n_at_once(self) -> int:
        """Questions after which the verdicts are kept."""

    def answer(self, questions: Sequence[Question]) -> Iterator[Verdict]:
        """Yield a verdict on each, in any order; a question of which none comes is asked again by the next run."""

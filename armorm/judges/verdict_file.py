"""Verdicts that somebody else has made, read from a file."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from armorm.features.conversation import MalformedConversation, conversation_id
from armorm.features.errors import MalformedRows, NativeFileError
from armorm.features.ingest.files import survey
from armorm.features.ingest.native import read_rows
from armorm.features.sources.given import read_row
from armorm.features.sources.own import SIDES
from armorm.features.store.hashes import file_sha256
from armorm.judges.judge import Question
from armorm.stages.judge import Verdict

SCORES: Final = (("score_chosen", "score_rejected"), ("scores_chosen", "scores_rejected"))
"""Columns with the scores of both answers: those of the view `pair_scores`, and those that rewardbench writes."""

WINNERS: Final = {"chosen": 1.0, "rejected": -1.0, "tie": 0.0}
"""What a column `winner` says, and how far the chosen answer is preferred then; `preference` says it as a number."""

LISTED: Final = 10

Ids = tuple[str, str]


@dataclass(frozen=True)
class VerdictFile:
    """A judge that says what a file says."""

    name: str
    path: Path
    pairs: Mapping[str, Ids]
    """Pair id to the ids of its chosen and rejected answer."""

    n_at_once = 100_000

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The files' content."""
        return {"kind": "verdicts", "files": [file_sha256(path) for path in survey(self.path).read]}

    @cached_property
    def preferences(self) -> Mapping[Ids, tuple[float | None, float | None, float]]:
        """Scores of both answers, if there are any, and by how much the chosen one is preferred, by their ids.

        Raises:
            MalformedRows: some rows cannot be used; the first ten are listed.
        """
        found: dict[Ids, tuple[float | None, float | None, float]] = {}
        bad: list[str] = []
        for path in survey(self.path).read:
            for row in read_rows(path):
                try:
                    if row.data is None:
                        raise ValueError(row.problem)
                    if ids := self._ids(row.data):
                        found[ids] = _said(row.data)
                except (MalformedConversation, ValueError) as error:
                    bad.append(f"{path.name}, line {row.line}: {error}")
                if len(bad) == LISTED:
                    raise MalformedRows(self.path, bad)
        if bad:
            raise MalformedRows(self.path, bad)
        if not found:
            raise NativeFileError(
                self.path, "got no verdicts on pairs of the store; expected its pair_id, or chosen and rejected"
            )
        return found

    def answer(self, questions: Sequence[Question]) -> Iterator[Verdict]:
        """Yield what the file says of each."""
        for question in questions:
            both = question.first_id, question.second_id
            if said := self.preferences.get(both):
                first, second, preference = said
            elif said := self.preferences.get(both[::-1]):
                second, first, preference = said[0], said[1], -said[2]
            else:
                yield replace(question.unanswered("the file has no verdict on it"), kept=False)
                continue
            verdict = Verdict(first_id=both[0], second_id=both[1], preference=preference)
            yield replace(verdict, score_first=first, score_second=second)

    def _ids(self, data: Mapping[str, Any]) -> Ids | None:
        """Return the ids of the chosen and the rejected answer; None for a pair that the store does not have."""
        if data.get("pair_id") is not None:
            return self.pairs.get(str(data["pair_id"]))
        sides = dict(read_row(data).sides)
        if sides.keys() != set(SIDES):
            raise ValueError("got one answer; expected a pair_id, or chosen and rejected")
        chosen, rejected = (conversation_id(sides[side]) for side in SIDES)
        return chosen, rejected


def _said(data: Mapping[str, Any]) -> tuple[float | None, float | None, float]:
    for names in SCORES:
        if all(data.get(name) is not None for name in names):
            chosen, rejected = (_number(data[name], name) for name in names)
            return chosen, rejected, chosen - rejected
    if (preference := data.get("preference")) is not None:
        return None, None, _number(preference, "preference")
    winner = data.get("winner")
    if isinstance(winner, str) and winner.lower() in WINNERS:
        return None, None, WINNERS[winner.lower()]
    raise ValueError(
        f"got {', '.join(sorted(data))}; expected score_chosen and score_rejected, or preference (a number above 0 for "
        f"the chosen answer), or winner ({', '.join(WINNERS)})"
    )


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, list) and len(value) == 1:  # as rewardbench writes the score of a classifier
        return _number(value[0], name)
    if not math.isfinite(number):
        raise ValueError(f"{name}: got {str(value)[:40]!r}; expected a finite number")
    return number

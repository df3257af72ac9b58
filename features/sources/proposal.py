"""Which form rows seem to have: a proposal for somebody to look at, by the names and the values of their columns.

What rows cannot say, such as which answer a label of 0 and 1 prefers, is a question, and never guessed.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Final, Literal

from armorm.features.conversation import MalformedConversation
from armorm.features.sources.base import as_number
from armorm.features.sources.forms import HUMAN
from armorm.features.sources.own import FIRST, SECOND, TIE, cells_of, verdict_word
from armorm.features.sources.reading import is_absent, is_printed, read_turns

Kind = Literal["messages", "transcript", "text", "boolean", "number", "lists", "numbers", "none", "other"]

PREFERRED: Final = "preferred"
"""The objective that preferences are ratings of, where there are no others."""

_PROMPTS: Final = ("prompt", "question", "instruction", "query", "input", "context", "history", "post", "user", "human")
_ANSWERS: Final = ("response", "answer", "completion", "output", "reply", "text", "generation", "assistant", "ai")
_WHOLE: Final = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat")
_SYSTEMS: Final = ("system", "system_prompt", "system_message")
_VERDICT: Final = re.compile("winner|label|prefer|better|safer|choice|chosen|verdict|vote|judg|best|strength|score")
_SIDES: Final = (("a", "b"), ("0", "1"), ("1", "2"), ("first", "second"), ("left", "right"))
_NO_RATING: Final = re.compile(
    r"(.*[_-])?(id|ids|idx|index|seed|timestamp|date|time|year|turns?|tokens?|len|length|count|n)"
)
_RANKS: Final = re.compile("rank")
_SCORES: Final = re.compile("score|rating|reward")
_UNWANTED: Final = re.compile("verbos|length|complex|toxic|harm|unsafe|error|bias")
_SCALES: Final = ((1, 3), (0, 4), (1, 5), (1, 7), (1, 10), (0, 10), (1, 100), (0, 100))
"""The usual scales, the smaller first."""
_FEW: Final = 8
"""Different values that are told one by one."""
_SOME: Final = 200
"""Rows by which the kind of a column of messages is told."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as its values show it; null and NaN are none."""

    kind: Kind
    values: Sequence[Any]

    @property
    def told(self) -> str:
        """What it holds, for a person."""
        counted = Counter(map(verdict_word, self.values)) if self.kind in ("boolean", "number", "text") else {}
        if self.kind == "number" and len(counted) > _FEW:
            numbers = [*map(float, self.values)]
            return f"number {min(numbers):g}..{max(numbers):g}"
        few = ", ".join(f"{value} ({count})" for value, count in sorted(counted.items()))
        return f"{self.kind}: {few}" if 0 < len(counted) <= _FEW and len(counted) < len(self.values) else self.kind


@dataclass(frozen=True, slots=True)
class Proposal:
    """A form and its settings, as a configuration describes them."""

    form: str
    settings: Mapping[str, Any]
    remarks: Mapping[str, str] = field(default_factory=dict)
    """Setting to why it has its value."""
    choices: tuple[str, ...] = ()
    """Where it is open which verdict prefers the first answer: the two that there are; or `negative` and `positive`."""

    @property
    def columns(self) -> set[str]:
        """The columns that are read."""
        objectives = self.settings.get("objectives", {}).values()
        named = {str(value) for value in self.settings.values()} | {str(of["column"]) for of in objectives}
        return named | {*self.settings.get("answers", ())}

    def decided(self, first: str, why: str = "as it was said") -> "Proposal":
        """Return the proposal with an answer to the question which verdict prefers the first answer.

        Raises:
            ValueError: it is none of the choices.
        """
        if first not in self.choices:
            raise ValueError(f"got {first!r}; expected {' or '.join(self.choices)}")
        (other,) = [choice for choice in self.choices if choice != first]
        signed = first in ("negative", "positive")
        settings: dict[str, Any] = {"first_is": first} if signed else {"first": [first], "second": [other]}
        remark = {next(iter(settings)): f"{why}: {first} prefers {self.settings['answers'][0]}"}
        return replace(self, settings={**self.settings, **settings}, remarks={**self.remarks, **remark}, choices=())


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    """Return the columns of some rows."""
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: [row[name] for row in rows if not is_absent(row.get(name))] for name in names}
    return {name: Column(_kind(of), of) for name, of in values.items()}


def propose(rows: Sequence[Mapping[str, Any]]) -> Proposal:
    """Return the form that rows seem to have.

    Raises:
        ValueError: none can be told.
    """
    columns = columns_of(rows)
    if printed := [name for name in _of(columns, "text") if is_printed(columns[name].values[0])]:
        raise ValueError(
            f"got column {printed[0]} with messages as Python prints them; expected JSON; use json.dumps, or save the "
            "rows as JSON Lines or Parquet"
        )
    proposal = _lists(columns) or _pair(columns) or _verdict(columns) or _ratings(columns, rows)
    if proposal:
        return proposal
    has = ", ".join(f"{name} ({column.kind})" for name, column in columns.items()) or "none"
    raise ValueError(
        f"got columns {has}; expected an answer with a rating, two answers and a verdict, or chosen and rejected "
        "answers; see docs/datasets.md for how to describe others"
    )


def _kind(values: Sequence[Any]) -> Kind:
    some = values[:_SOME]
    if not values:
        return "none"
    if all(type(value) is bool or str(value).lower() in ("true", "false") for value in values):
        return "boolean"
    if all(as_number(value) is not None for value in values):
        return "number"
    if all(map(_is_messages, some)):
        return "messages"
    cells_of_some = [cells_of(value) for value in some]
    if all(isinstance(value, str) for value in some) and any(
        cells == [value] for cells, value in zip(cells_of_some, some, strict=True)
    ):
        return "transcript" if all(value.startswith(HUMAN) for value in some) else "text"
    if None not in cells_of_some:
        cells = [cell for cells in cells_of_some for cell in cells or ()]
        if all(as_number(cell) is not None for cell in cells):
            return "numbers"
        return "lists" if all(isinstance(cell, str) or _is_messages(cell) for cell in cells) else "other"
    return "other"


def _is_messages(value: Any) -> bool:
    try:
        return bool(read_turns(value))
    except MalformedConversation:
        return False


def _of(columns: Mapping[str, Column], *kinds: Kind) -> list[str]:
    return [name for name, column in columns.items() if column.kind in kinds]


def _named(columns: Mapping[str, Column], names: Sequence[str], *kinds: Kind) -> str | None:
    """Return the column that has the first of some names, or else begins or ends with it."""
    found = _of(columns, *kinds)
    exact = [column for name in names for column in found if column.lower() == name]
    parts = [column for name in names for column in found if name in re.split(r"[\W_]+", column.lower())]
    return next(iter([*exact, *parts]), None)


def _before(columns: Mapping[str, Column], answers: Sequence[str]) -> dict[str, Any]:
    """Return the prompt, the system text and the style of answers."""
    others = {name: column for name, column in columns.items() if name not in answers}
    kind = columns[answers[0]].kind
    if kind == "transcript":
        return {"style": "transcript"}
    texts = _of(others, "text")
    starts = {read_turns(value)[0][0] for value in columns[answers[0]].values[:_SOME]} if kind == "messages" else {}
    whole = "user" in starts
    prompt = None if whole else _named(others, (*_PROMPTS, *_WHOLE), "text", "messages")
    prompt = prompt or (texts[0] if len(texts) == 1 and kind != "messages" else None)
    style = {"style": "messages"} if kind == "messages" else {}
    named = {"prompt": prompt, "system": _named(others, _SYSTEMS, "text")}
    if named["system"] == prompt:
        del named["system"]
    return style | {name: column for name, column in named.items() if column}


def _lists(columns: Mapping[str, Column]) -> Proposal | None:
    chosen, rejected = (_named(columns, (side,), "lists", "text") for side in ("chosen", "rejected"))
    if chosen and rejected and "lists" in (columns[chosen].kind, columns[rejected].kind):
        sides = {"chosen": chosen, "rejected": rejected}
        return Proposal("lists", _before(columns, [chosen, rejected]) | sides)
    answers = next(iter(_of(columns, "lists")), None)
    numbers = _of(columns, "numbers")
    if not answers:
        return None
    order = {
        kind: name
        for kind, pattern in (("scores", _SCORES), ("ranks", _RANKS))
        for name in numbers
        if pattern.search(name.lower())
    }
    if len(order) != 1:
        return None
    remarks = {"scores": "the highest is the best", "ranks": "the lowest is the best"}
    return Proposal("lists", _before(columns, [answers]) | {"answers": answers, **order}, remarks)


def _pair(columns: Mapping[str, Column]) -> Proposal | None:
    chosen, rejected = (_named(columns, (side,), "text", "messages", "transcript") for side in ("chosen", "rejected"))
    if not chosen or not rejected or chosen == rejected:
        return None
    sides = {"chosen": chosen, "rejected": rejected}
    scores = {}
    for name in _of(columns, "number"):
        for side in sides:
            if side in name.lower() and _SCORES.search(name.lower()):
                scores[f"{side}_score"] = name
    kept = scores if len(scores) == 2 and len({*scores.values()}) == 2 else {}
    return Proposal("pairs", _before(columns, [chosen, rejected]) | sides | kept)


def _verdict(columns: Mapping[str, Column]) -> Proposal | None:
    two = _two_answers(columns)
    if not two:
        return None
    others = {name: of for name, of in columns.items() if name not in two and of.values}
    named = [name for name in others if _VERDICT.search(name.lower())]
    for name in [*named, *(name for name in others if name not in named)]:
        column, words = others[name], {*map(verdict_word, others[name].values)} - {*TIE}
        settings = _before({other: columns[other] for other in columns if other != name}, two)
        settings |= {"answers": list(two), "verdict": name}
        first, second = ((*words_of, answer.lower()) for words_of, answer in zip((FIRST, SECOND), two, strict=True))
        if column.kind == "text" and words and words <= {*first, *second}:
            return Proposal("verdict", settings)
        if name not in named:
            continue
        numbers = [as_number(value) or 0.0 for value in column.values] if column.kind == "number" else [0.0]
        if min(numbers) < 0 < max(numbers):
            return Proposal("verdict", settings, choices=("negative", "positive"))
        if len(words) == 2 and len(column.values) > 2:
            proposal = Proposal("verdict", settings, choices=tuple(sorted(words)))
            ends = {_words(word)[-1]: word for word in words if column.kind == "text" and as_number(word) is None}
            clear = ends.get(_words(two[0])[-1]) if len(ends) == 2 else None
            return proposal.decided(clear, "as it ends") if clear and _words(two[1])[-1] in ends else proposal
    return None


def _two_answers(columns: Mapping[str, Column]) -> tuple[str, str] | None:
    """Return two columns whose names differ in their side alone; of several such, those with the longest texts."""
    found = [
        (one, other)
        for kind in ("messages", "transcript", "text")
        for pair in combinations(_of(columns, kind), 2)
        for one, other in (pair, pair[::-1])
        if _differ(one, other)
    ]
    return max(found, key=lambda two: sum(len(str(value)) for value in columns[two[0]].values[:_SOME]), default=None)


def _differ(one: str, other: str) -> bool:
    """Return whether two names are the same but for the side that one word in them says."""
    words, others = _words(one), _words(other)
    pairs = [(w, o) for w, o in zip(words, others, strict=False) if w != o]
    return len(words) == len(others) and len(pairs) == 1 and pairs[0] in _SIDES


def _words(name: str) -> list[str]:
    """Return the words of a name, in lower case: `responseA` and `response_a` are two."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)] or [""]


def _ratings(columns: Mapping[str, Column], rows: Sequence[Mapping[str, Any]]) -> Proposal | None:
    answer = (
        _named(columns, (*_WHOLE, *_ANSWERS), "messages")
        or next(iter(_of(columns, "messages", "transcript")), None)
        or _named(columns, _ANSWERS, "text")
    )
    rated = [
        name
        for name in _of(columns, "number", "boolean")
        if not _NO_RATING.fullmatch(name.lower()) and len({*map(verdict_word, columns[name].values)}) > 1
    ]
    if not answer or not rated:
        return None
    before = _before(columns, [answer])
    if columns[answer].kind == "text" and "prompt" not in before:
        return None
    objectives = {_slug(name): {"column": name, **_scale(columns[name])} for name in rated}
    wanted = [name for name in objectives if not _UNWANTED.search(name)] or [*objectives]
    best = [name for name in wanted if re.search("overall|quality", name)][:1] or wanted
    settings = {**before, "response": answer, "objectives": objectives, "pairs_from": best}
    remarks = {"pairs_from": "what ranks the answers to one prompt, the higher the better"}
    return Proposal("ratings", settings, remarks)


def _scale(column: Column) -> dict[str, Any]:
    """Return the smallest usual scale that holds the values."""
    if column.kind == "boolean" or {*map(verdict_word, column.values)} <= {"0", "1"}:
        return {"lo": 0, "hi": 1, "rule": "boolean"}
    numbers = [float(value) for value in column.values]
    lo, hi = min(numbers), max(numbers)
    if lo >= 0 and hi <= 1:
        return {"lo": 0, "hi": 1, "rule": "min_max"}
    usual = [scale for scale in _SCALES if scale[0] == (lo >= 1) and lo >= 0 and hi <= scale[1]]
    if usual and hi > usual[0][1] / 10:
        return {"lo": usual[0][0], "hi": usual[0][1]}
    return {"lo": lo, "hi": hi, "rule": "min_max"}


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "rating"

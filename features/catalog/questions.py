"""The questions that people who train reward models ask of the store, one SELECT in a file of `sql/questions/` each.

A file's head says what it answers, its grain and key, and its parameters, which DuckDB takes by name:

    -- parameter n = 20: how many            with a default, whose type is the parameter's
    -- parameter conversation_id: which one  required, and a text
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from armorm.features.catalog.bounded import Limits
from armorm.features.catalog.query import LIMITS, QueryResult, query
from armorm.features.catalog.views import BEFORE
from armorm.features.errors import InputError
from armorm.features.store import Store
from armorm.features.tables import SQL

QUESTIONS: Final = SQL / "questions"

Value = str | int

_PARAMETER: Final = re.compile(r"^-- parameter (\w+)(?: = (.+?))?: (.+)$", re.MULTILINE)
_WHAT: Final = re.compile(r"\A-- \w+: (.+?)\n(?=-- (?:parameter \w+(?: = .+?)?|grain): )", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a question can be told."""

    name: str
    what: str
    default: Value | None
    """None where one has to be given."""

    def value(self, given: object) -> Value:
        """Return a given value, or its text, in the parameter's type.

        Raises:
            InputError: it is of another type.
        """
        if not isinstance(self.default, int):
            return str(given)
        if not re.fullmatch(r"[0-9]{1,9}", str(given)):  # every number is a count of something
            raise InputError(
                f"got {self.name} = {given}; expected a whole number, 0 or more ({self.what}); "
                f"say {self.name}={self.default}"
            )
        return int(str(given))

    def __str__(self) -> str:
        return self.name if self.default is None else f"{self.name} = {self.default}"


@dataclass(frozen=True, slots=True)
class Question:
    """One file of `sql/questions/`."""

    name: str
    what: str
    """What it answers, in words."""
    parameters: tuple[Parameter, ...]
    sql: str

    def values(self, given: Mapping[str, object]) -> dict[str, Value]:
        """Return a value for every parameter: what is given, else its default.

        Raises:
            InputError: a parameter is not known, is missing, or has a value of another type.
        """
        expected = ", ".join(map(str, self.parameters)) or "no parameters"
        if unknown := sorted(given.keys() - {parameter.name for parameter in self.parameters}):
            raise InputError(
                f"question {self.name}: got parameter {', '.join(unknown)}; expected {expected}; correct the name"
            )
        for parameter in self.parameters:
            if parameter.default is None and parameter.name not in given:
                raise InputError(
                    f"question {self.name}: got no {parameter.name}; expected {parameter.what}; "
                    f"say {parameter.name}=<value>"
                )
        return {of.name: of.value(given.get(of.name, of.default)) for of in self.parameters}


def list_questions() -> list[Question]:
    """Return every question, in alphabetical order."""
    return [_read(path) for path in sorted(QUESTIONS.glob("*.sql"))]


def ask(
    store: Store,
    name: str,
    /,
    *,
    at: str = "head",
    before: str = "previous",
    limits: Limits = LIMITS,
    **parameters: object,
) -> QueryResult:
    """Return the answer to a question; parameters that are not given have their defaults.

    Args:
        before: the earlier one, for a question that compares the two.

    Raises:
        InputError: there is no such question, or its parameters are not these.
        NotInStore: there is no such snapshot.
        QueryError: DuckDB cannot answer it; the message says why.
    """
    questions = {question.name: question for question in list_questions()}
    if name not in questions:
        raise InputError(f"got question {name}; expected one of {', '.join(questions)}; correct the name")
    question = questions[name]
    values = question.values(parameters)
    earlier = store.snapshot(before) if f"{BEFORE}." in question.sql else None
    return query(store, question.sql, values or None, snapshot=store.snapshot(at), before=earlier, limits=limits)


def _read(path: Path) -> Question:
    sql = path.read_text()
    what = _WHAT.match(sql)
    assert what, path
    parameters = tuple(Parameter(name, of, _default(text)) for name, text, of in _PARAMETER.findall(sql))
    return Question(path.stem, what[1].replace("\n-- ", " ").removesuffix("."), parameters, sql)


def _default(text: str) -> Any:
    return int(text) if text.isdecimal() else text or None

"""Forms of one's own datasets as a configuration describes them."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from armorm.features.objectives import Scale
from armorm.features.sources.base import shown
from armorm.features.sources.own import (
    FORMS,
    ConversationColumns,
    Form,
    ListsForm,
    PairsForm,
    Rating,
    RatingsForm,
    VerdictForm,
    verdict_word,
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A published dataset, or a format of several, that a form says all about."""

    form: Form
    upstream: str = "own"
    licence: str = "not stated"
    evaluation: bool = False
    files: tuple[str, ...] = ()
    """The files that are read; see `Source`."""


def form_of(kind: str, given: Mapping[str, Any]) -> Form:
    """Return the form that a configuration describes: a ready-made one, or one with names of columns.

    Args:
        kind: `ratings`, `pairs`, `verdict`, `lists`, or a name in `RECIPES`.
        given: fields of the form; for ratings those of `ConversationColumns` and `RatingsForm` together, where an
            objective is `{column, lo, hi, rule}`, its column having its name by default.

    Raises:
        ValueError: a name or a value is not allowed, or one is missing.
    """
    if kind in RECIPES:
        _check_fields(kind, given, {})
        return RECIPES[kind].form
    return _described(kind, given)


def _described(kind: str, given: Mapping[str, Any]) -> Form:
    if kind in _DESCRIBED:
        form, types, required = _DESCRIBED[kind]
        _check_fields(kind, given, types, required=required)
        _check_fields("items", given.get("items", {}), dict.fromkeys(given.get("items", {}), str))
        described: Form = form(
            **{name: _words(name, value) if type(value) is list else value for name, value in given.items()}
        )
        return described
    if kind != "ratings":
        raise ValueError(
            f"got form {kind!r}; expected ratings, {', '.join(_DESCRIBED)}, {', '.join(RECIPES)}; choose one"
        )
    _check_fields(kind, given, _RATINGS, required=("response", "objectives"))
    _check_fields("objectives", given["objectives"], dict.fromkeys(given["objectives"], dict))
    columns = {name: column for name, column in given.items() if name not in ("objectives", "pairs_from")}
    objectives = {name: _rating(name, of) for name, of in given["objectives"].items()}
    return RatingsForm(ConversationColumns(**columns), objectives, tuple(map(str, given.get("pairs_from", ()))))


def _words(name: str, values: list[Any]) -> tuple[str, ...]:
    """Return columns by name, or verdicts as they are compared."""
    return tuple(map(str if name in ("answers", "variants") else verdict_word, values))


def _rating(objective: str, given: Mapping[str, Any]) -> Rating:
    _check_fields(f"objective {objective}", given, _RATING, required=("lo", "hi"))
    scale = {name: value for name, value in given.items() if name != "column"}
    try:
        return Rating(given.get("column", objective), Scale(**scale))
    except ValueError as error:
        raise ValueError(f"objective {objective}: {error}") from error


_TYPES: Final = {str: "text", float: "a number", list: "a list", dict: "a table"}
_CONVERSATION: Final = dict.fromkeys(("prompt", "system", "style"), str)
_PAIRS: Final = {
    **dict.fromkeys(("chosen", "rejected", "chosen_score", "rejected_score", "ties", "objective", "subset"), str),
    **_CONVERSATION,
}
_VERDICTS: Final = {
    **dict.fromkeys(("answers", "first", "second", "tie"), list),
    **dict.fromkeys(("verdict", "first_is", "objective", "subset"), str),
    **_CONVERSATION,
}
_LISTS: Final = {
    **dict.fromkeys(("chosen", "rejected", "answers", "scores", "ranks", "objective", "subset"), str),
    "items": dict,
    "variants": list,
    **_CONVERSATION,
}
_DESCRIBED: Final[Mapping[str, tuple[Any, Mapping[str, type], Sequence[str]]]] = {
    "pairs": (PairsForm, _PAIRS, ("chosen", "rejected")),
    "verdict": (VerdictForm, _VERDICTS, ("answers", "verdict")),
    "lists": (ListsForm, _LISTS, ()),
}
_RATINGS: Final = {"response": str, "objectives": dict, "pairs_from": list, **_CONVERSATION}
_RATING: Final = {"lo": float, "hi": float, "column": str, "rule": str}


def _check_fields(
    of: str, given: Mapping[str, Any], types: Mapping[str, type], *, required: Sequence[str] = ()
) -> None:
    for name, value in given.items():
        if name not in types:
            listed = ", ".join(types) or "none"
            raise ValueError(f"got {name} for {of}; expected {listed}; correct its name or remove it")
        if not isinstance(value, types[name]) and not (types[name] is float and type(value) is int):
            raise ValueError(f"got {name} = {shown(value)} for {of}; expected {_TYPES[types[name]]}; correct it")
    for name in required:
        if name not in given:
            raise ValueError(f"got no {name} for {of}; expected {', '.join(required)}; add it")


def _recipe(given: Mapping[str, Any]) -> Recipe:
    about = {name: given[name] for name in ("upstream", "licence", "evaluation") if name in given}
    described = {name: value for name, value in given.items() if name not in (*about, "files", "form")}
    return Recipe(_described(given["form"], described), files=tuple(given.get("files", ())), **about)


_PUBLISHED: Final = tomllib.loads((Path(__file__).parent / "recipes.toml").read_text(encoding="utf-8"))

RECIPES: Final[Mapping[str, Recipe]] = MappingProxyType(
    {name: Recipe(form) for name, form in FORMS.items()} | {name: _recipe(of) for name, of in _PUBLISHED.items()}
)
"""Ready-made forms, by the name that `form` takes."""

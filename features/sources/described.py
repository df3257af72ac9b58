"""Forms of one's own datasets as a configuration describes them."""

from collections.abc import Mapping, Sequence
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


def form_of(kind: str, given: Mapping[str, Any]) -> Form:
    """Return the form that a configuration describes: a ready-made one, or one with names of columns.

    Args:
        kind: `ratings`, `pairs`, `verdict`, `lists`, or a name in `FORMS`.
        given: fields of the form; for ratings those of `ConversationColumns` and `RatingsForm` together, where an
            objective is `{column, lo, hi, rule}`, its column having its name by default.

    Raises:
        ValueError: a name or a value is not allowed, or one is missing.
    """
    if kind in FORMS:
        _check_fields(kind, given, {})
        return FORMS[kind]
    if kind in _DESCRIBED:
        form, types, required = _DESCRIBED[kind]
        _check_fields(kind, given, types, required=required)
        described: Form = form(
            **{name: _words(name, value) if type(value) is list else value for name, value in given.items()}
        )
        return described
    if kind != "ratings":
        raise ValueError(
            f"got form {kind!r}; expected ratings, {', '.join(_DESCRIBED)}, {', '.join(FORMS)}; choose one"
        )
    _check_fields(kind, given, _RATINGS, required=("response", "objectives"))
    _check_fields("objectives", given["objectives"], dict.fromkeys(given["objectives"], dict))
    columns = {name: column for name, column in given.items() if name not in ("objectives", "pairs_from")}
    objectives = {name: _rating(name, of) for name, of in given["objectives"].items()}
    return RatingsForm(ConversationColumns(**columns), objectives, tuple(map(str, given.get("pairs_from", ()))))


def _words(name: str, values: list[Any]) -> tuple[str, ...]:
    """Return columns by name, or verdicts as they are compared."""
    return tuple(map(str if name == "answers" else verdict_word, values))


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

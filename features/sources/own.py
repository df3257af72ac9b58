"""Datasets of one's own, and published merged ones, described by their columns: no code of their own.

A form says which columns hold what; `source_of` makes of it a dataset like all others. `FORMS` are ready-made: the
formats that RLHFlow published merged data in, and the plainest one.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from armorm.features.conversation import Conversation
from armorm.features.objectives import OBJECTIVES, Scale
from armorm.features.sources.base import MISSING, Options, PairRule, Pairs, Rated, Rows, Source, shown
from armorm.features.sources.forms import Ties, margins, transcripts
from armorm.features.sources.reading import read_conversation

Style = Literal["text", "messages", "transcript"]
"""How conversations are written: a prompt and a response as text, a list of `{role, content}`, or one string with
`Human:` and `Assistant:` before the turns."""

_OBJECTIVE: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class ConversationColumns:
    """The columns that a conversation is read from."""

    response: str
    """The column of the response; of the messages, or of the transcript, that end with it in the other styles."""
    prompt: str | None = None
    """The column of the prompt, needed for text; for messages, of what comes before them: messages, or text."""
    system: str | None = None
    """The column of the system prompt, which may be null or empty; for text and messages."""
    style: Style = "text"

    def __post_init__(self) -> None:
        if self.style not in get_args(Style):
            raise ValueError(f"got style {self.style!r}; expected {' or '.join(get_args(Style))}; choose one")
        if self.style == "text" and self.prompt is None:
            raise ValueError("got no prompt; expected its column where style is text; name it or choose another style")
        if self.style == "transcript" and self.prompt is not None:
            raise ValueError(f"got prompt {self.prompt!r}; expected none where style is transcript; remove it")
        if self.style == "transcript" and self.system is not None:
            raise ValueError(f"got system {self.system!r}; expected none where style is {self.style}; remove it")

    def read(self, rows: Rows) -> list[Conversation]:
        """Return the conversation of each row."""
        if self.style == "transcript":
            return transcripts(rows, self.response)
        absent = [None] * len(rows)
        columns = [
            rows.required(self.response),
            rows.required(self.prompt) if self.prompt else absent,
            rows.values(self.system) if self.system else absent,
        ]
        names = [name for name in (self.response, self.prompt, self.system) if name]
        return rows.conversations(columns, names, read_conversation)


@dataclass(frozen=True, slots=True)
class Rating:
    """The column of an objective's ratings, and their scale; null is no rating."""

    column: str
    scale: Scale


@dataclass(frozen=True, slots=True)
class RatingsForm:
    """One conversation a row, rated on any number of objectives."""

    conversation: ConversationColumns
    objectives: Mapping[str, Rating]
    """The ratings by the name of their objective: lower-case letters, digits and `-_.`."""
    pairs_from: tuple[str, ...] = ()
    """Objectives whose mean ranks the responses to one prompt, which gives pairs; without any, there are none."""

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ValueError("got no objectives; expected at least one; name it with its column and scale")
        for name in self.objectives:
            if not _OBJECTIVE.fullmatch(name):
                raise ValueError(
                    f"got objective {name!r}; expected lower-case letters, digits and -_. beginning with a letter or "
                    "digit; rename it"
                )
        for name in self.pairs_from:
            if name not in self.objectives or self.pairs_from.count(name) > 1:
                raise ValueError(
                    f"got pairs_from {name!r}; expected {' or '.join(self.objectives)}, each once; correct or remove it"
                )


@dataclass(frozen=True, slots=True)
class PairsForm:
    """Two conversations a row, the first preferred."""

    chosen: str
    """The column of the preferred response, as in `ConversationColumns`."""
    rejected: str
    prompt: str | None = None
    system: str | None = None
    style: Style = "text"
    chosen_score: str | None = None
    """The columns of both scores, whose difference is the margin; null is no score."""
    rejected_score: str | None = None
    ties: Ties = "keep"
    """What becomes of pairs whose scores are the same."""
    scores_required: bool = True
    """Whether it is a fault where a row has no such columns."""

    def __post_init__(self) -> None:
        self.sides()
        if (self.chosen_score is None) != (self.rejected_score is None):
            raise ValueError(
                f"got chosen_score {self.chosen_score!r} and rejected_score {self.rejected_score!r}; expected both or "
                "neither; add or remove one"
            )
        if self.ties not in get_args(Ties):
            raise ValueError(f"got ties {self.ties!r}; expected {' or '.join(get_args(Ties))}; choose one")

    def sides(self) -> tuple[ConversationColumns, ConversationColumns]:
        """Return the columns that the chosen and the rejected conversation are read from."""
        chosen, rejected = (
            ConversationColumns(column, self.prompt, self.system, self.style) for column in (self.chosen, self.rejected)
        )
        return chosen, rejected


Form = RatingsForm | PairsForm


def source_of(name: str, form: Form, *, licence: str, evaluation: bool, upstream: str = "") -> Source:
    """Return a dataset that comes in the form."""
    if isinstance(form, PairsForm):
        parse_pairs = partial(_parse_pairs, form)
        return Source(name, upstream, licence, parse_pairs, pairs=True, evaluation=evaluation)
    return Source(
        name,
        upstream,
        licence,
        partial(_parse_ratings, form),
        scales={objective: rating.scale for objective, rating in form.objectives.items()},
        pairs=bool(form.pairs_from),
        pair_rule=partial(_pair_rule, form) if form.pairs_from else None,
        evaluation=evaluation,
    )


def _parse_ratings(form: RatingsForm, rows: Rows, options: Options) -> Iterator[Rated]:
    conversations = form.conversation.read(rows)
    ratings = {
        objective: rows.rating(rating.column, absent=(None,), booleans=rating.scale.rule == "boolean")
        for objective, rating in form.objectives.items()
    }
    yield Rated(rows, conversations, ratings)


def _pair_rule(form: RatingsForm, options: Options) -> PairRule:
    return PairRule("prompt_id", form.pairs_from)


def _parse_pairs(form: PairsForm, rows: Rows, options: Options) -> Iterator[Pairs]:
    chosen, rejected = (side.read(rows) for side in form.sides())
    differences = None
    if form.chosen_score and form.rejected_score:
        absent = (None,) if form.scores_required else (None, MISSING)
        scores = [rows.rating(column, absent=absent) for column in (form.chosen_score, form.rejected_score)]
        differences = margins(rows, *scores, ties=form.ties)
    yield Pairs(rows, chosen, rejected, differences)


FORMS: Final[Mapping[str, Form]] = MappingProxyType(
    {
        "multi-objective": RatingsForm(
            ConversationColumns("messages", style="messages"),
            {objective: Rating(objective, Scale(0, 1, "min_max")) for objective in OBJECTIVES},
        ),
        "plain-pairs": PairsForm("chosen", "rejected", prompt="prompt"),
        "standard-pairs": PairsForm(
            "chosen",
            "rejected",
            style="messages",
            chosen_score="chosen_score",
            rejected_score="rejected_score",
            scores_required=False,
        ),
    }
)
"""Ready-made: `multi-objective` is RLHFlow/ArmoRM-Multi-Objective-Data-v0.1, whose ratings are mapped to 0..1 already;
`standard-pairs` is the format of RLHFlow's pairs, of which some have scores; `plain-pairs` is three columns of text."""


def form_of(kind: str, given: Mapping[str, Any]) -> Form:
    """Return the form that a configuration describes: a ready-made one, or `ratings` or `pairs` with names of columns.

    Args:
        kind: `ratings`, `pairs`, or a name in `FORMS`.
        given: fields of `PairsForm`; or those of `ConversationColumns` and `RatingsForm` together, where an objective
            is `{column, lo, hi, rule}`, its column having its name by default.

    Raises:
        ValueError: a name or a value is not allowed, or one is missing.
    """
    if kind in FORMS:
        _check_fields(kind, given, {})
        return FORMS[kind]
    if kind == "pairs":
        _check_fields(kind, given, _PAIRS, required=("chosen", "rejected"))
        return PairsForm(**given)
    if kind != "ratings":
        raise ValueError(f"got form {kind!r}; expected ratings, pairs, {', '.join(FORMS)}; choose one")
    _check_fields(kind, given, _RATINGS, required=("response", "objectives"))
    _check_fields("objectives", given["objectives"], dict.fromkeys(given["objectives"], dict))
    columns = {name: column for name, column in given.items() if name not in ("objectives", "pairs_from")}
    objectives = {name: _rating(name, of) for name, of in given["objectives"].items()}
    return RatingsForm(ConversationColumns(**columns), objectives, tuple(map(str, given.get("pairs_from", ()))))


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
    **dict.fromkeys(("chosen", "rejected", "chosen_score", "rejected_score", "ties"), str),
    **_CONVERSATION,
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

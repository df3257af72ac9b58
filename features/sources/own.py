"""Datasets of one's own, and published merged ones, described by their columns: no code of their own.

A form says which columns hold what; `source_of` makes of it a dataset like all others. `FORMS` are ready-made: the
formats that RLHFlow published merged data in, and the plainest one.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import accumulate, chain, permutations
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from armorm.features.conversation import Conversation, MalformedConversation, check_conversation
from armorm.features.objectives import OBJECTIVES, Scale
from armorm.features.sources.base import (
    MISSING,
    Options,
    PairRule,
    Pairs,
    Rated,
    Record,
    Rows,
    Source,
    as_number,
    shown,
)
from armorm.features.sources.forms import Ties, better_first, margins, transcripts
from armorm.features.sources.reading import is_absent, is_turn, read_conversation

Style = Literal["text", "messages", "transcript"]
"""How conversations are written: a prompt and a response as text, a list of `{role, content}`, or one string with
`Human:` and `Assistant:` before the turns."""

WON: Final = Scale(0, 1, "min_max")
"""The scale of an objective that preferences are ratings of."""

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
            _check_objective(name)
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
    objective: str | None = None
    """The objective that a preference is a rating of: 1 of the preferred answer, 0 of the other one."""
    subset: str | None = None
    """The column of the part of a benchmark that a row belongs to."""

    def __post_init__(self) -> None:
        _conversations_of(self, self.chosen)
        _check_objective(self.objective)
        if (self.chosen_score is None) != (self.rejected_score is None):
            raise ValueError(
                f"got chosen_score {self.chosen_score!r} and rejected_score {self.rejected_score!r}; expected both or "
                "neither; add or remove one"
            )
        if self.ties not in get_args(Ties):
            raise ValueError(f"got ties {self.ties!r}; expected {' or '.join(get_args(Ties))}; choose one")

    @property
    def answers(self) -> tuple[str, str]:
        """The columns of the answers."""
        return self.chosen, self.rejected


@dataclass(frozen=True, slots=True)
class VerdictForm:
    """Two conversations a row, and a column that says which one is better."""

    answers: tuple[str, ...]
    """The columns of the first and the second answer, as `response` in `ConversationColumns`."""
    verdict: str
    """The column of the verdict: a word, a label, or a signed number. A tie drops the row."""
    prompt: str | None = None
    system: str | None = None
    style: Style = "text"
    first: tuple[str, ...] = ()
    """What says that the first answer is better; by default `FIRST` and the name of its column. Case is ignored."""
    second: tuple[str, ...] = ()
    tie: tuple[str, ...] = ()
    first_is: str | None = None
    """The sign that prefers the first answer, where the verdict is a number: its size is the margin, and 0 is a tie."""
    objective: str | None = None
    """The objective that the verdict is a rating of; see `PairsForm`."""
    subset: str | None = None

    def __post_init__(self) -> None:
        if len({*self.answers}) != 2:
            raise ValueError(f"got answers {', '.join(self.answers)}; expected two different columns; name both")
        _conversations_of(self, self.answers[0])
        _check_objective(self.objective)
        if self.first_is not in (None, "negative", "positive"):
            raise ValueError(f"got first_is {self.first_is!r}; expected negative or positive; choose one")
        if bool(self.first) != bool(self.second) or (self.first_is and (self.first or self.tie)):
            raise ValueError(
                "got some of first, second, tie and first_is; expected first and second, or first_is alone, or neither"
            )
        if {*self.first} & {*self.second, *self.tie} or {*self.second} & {*self.tie}:
            raise ValueError("got a verdict twice among first, second and tie; expected each once; remove one")

    def preference(self, verdict: Any) -> float | None:
        """Return by how much the first answer is better: below 0 if the second is, 0 for a tie, None if unknown."""
        if self.first_is:
            number = as_number(verdict)
            return number if number is None or self.first_is == "positive" else -number
        word = verdict_word(verdict)
        first, second = (
            getattr(self, name) or (*words, column.lower())
            for name, words, column in zip(("first", "second"), (FIRST, SECOND), self.answers, strict=True)
        )
        known = [(1.0, first), (-1.0, second), (0.0, self.tie or TIE)]
        return next((preference for preference, words in known if word in words), None)


@dataclass(frozen=True, slots=True)
class ListsForm:
    """Any number of answers a row: lists of chosen and of rejected ones, or one list with scores, ranks or in order.

    Each answer makes a pair with each of those that it is better than.
    """

    chosen: str | None = None
    """The column of the preferred answers: a list of answers, or one."""
    rejected: str | None = None
    answers: str | None = None
    """The column of all answers; without scores and ranks the best is the first."""
    scores: str | None = None
    """The column of the answers' scores, of which the difference is the margin."""
    ranks: str | None = None
    """The column of the answers' ranks, the lowest for the best."""
    prompt: str | None = None
    system: str | None = None
    style: Style = "text"
    objective: str | None = None
    """The objective that the order is a rating of: 1 of a row's best answers, 0 of its worst, others between."""
    subset: str | None = None
    """The column of the part of a benchmark; see `PairsForm`."""
    items: Mapping[str, str] = field(default_factory=dict)
    """Subset to the column that names a row within it, where that is needed: `Ties/ref:3` is then the subset of row
    `ref:3` of `Ties`."""
    variants: tuple[str, ...] = ()
    """What both lists hold at each place, from plain to elaborate: `chat/hard` is then the subset of a pair whose
    chosen answer is the plainer one. See `_difficulties`."""

    def __post_init__(self) -> None:
        _check_objective(self.objective)
        if (self.items or self.variants) and not self.subset:
            raise ValueError("got items or variants without subset; expected its column; add it or remove them")
        if self.variants and (self.answers or len({*self.variants}) < max(2, len(self.variants))):
            raise ValueError(
                f"got variants {', '.join(self.variants)}; expected two or more, each once, beside chosen and rejected"
            )
        if self.style == "transcript":
            raise ValueError("got style 'transcript'; expected text or messages for lists; choose one")
        _conversations_of(self, _ANSWER)
        if bool(self.chosen) != bool(self.rejected) or bool(self.chosen) == bool(self.answers):
            raise ValueError("got some of chosen, rejected and answers; expected chosen and rejected, or answers")
        if (self.scores or self.ranks) and (not self.answers or (self.scores and self.ranks)):
            raise ValueError("got scores or ranks; expected one of them, beside answers; remove one")

    def standings(self, rows: Rows) -> list[list[tuple[Any, float]]]:
        """Return the answers of each row, each with a number that is the higher the better it is."""
        if self.chosen and self.rejected:
            sides = [_lists(rows, column, self.variants) for column in (self.chosen, self.rejected)]
            return [[(a, 1.0) for a in good] + [(a, 0.0) for a in bad] for good, bad in zip(*sides, strict=True)]
        answers, column = _lists(rows, str(self.answers)), self.scores or self.ranks
        if not column:
            return [[(answer, float(-place)) for place, answer in enumerate(of_row)] for of_row in answers]
        sign = 1 if self.scores else -1
        numbers = [[as_number(cell) for cell in cells_of(value) or []] for value in rows.required(column)]
        fits = [None not in of and len(of) == len(answers[row]) for row, of in enumerate(numbers)]
        rows.reject_where(
            (not fit for fit in fits),
            "scores_do_not_match",
            lambda row: f"column {column}: got {shown(rows.cells[row].get(column))}; expected a number for each answer",
        )
        return [
            [(answer, sign * number) for answer, number in zip(*of_row, strict=True) if number is not None]
            if fit
            else []
            for fit, *of_row in zip(fits, answers, numbers, strict=True)
        ]


Form = RatingsForm | PairsForm | VerdictForm | ListsForm

FIRST: Final = ("a", "a>b", "a>>b", "model_a", "response_a", "answer_a", "first", "left")
SECOND: Final = ("b", "b>a", "b>>a", "model_b", "response_b", "answer_b", "second", "right")
TIE: Final = ("tie", "a=b", "tie (bothbad)", "bothbad", "both_bad", "both", "neither", "draw", "equal", "same")
"""Words of verdicts. A number is not among them: 1 may be the first answer of two, or the second of 0 and 1."""

SIDES: Final = ("chosen", "rejected")
_ANSWER: Final = "answer"


def verdict_word(verdict: Any) -> str:
    """Return a verdict as it is compared: 1.0 is 1, `Model_A` is model_a."""
    number = as_number(verdict)
    return str(verdict).strip().lower() if number is None else f"{number:g}"


def source_of(name: str, form: Form, *, licence: str, evaluation: bool, upstream: str = "") -> Source:
    """Return a dataset that comes in the form."""
    if isinstance(form, RatingsForm):
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
    parse: Any = {PairsForm: _parse_pairs, VerdictForm: _parse_verdicts, ListsForm: _parse_lists}[type(form)]
    scales = {form.objective: WON} if form.objective else {}
    return Source(name, upstream, licence, partial(parse, form), scales=scales, pairs=True, evaluation=evaluation)


def columns_of(form: Form) -> tuple[str, ...]:
    """Return the columns without which a row is not of the form."""
    if isinstance(form, RatingsForm):
        names: Sequence[str | None] = (form.conversation.prompt, form.conversation.response)
    elif isinstance(form, ListsForm):
        names = (form.prompt, form.chosen, form.rejected, form.answers)
    else:
        names = (form.prompt, *form.answers)
    return tuple([name for name in names if name])


def definition_of(form: Form) -> dict[str, Any]:
    """Return what an ingest in the form depends on; what is not used and older versions did not have is left out."""
    return {name: value for name, value in asdict(form).items() if value or name not in ("items", "variants")}


def answers_of(form: Form, data: Mapping[str, Any]) -> list[tuple[str, Conversation]]:
    """Return the conversations of one row, as an ingest reads them, each with what it is called.

    Raises:
        MalformedConversation: one of them cannot be read.
    """
    rows = Rows([data])
    if isinstance(form, RatingsForm):
        read = [("conversation", form.conversation.read(rows)[0])]
    elif isinstance(form, ListsForm):
        parts, conversations = _answers(form, rows, form.standings(rows))
        rows.faults |= dict(enumerate(parts.faults.values(), start=1))
        read = [(f"{_ANSWER} {number}", messages) for number, messages in enumerate(conversations, start=1)]
    else:
        called = SIDES if isinstance(form, PairsForm) else form.answers
        sides = [_conversations_of(form, column).read(rows)[0] for column in form.answers]
        read = list(zip(called, sides, strict=True))
    for fault in rows.faults.values():
        raise MalformedConversation(fault.reason, fault.detail)
    for _, messages in read:
        check_conversation(messages)
    if len({messages[:-1] for _, messages in read}) > 1:
        names = " and ".join(name for name, _ in read)
        raise MalformedConversation("context_differs", f"{names} do not answer the same prompt")
    return read


def _conversations_of(form: PairsForm | VerdictForm | ListsForm, answer: str) -> ConversationColumns:
    """Return the columns that an answer's conversation is read from."""
    return ConversationColumns(answer, form.prompt, form.system, form.style)


def _check_objective(name: str | None) -> None:
    if name is not None and not _OBJECTIVE.fullmatch(name):
        raise ValueError(
            f"got objective {name!r}; expected lower-case letters, digits and -_. beginning with a letter or digit; "
            "rename it"
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


def _parse_pairs(form: PairsForm, rows: Rows, options: Options) -> Iterator[Record]:
    chosen, rejected = (_conversations_of(form, name).read(rows) for name in form.answers)
    differences = None
    if form.chosen_score and form.rejected_score:
        absent = (None,) if form.scores_required else (None, MISSING)
        scores = [rows.rating(column, absent=absent) for column in (form.chosen_score, form.rejected_score)]
        differences = margins(rows, *scores, ties=form.ties)
    yield from _won(rows, chosen, rejected, form.objective)
    yield Pairs(rows, chosen, rejected, differences, _subsets(form, rows))


def _parse_verdicts(form: VerdictForm, rows: Rows, options: Options) -> Iterator[Record]:
    sides = [_conversations_of(form, name).read(rows) for name in form.answers]
    verdicts = rows.required(form.verdict)
    preferences = [form.preference(verdict) for verdict in verdicts]
    rows.reject_where(map(is_absent, verdicts), "no_verdict", lambda _: f"column {form.verdict}: got none")
    rows.reject_where(
        (preference is None for preference in preferences),
        "unknown_verdict",
        lambda row: f"column {form.verdict}: got {shown(verdicts[row])}; expected {_expected(form)}",
    )
    rows.drop_where((preference == 0 for preference in preferences), "tie")
    chosen, rejected = better_first(sides, ((preference or 0) > 0 for preference in preferences))
    yield from _won(rows, chosen, rejected, form.objective)
    sizes = [abs(preference or 0) for preference in preferences] if form.first_is else None
    yield Pairs(rows, chosen, rejected, sizes, _subsets(form, rows))


def _expected(form: VerdictForm) -> str:
    if form.first_is:
        return "a number"
    return f"{', '.join(form.first or FIRST)} or {', '.join(form.second or SECOND)}, or {', '.join(form.tie or TIE)}"


def _subsets(form: PairsForm | VerdictForm | ListsForm, rows: Rows) -> list[str] | None:
    return rows.text(form.subset) if form.subset else None


def _won(
    rows: Rows, chosen: Sequence[Conversation], rejected: Sequence[Conversation], objective: str | None
) -> Iterator[Rated]:
    if objective:
        yield Rated(rows, chosen, {objective: [1.0] * len(rows)})
        yield Rated(rows, rejected, {objective: [0.0] * len(rows)})


def _parse_lists(form: ListsForm, rows: Rows, options: Options) -> Iterator[Record]:
    standings = form.standings(rows)
    answers, conversations = _answers(form, rows, standings)
    numbers = [[number for _, number in of_row] for of_row in standings]
    rows.drop_where((len(of_row) > 1 and len({*of_row}) == 1 for of_row in numbers), "tie")
    for answer, fault in answers.faults.items():
        answers.refuse(answer, fault.reason, fault.detail)
    ends = list(accumulate(map(len, numbers), initial=0))
    decided = [
        [
            (start + i, start + j, of_row[i] - of_row[j])
            for i, j in permutations(range(len(of_row)), 2)
            if of_row[i] > of_row[j] and not {start + i, start + j} & answers.faults.keys()
        ]
        for start, of_row in zip(ends, numbers, strict=False)
    ]
    pairs = rows.parts([[{}] * len(of_row) for of_row in decided], "pair")
    chosen, rejected, differences = zip(*chain.from_iterable(decided), strict=True) if len(pairs) else ((), (), ())
    if form.objective:
        values = [value for of_row in numbers for value in _between(of_row)]
        sound = [None if answer in answers.faults else value for answer, value in enumerate(values)]
        yield Rated(answers, conversations, {form.objective: sound})
    subsets = pairs.of_whole(_row_subsets(form, rows)) if form.subset else None
    if subsets and form.variants:
        levels = [_difficulties(of, start, form, conversations) for start, of in zip(ends, decided, strict=False)]
        subsets = [f"{name}/{level}" for name, level in zip(subsets, chain.from_iterable(levels), strict=True)]
    yield Pairs(
        pairs,
        [conversations[answer] for answer in chosen],
        [conversations[answer] for answer in rejected],
        differences if form.scores else None,
        subsets,
    )


def _row_subsets(form: ListsForm, rows: Rows) -> list[str]:
    """Return each row's subset, with the row's name where the form asks for it."""
    subsets = _subsets(form, rows) or []
    for subset, column in form.items.items():
        names = rows.values(column)
        rows.reject_where(
            (of == subset and type(name) is not str for of, name in zip(subsets, names, strict=True)),
            "wrong_type",
            lambda row, column=column, names=names: (  # type: ignore[misc]
                f"column {column}: got {shown(names[row])}; expected text"
            ),
        )
        subsets = [f"{of}/{name}" if of == subset else of for of, name in zip(subsets, names, strict=True)]
    return subsets


def _difficulties(
    pairs: Sequence[tuple[int, int, float]], start: int, form: ListsForm, conversations: Sequence[Conversation]
) -> list[str]:
    """Return how hard the pairs of a row are: `easy` where the chosen answer is the more elaborate variant.

    Where answers are the same in several variants, a pair of them stands for several and has the names of all.
    """
    levels: dict[tuple[Conversation, Conversation], list[str]] = {}
    for chosen, rejected, _ in pairs:
        further = chosen - start - (rejected - start - len(form.variants))
        level = "easy" if further > 0 else "hard" if further < 0 else "normal"
        levels.setdefault((conversations[chosen], conversations[rejected]), []).append(level)
    return ["+".join(sorted(levels[conversations[chosen], conversations[rejected]])) for chosen, rejected, _ in pairs]


def _between(numbers: Sequence[float]) -> list[float | None]:
    """Return 1 for the highest, 0 for the lowest, and what is between in proportion; nothing where all are alike."""
    lowest, highest = min(numbers, default=0.0), max(numbers, default=0.0)
    return [(number - lowest) / (highest - lowest) if highest > lowest else None for number in numbers]


def _answers(
    form: ListsForm, rows: Rows, standings: Sequence[Sequence[tuple[Any, float]]]
) -> tuple[Rows, list[Conversation]]:
    """Return all answers as rows of their own, each with its prompt, and their conversations."""
    parts = rows.parts([[{_ANSWER: answer} for answer, _ in of_row] for of_row in standings], _ANSWER)
    names = [name for name in (form.prompt, form.system) if name]
    before = [
        parts.of_whole(read(name) if name else [None] * len(rows))
        for name, read in ((form.prompt, rows.required), (form.system, rows.values))
    ]
    return parts, parts.conversations([parts.values(_ANSWER), *before], [_ANSWER, *names], read_conversation)


def _lists(rows: Rows, column: str, variants: Sequence[str] = ()) -> list[list[Any]]:
    """Return the answers in a column, of which one may stand for a list of it alone; one for each variant, if any."""
    lists = []
    for row, value in enumerate(rows.required(column)):
        answers = cells_of(value)
        if answers is None:
            rows.reject(row, "wrong_type", f"column {column}: got {shown(value)}; expected a list of answers")
        elif variants and len(answers) != len(variants):
            expected = f"{len(variants)}: {', '.join(variants)}"
            rows.reject(
                row, "variants_do_not_match", f"column {column}: got {len(answers)} answers; expected {expected}"
            )
        lists.append(answers or [])
    return lists


def cells_of(value: Any) -> list[Any] | None:
    """Return a list, which may be written as JSON; one text, or the messages of one answer, as a list of it."""
    if type(value) is str and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [value]
    if type(value) is str:
        return [value]
    if type(value) is not list:
        return None
    return [value] if value and all(map(is_turn, value)) else value


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

"""Scoring a file of conversations and pairs, of any size: it is read twice, a chunk in memory at a time.

The first reading finds lines that cannot be scored before anything is, and counts what there is to do.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from armorm.features.conversation import Conversation, MalformedConversation
from armorm.features.errors import MalformedRows, NativeFileError
from armorm.features.ingest.files import survey
from armorm.features.ingest.native import NativeRow, read_rows, table_columns
from armorm.features.objectives import in_order
from armorm.features.sources.own import SIDES, Form
from armorm.maths.steering import Steering
from armorm.model.head import RewardHead
from armorm.scoring.conversations import RowRead, read_row
from armorm.scoring.reward_model import ConversationScores, Unscored, native_scale, score_conversations

if TYPE_CHECKING:
    from armorm.features.embedding.backbone import Backbone

CHUNK: Final = 1024
"""Conversations that are embedded at once, at most."""

CHUNK_CHARS: Final = 4_000_000
"""Characters of a chunk, from which on it is full."""

LISTED: Final = 10
"""Lines that cannot be used, from which on no more are looked for."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One conversation to score."""

    file: Path
    line: int
    side: str
    """`conversation`, or `chosen` or `rejected` of a pair."""
    messages: Conversation


@dataclass(frozen=True, slots=True)
class Scored:
    """A conversation's score and what made it, by objective."""

    line: int
    side: str
    score: float
    rewards: dict[str, float | None]
    """Predicted, in 0..1; None for an objective that the model was not trained on."""
    native: dict[str, float | None]
    """The rewards in the units of the ratings; None where the objective's datasets have several."""
    gating: dict[str, float]
    """The gate's weights, which sum to 1, or what steering has made of them."""
    coefficients: dict[str, float]
    """On the raw rewards: `sum(rewards * coefficients) == score`."""
    contributions: dict[str, float]
    """What sums to the score, the largest first: gate times reward, and in one term what decorrelation takes out."""
    off_scale: dict[str, str]
    """Objective to its native scale, of those whose reward in native units lies beyond it."""
    truncated: bool
    """True if the text lost its beginning, being longer than the backbone allows."""
    deviation: float | None = None
    """Standard deviation of the score; None where no bound was asked for, as the next two."""
    lower: float | None = None
    deviations: dict[str, float] | None = None
    """Standard deviations of the rewards."""

    def as_json(self, *, explain: bool) -> Json:
        """Return it as JSON can hold it; what explains a score only on request."""
        left_out = () if explain else ("contributions", "off_scale")
        return {name: value for name, value in asdict(self).items() if name not in left_out and value is not None}


def count_requests(
    file: Path, forms: Sequence[Form] = (), *, on_note: Callable[[str], None] = lambda note: None
) -> int:
    """Return the conversations of a file, or of all files of a folder, both sides of a pair; all of them can be read.

    Args:
        file: or folder.
        forms: of one's own datasets, as whose rows lines with their columns are read.
        on_note: told what of the rows is not scored, and which columns were given types, each once.

    Raises:
        MalformedRows: some lines cannot be used; the first ten are listed.
        NativeFileError: there are none, or a file cannot be read.
    """
    found = survey(file)
    n_requests, notes, bad = 0, dict.fromkeys(found.notes), list[str]()
    for path in found.read:
        if columns := table_columns(path):
            notes[f"{path.name}: all columns are text: {', '.join(columns)}"] = None
        for read in _read_or_listed(path, forms, bad):
            n_requests += len(read.sides)
            if read.unused:
                notes[f"scored: {' and '.join(read.used)}; not read beside them: {', '.join(read.unused)}"] = None
        if len(bad) == LISTED:
            break
    if bad:
        raise MalformedRows(file, [*bad[:-1], f"{bad[-1]}; nothing was scored"])
    if not n_requests:
        raise NativeFileError(file, "got no conversations; expected one JSON object a line; see `armorm score --help`")
    for note in notes:
        on_note(note)
    return n_requests


def read_requests(file: Path, forms: Sequence[Form] = ()) -> Iterator[Request]:
    """Read every conversation of a file, or of all files of a folder, both sides of a pair.

    Raises:
        NativeFileError: a line cannot be used, or a file cannot be read.
    """
    for path in survey(file).read:
        for row in read_rows(path):
            for side, messages in _read(path, row, forms).sides:
                yield Request(path, row.line, side, messages)


def score_file(
    file: Path,
    model: RewardHead,
    backbone: "Backbone",
    *,
    token_budget: int,
    forms: Sequence[Form] = (),
    steering: Steering | None = None,
    lower: float | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Iterator[list[Scored]]:
    """Score every conversation of a file, and both sides of every pair, a chunk at a time.

    Raises:
        NativeFileError: a line cannot be used, or gets no vector; the chunks before it have been given out.
    """
    n_done = 0
    for chunk in _chunks(read_requests(file, forms)):
        messages = [request.messages for request in chunk]
        try:
            scores = score_conversations(
                model, backbone, messages, steering=steering, lower=lower, token_budget=token_budget
            )
        except Unscored as unscored:
            request = chunk[unscored.place]
            scored = f"{n_done} conversations before it were scored" if n_done else "nothing was scored"
            raise NativeFileError(
                request.file, f"line {request.line}: no vector of it: {unscored.detail}; {scored}"
            ) from unscored
        n_done += len(chunk)
        yield _by_name(model, chunk, scores)
        on_progress(n_done)


def _chunks(requests: Iterator[Request]) -> Iterator[list[Request]]:
    chunk: list[Request] = []
    n_chars = 0
    for request in requests:
        chunk.append(request)
        n_chars += sum(len(content) for _, content in request.messages)
        if (len(chunk) >= CHUNK or n_chars >= CHUNK_CHARS) and request.side != SIDES[0]:  # both sides of a pair
            yield chunk
            chunk, n_chars = [], 0
    if chunk:
        yield chunk


def _read_or_listed(path: Path, forms: Sequence[Form], bad: list[str]) -> Iterator[RowRead]:
    """Yield the lines that can be used; what is wrong with the others is listed, until that is enough."""
    try:
        for row in read_rows(path):
            try:
                yield _read(path, row, forms)
            except NativeFileError as error:
                bad.append(str(error))
                if len(bad) == LISTED:
                    return
    except NativeFileError as error:
        bad.append(str(error))


def _read(path: Path, row: NativeRow, forms: Sequence[Form]) -> RowRead:
    try:
        if row.data is None:
            raise MalformedConversation("malformed_row", row.problem or "not a JSON object")
        return read_row(row.data, forms)
    except MalformedConversation as malformed:
        raise NativeFileError(path, f"line {row.line}: {malformed}; mend the line") from malformed


def _by_name(model: RewardHead, requests: Sequence[Request], scores: ConversationScores) -> list[Scored]:
    untrained: dict[str, float | None] = dict.fromkeys(in_order(model.untrained))

    def by_name(values_K: Any) -> dict[str, Any]:
        return dict(zip(model.objectives, map(float, values_K), strict=True))

    def largest_first(parts: dict[str, float]) -> dict[str, float]:
        return dict(sorted(parts.items(), key=lambda part: -abs(part[1])))

    known = {name: scale for name in model.objectives if (scale := native_scale(model.scales.get(name, {})))}

    def off_scale(native: Mapping[str, float]) -> dict[str, str]:
        return {n: f"{s.lo:g}..{s.hi:g}" for n, s in known.items() if not s.lo <= native[n] <= s.hi}

    return [
        Scored(
            line=request.line,
            side=request.side,
            score=float(scores.score[row]),
            rewards=untrained | by_name(scores.rewards[row]),
            native={n: None if v != v else v for n, v in (untrained | by_name(scores.native[row])).items()},
            gating=by_name(scores.gating[row]),
            coefficients=by_name(scores.coefficients[row]),
            contributions=largest_first(model.terms(scores.contributions[row])),
            off_scale=off_scale(by_name(scores.native[row])),
            truncated=bool(scores.truncated[row]),
            deviation=None if scores.deviation is None else float(scores.deviation[row]),
            lower=None if scores.lower is None else float(scores.lower[row]),
            deviations=None if scores.deviations is None else by_name(scores.deviations[row]),
        )
        for row, request in enumerate(requests)
    ]

"""Scoring a file of conversations and pairs, of any size: it is read twice, a chunk in memory at a time.

The first reading finds lines that cannot be scored before anything is, and counts what there is to do.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from armorm.features.errors import NativeFileError
from armorm.features.ingest.requests import Request, read_requests
from armorm.features.objectives import in_order
from armorm.features.sources.own import SIDES, Form
from armorm.maths.steering import Steering
from armorm.model.head import RewardHead
from armorm.scoring.reward_model import ConversationScores, Unscored, native_scale, score_conversations

if TYPE_CHECKING:
    from armorm.features.embedding.backbone import Backbone

CHUNK: Final = 1024
"""Conversations that are embedded at once, at most."""

CHUNK_CHARS: Final = 4_000_000
"""Characters of a chunk, from which on it is full."""

Json = dict[str, Any]


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

"""Scoring conversations and pairs from a file: parse, embed, and call the model. Nothing is stored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from armorm.model import RewardModel
from armorm.report import Cell, Section
from armorm.stages.model import STAGE, load_model
from features.conversation import (
    Conversation,
    MalformedConversation,
    check_conversation,
    conversation_id,
    prompt_id,
    single_turn,
)
from features.embedding.fingerprint import BackboneSettings, fingerprint
from features.embedding.vectors import Reject, embed_conversations
from features.errors import BackboneError, NativeFileError, NotInStore
from features.ingest.native import NativeRow, find_files, read_rows
from features.objectives import in_order
from features.pointers import promoted
from features.shards import Feature
from features.store import Store

CHUNK = 1024
"""Conversations that are embedded at once."""

SHOWN_OBJECTIVES = 3

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One conversation to score."""

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
    gating: dict[str, float]
    """The gate's weights; they sum to 1."""
    coefficients: dict[str, float]
    """On the raw rewards: `sum(rewards * coefficients) == score`."""
    contributions: dict[str, float]
    """Rewards times coefficients, the largest first: what each objective adds to the score."""
    truncated: bool
    """True if the text lost its beginning, being longer than the backbone allows."""

    def as_json(self, *, explain: bool) -> Json:
        """For a program; the contributions only on request."""
        names = ("line", "side", "score", "rewards", "gating", "coefficients", "truncated")
        record = {name: getattr(self, name) for name in names}
        return record | ({"contributions": self.contributions} if explain else {})


def open_model(name: str, store: Store, models: Path) -> RewardModel:
    """A model by folder, by id or the beginning of one; else the promoted one, or the store's newest.

    Raises:
        NotInStore: there is none.
        ModelFolderError: the folder is damaged.
    """
    if name and Path(name).is_dir():
        return RewardModel.load(Path(name))
    try:
        return load_model(store, store.find(STAGE, name or promoted(store, "model") or ""))
    except NotInStore:
        folders = sorted(models.iterdir()) if name and models.is_dir() else []
        known = [folder for folder in folders if folder.name.startswith(name) and folder.is_dir()]
        if len(known) != 1:
            raise
        return RewardModel.load(known[0])


def score_file(
    file: Path,
    model: RewardModel,
    backbone_settings: BackboneSettings,
    token_budget: int,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Scored]:
    """Scores every conversation of a file, and both sides of every pair.

    Raises:
        NativeFileError: the file or a line of it cannot be used, or gets no vector; then nothing is scored.
        BackboneError: the configured backbone is not the model's.
    """
    requests = [request for path in find_files(file) for row in read_rows(path) for request in _requests(file, row)]
    if not requests:
        raise NativeFileError(file, "got no conversations; expected one JSON object a line; see `armorm score --help`")
    marks = fingerprint(backbone_settings)
    if marks.backbone_id != model.backbone_id:
        raise BackboneError(
            backbone_settings.path,
            f"got backbone {marks.backbone_id}; expected {model.backbone_id}, which the model was trained on; "
            "configure that one, or train a model on this one",
        )
    from features.embedding.backbone import load  # torch and transformers, seconds to import

    backbone = load(backbone_settings, marks)
    scored: list[Scored] = []
    for start in range(0, len(requests), CHUNK):
        chunk = requests[start : start + CHUNK]
        distinct = {conversation_id(request.messages): request.messages for request in chunk}
        prompts = {prompt_id(messages) for messages in distinct.values()}
        embedded = embed_conversations(
            backbone, list(distinct.values()), set(distinct), prompts, token_budget=token_budget
        )
        _refuse(file, chunk, embedded.rejects)
        vectors: dict[tuple[str, str], Feature] = {(feature.kind, feature.id): feature for feature in embedded.features}
        scored += _score(model, chunk, vectors)
        on_progress(len(scored), len(requests))
    return scored


def summary_table(scored: Sequence[Scored]) -> Section:
    """A row a conversation: its score and the objectives that made most of it."""
    rows: list[tuple[Cell, ...]] = []
    for one in scored:
        largest = list(one.contributions.items())[:SHOWN_OBJECTIVES]
        rows.append((one.line, one.side, one.score, ", ".join(f"{name} {part:+.3f}" for name, part in largest)))
    return Section("Scores", ["line", "side", "score", "largest contributions"], rows)


def explain_tables(scored: Sequence[Scored]) -> list[Section]:
    """A table a conversation: reward, coefficient and contribution of every objective."""
    columns = ["objective", "reward", "gate", "coefficient", "contribution"]
    return [
        Section(
            f"Line {one.line}, {one.side}: {one.score:.4f}",
            columns,
            [(n, one.rewards[n], one.gating[n], one.coefficients[n], part) for n, part in one.contributions.items()],
        )
        for one in scored
    ]


def _score(model: RewardModel, requests: Sequence[Request], vectors: Mapping[tuple[str, str], Feature]) -> list[Scored]:
    conversations = [vectors["conversation", conversation_id(request.messages)] for request in requests]
    prompts = [vectors["prompt", prompt_id(request.messages)] for request in requests]
    result = model.score_features(np.stack([f.vector for f in conversations]), np.stack([f.vector for f in prompts]))

    def by_name(values_K: Any) -> dict[str, float]:
        return dict(zip(model.objectives, map(float, values_K), strict=True))

    def largest_first(parts: dict[str, float]) -> dict[str, float]:
        return dict(sorted(parts.items(), key=lambda part: -abs(part[1])))

    return [
        Scored(
            line=request.line,
            side=request.side,
            score=float(result.score[row]),
            rewards=dict.fromkeys(in_order(model.untrained)) | by_name(result.rewards[row]),
            gating=by_name(result.gating[row]),
            coefficients=by_name(result.coefficients[row]),
            contributions=largest_first(by_name(result.contributions[row])),
            truncated=conversations[row].truncated or prompts[row].truncated,
        )
        for row, request in enumerate(requests)
    ]


def _refuse(file: Path, requests: Sequence[Request], rejects: Sequence[Reject]) -> None:
    """Names the first line whose text, or whose prompt, gets no vector: a score without it would be made up."""
    why = {(reject.kind, reject.id): reject.detail for reject in rejects}
    for request in requests:
        messages = request.messages
        detail = why.get(("conversation", conversation_id(messages))) or why.get(("prompt", prompt_id(messages)))
        if detail:
            raise NativeFileError(file, f"line {request.line}: no vector of it: {detail}; nothing was scored")


def _requests(file: Path, row: NativeRow) -> list[Request]:
    """The one or two conversations of a line."""
    try:
        if row.data is None:
            raise MalformedConversation("malformed_row", row.problem or "not a JSON object")
        return [Request(row.line, side, messages) for side, messages in _conversations(row.data)]
    except MalformedConversation as malformed:
        raise NativeFileError(file, f"line {row.line}: {malformed}; nothing was scored; mend the line") from malformed


def _conversations(data: Json) -> list[tuple[str, Conversation]]:
    given = {name: data[name] for name in ("messages", "response", "chosen", "rejected") if name in data}
    if set(given) == {"messages"}:
        found = [("conversation", _messages(given["messages"], None))]
    elif set(given) == {"response"}:
        found = [("conversation", _messages(given["response"], data.get("prompt")))]
    elif set(given) == {"chosen", "rejected"}:
        found = [(side, _messages(given[side], data.get("prompt"))) for side in ("chosen", "rejected")]
        if found[0][1][:-1] != found[1][1][:-1]:
            raise MalformedConversation("context_differs", "chosen and rejected do not answer the same prompt")
    else:
        raise MalformedConversation(
            "unknown_form",
            f"got {', '.join(sorted(data)) or 'nothing'}; expected messages, or prompt and response, "
            "or chosen and rejected (message lists, or texts with a prompt)",
        )
    for _, messages in found:
        check_conversation(messages)
    return found


def _messages(value: Any, prompt: Any) -> Conversation:
    if isinstance(value, str) and isinstance(prompt, str):
        return single_turn(prompt, value)
    try:
        messages = tuple((turn["role"], turn["content"]) for turn in value)
    except (TypeError, KeyError) as error:
        raise MalformedConversation(
            "not_messages", "expected a list of {role, content}, or texts with a prompt"
        ) from error
    if not all(isinstance(part, str) for turn in messages for part in turn):
        raise MalformedConversation("not_messages", "role and content have to be texts")
    return messages

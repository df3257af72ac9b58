"""From conversations to vectors: render, plan, forward, judge. Nothing here knows a store.

What cannot be embedded is a value, a `Reject`, and not an exception: one text never costs the others their vectors.
"""

import gc
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from armorm.features.conversation import Conversation, conversation_id, prompt_id
from armorm.features.embedding.fingerprint import OverLong
from armorm.features.embedding.packs import TokenSequence, Wanted, plan_sequences
from armorm.features.errors import OutOfMemory
from armorm.features.vectors.shards import Feature, Kind, Name, Vector, VectorType, unusable

if TYPE_CHECKING:
    from armorm.features.embedding.backbone import Backbone
    from armorm.features.embedding.packs import Batch, Pack


@dataclass(frozen=True, slots=True)
class Reject:
    """A text that this backbone gives no vector for."""

    kind: Kind
    id: str
    reason: str
    """A stable code: `not_rendered`, `over_long`, `no_embedding`, `not_finite`, `zero` or `float16_overflow`."""
    detail: str


@dataclass(frozen=True, slots=True)
class Texts:
    """What is to be forwarded of some conversations, and what cannot be."""

    sequences: list[TokenSequence]
    rejects: list[Reject]


@dataclass(frozen=True, slots=True)
class Pass:
    """What one forward pass has given."""

    vectors: list[tuple[Wanted, Vector]]
    n_tokens: int
    """Tokens of its texts, each counted whole."""
    n_forwarded: int
    """Tokens that were computed: shared beginnings once, padding included."""
    token_budget: int
    """The tokens of a pass for which memory sufficed."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of some conversations."""

    features: list[Feature]
    rejects: list[Reject]


def embed_conversations(
    backbone: "Backbone",
    conversations: Sequence[Conversation],
    wanted_conversations: Set[str],
    wanted_prompts: Set[str],
    *,
    token_budget: int,
    vector_type: VectorType = "float32",
) -> Embedded:
    """Return the wanted features of some conversations, all at once."""
    texts = plan_texts(backbone, conversations, wanted_conversations, wanted_prompts)
    passes = run_passes(backbone, texts.sequences, token_budget=token_budget)
    judged = judge([pair for one in passes for pair in one.vectors], vector_type)
    return Embedded(judged.features, texts.rejects + judged.rejects)


def plan_texts(
    backbone: "Backbone",
    conversations: Sequence[Conversation],
    wanted_conversations: Set[str],
    wanted_prompts: Set[str],
) -> Texts:
    """Render conversations and say what to forward; every wanted text is either in there or among the rejects."""
    from armorm.features.embedding.render import render

    rendering = render(backbone.tokenizer, conversations, system=backbone.fingerprint.system)
    sequences = plan_sequences(
        rendering.rendered,
        conversations=wanted_conversations,
        prompts=wanted_prompts,
        max_tokens=backbone.fingerprint.max_tokens,
    )
    planned = {(wanted.kind, wanted.id) for sequence in sequences for wanted in sequence.wanted}
    rejects: dict[Name, Reject] = {}
    for messages in conversations:
        id, prompt = conversation_id(messages), prompt_id(messages)
        why = rendering.refused.get(id, "")
        why_prompt = rendering.without_prompt.get(prompt, why)
        if id in wanted_conversations and ("conversation", id) not in planned:
            rejects["conversation", id] = Reject("conversation", id, "not_rendered", why)
        if prompt in wanted_prompts and ("prompt", prompt) not in planned:
            rejects["prompt", prompt] = Reject("prompt", prompt, "not_rendered", why_prompt)
    within = _within_length(backbone, sequences, conversations)
    known = within_vocabulary(backbone, within.sequences)
    return Texts(known.sequences, [*rejects.values(), *within.rejects, *known.rejects])


def within_vocabulary(backbone: "Backbone", sequences: Sequence[TokenSequence]) -> Texts:
    """Reject texts with a token that the tokenizer knows and the backbone has no embedding for."""
    kept, rejects, n_known = [], [], backbone.n_embeddings
    for sequence in sequences:
        if max(sequence.token_ids) < n_known:
            kept.append(sequence)
            continue
        unknown, id = next((place, id) for place, id in enumerate(sequence.token_ids) if id >= n_known)
        why = (
            f"got token {id} ({backbone.tokenizer.convert_ids_to_tokens(id)!r}); expected ids below "
            f"{n_known}, which the backbone has embeddings for; name the tokenizer that belongs to it"
        )
        rejects += [Reject(of.kind, of.id, "no_embedding", why) for of in sequence.wanted if of.position >= unknown]
        if before := tuple(of for of in sequence.wanted if of.position < unknown):
            kept.append(TokenSequence(sequence.token_ids[:unknown], before))
    return Texts(kept, rejects)


def _within_length(
    backbone: "Backbone", sequences: list[TokenSequence], conversations: Sequence[Conversation]
) -> Texts:
    """Return what the policy makes of over-long texts, which were planned without their first tokens."""
    policy = backbone.fingerprint.over_long
    if policy == "cut_left":
        return Texts(sequences, [])
    says: dict[Name, Conversation] = {("prompt", prompt_id(messages)): messages for messages in conversations}
    says |= {("conversation", conversation_id(messages)): messages for messages in conversations}
    kept: list[TokenSequence] = []
    rejects = []
    for sequence in sequences:
        of = sequence.wanted[0]
        shorter: TokenSequence | None = sequence
        if of.truncated:  # then it is the only one of its sequence
            shorter = _without_oldest(backbone, of, says[of.kind, of.id]) if policy == "drop_turns" else None
        if shorter:
            kept.append(shorter)
        else:
            rejects.append(Reject(of.kind, of.id, "over_long", _over_long(of, backbone.fingerprint.max_tokens, policy)))
    return Texts(kept, rejects)


def _without_oldest(backbone: "Backbone", of: Wanted, messages: Conversation) -> TokenSequence | None:
    """Return the text without as few of its oldest exchanges as will do; None where the last one alone is too long."""
    from armorm.features.embedding.render import render, shortened

    candidates = render(backbone.tokenizer, shortened(messages), system=backbone.fingerprint.system).rendered
    for one in candidates:
        length = len(one.token_ids) if of.kind == "conversation" else one.n_prompt_tokens
        if 0 < length <= backbone.fingerprint.max_tokens:
            return TokenSequence(one.token_ids[:length], (replace(of, position=length - 1, truncated=True),))
    return None


def _over_long(of: Wanted, max_tokens: int, policy: OverLong) -> str:
    what = "the last exchange alone is longer" if policy == "drop_turns" else "over_long is refuse"
    return (
        f"got {of.n_tokens} tokens; expected at most {max_tokens} ({what}); raise max_tokens, or set over_long, in "
        "[backbone]"
    )


def run_passes(
    backbone: "Backbone",
    sequences: Sequence[TokenSequence],
    *,
    token_budget: int,
    done: Mapping[Name, Vector] | None = None,
) -> Iterator[Pass]:
    """Forward sequences; where memory does not suffice, from there on in passes of half the tokens.

    Args:
        backbone: what gives the vectors.
        sequences: what is to be forwarded.
        token_budget: tokens of a pass, to begin with.
        done: vectors that there are already. All passes are planned as if there were none, and those that give
            nothing new are left out: a vector's last bits depend on what is computed beside it.

    Raises:
        OutOfMemory: one sequence alone is too much.
    """
    holder = {wanted: sequence for sequence in sequences for wanted in sequence.wanted}
    waiting = deque(backbone.plan(sequences, token_budget=token_budget))
    while waiting:
        planned = waiting.popleft()
        if done and all((wanted.kind, wanted.id) in done for wanted in planned.features):
            continue
        vectors = _run(backbone, planned)
        own = {holder[wanted] for wanted in planned.features}
        if vectors is not None:
            n_tokens = sum(len(one.token_ids) for one in own)
            yield Pass(vectors, n_tokens, planned.n_tokens, token_budget)
            continue
        if len(own) == 1:
            raise OutOfMemory(planned.n_tokens)
        token_budget = max(1, min(token_budget, planned.n_tokens) // 2)
        left = dict.fromkeys(holder[wanted] for one in (planned, *waiting) for wanted in one.features)
        waiting = deque(backbone.plan(list(left), token_budget=token_budget))


def judge(vectors: Sequence[tuple[Wanted, Vector]], vector_type: VectorType) -> Embedded:
    """Tell vectors that can be kept from those that cannot."""
    reasons = unusable([vector for _, vector in vectors], vector_type)
    features, rejects = [], []
    for (of, vector), reason in zip(vectors, reasons, strict=True):
        if reason:
            rejects.append(Reject(of.kind, of.id, reason, WHY[reason]))
        else:
            features.append(Feature(of.kind, of.id, of.n_tokens, of.truncated, vector))
    return Embedded(features, rejects)


WHY: Final = {
    "not_finite": "got NaN or infinity in its vector; expected finite numbers; run the backbone in float32",
    "zero": "got a vector of zeros; expected a direction; run the backbone in float32",
    "float16_overflow": (
        'got a number past 65504 in its vector; expected what float16 holds; set vector_type = "float32" in [embed]'
    ),
}
"""Reason to what it means and what to do."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether there was too little memory: torch says so by class on a GPU, and on a CPU in words alone."""
    import torch

    in_words = ("not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory")
    said = isinstance(error, RuntimeError) and any(words in str(error).lower() for words in in_words)
    return said or isinstance(error, MemoryError | torch.OutOfMemoryError)


def _run(backbone: "Backbone", planned: "Pack | Batch") -> list[tuple[Wanted, Vector]] | None:
    """Run one pass; return None if memory did not suffice, and give back what the attempt has taken."""
    import torch

    try:
        return backbone.run(planned)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    gc.collect()  # after the exception is gone, whose frames hold tensors
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None

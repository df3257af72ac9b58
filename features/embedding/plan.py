"""What goes into which forward pass. Pure: token ids in, batches out."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from features.shards import Kind

TokenIds = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One feature to be taken from a sequence."""

    kind: Kind
    id: str
    position: int
    """Index of the token whose state is the feature."""
    n_tokens: int
    """Of the whole text, before anything was cut off."""
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """Tokens for the backbone, with the features that are taken on them."""

    token_ids: TokenIds
    wanted: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation's tokens and how many of them are its prompt's."""

    conversation_id: str
    prompt_id: str
    token_ids: TokenIds
    n_prompt_tokens: int


def plan_sequences(
    rendered: Sequence[Rendered], *, conversations: Set[str], prompts: Set[str], max_tokens: int
) -> list[TokenSequence]:
    """Every wanted feature exactly once, each prompt's taken in the pass of the first of its conversations.

    A text of more than `max_tokens` loses its beginning, so that the token of the feature stays; then the
    prompt, whose end may be lost with it, gets a sequence of its own.

    Args:
        rendered: conversations, those of one prompt with the same prompt tokens.
        conversations: ids whose feature is wanted.
        prompts: ids whose feature is wanted.
        max_tokens: the most that the backbone takes.
    """
    taken = set[str]()  # prompts of these conversations alone: `prompts` may hold millions
    sequences = []
    for one in rendered:
        fits = len(one.token_ids) <= max_tokens
        whole = TokenSequence(one.token_ids, ())
        if one.conversation_id in conversations:
            whole = _with(
                whole, Wanted("conversation", one.conversation_id, len(one.token_ids) - 1, len(one.token_ids))
            )
        if one.prompt_id in prompts and one.prompt_id not in taken:
            taken.add(one.prompt_id)
            prompt = Wanted("prompt", one.prompt_id, one.n_prompt_tokens - 1, one.n_prompt_tokens)
            if fits and whole.wanted:
                whole = _with(whole, prompt)
            else:
                alone = TokenSequence(one.token_ids[: one.n_prompt_tokens], (prompt,))
                sequences.append(_cut_left(alone, max_tokens))
        if whole.wanted:
            sequences.append(_cut_left(whole, max_tokens))
    return sequences


def plan_batches(lengths: Sequence[int], *, token_budget: int) -> list[list[int]]:
    """Indices grouped in order of length, so that padding stays small.

    A batch's padded size (rows times longest) stays within the budget; a sequence longer than the budget
    goes alone. Equal lengths keep their order: the plan is a function of `lengths`.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batches and lengths[index] * (len(batches[-1]) + 1) <= token_budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _with(sequence: TokenSequence, wanted: Wanted) -> TokenSequence:
    return replace(sequence, wanted=(*sequence.wanted, wanted))


def _cut_left(sequence: TokenSequence, max_tokens: int) -> TokenSequence:
    surplus = len(sequence.token_ids) - max_tokens
    if surplus <= 0:
        return sequence
    wanted = tuple(replace(w, position=w.position - surplus, truncated=True) for w in sequence.wanted)
    return TokenSequence(sequence.token_ids[surplus:], wanted)

"""What goes into which forward pass. Pure: token ids in, packs out.

A pack is a forest: sequences that begin alike share the tokens of their common beginning, which are computed once, and
each goes on as a branch of its own. Under causal attention a token's state depends on what precedes it alone, so every
feature is what it would be if its sequence stood by itself.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from armorm.features.vectors.shards import Kind

TokenIds = tuple[int, ...]

SHARED_AT_LEAST: Final = 8
"""Tokens: a shorter common beginning costs less to compute again than to attend to apart."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One feature to be taken from a sequence."""

    kind: Kind
    id: str
    position: int
    """Index of the token whose state is the feature."""
    n_tokens: int
    """Tokens of the whole text, before anything was cut off."""
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
    """0 where the template gives no way to tell."""


@dataclass(frozen=True, slots=True)
class Branch:
    """Tokens that follow upon the beginning of another branch, or begin a text."""

    parent: int | None
    """The branch that it leaves, by its place among the pack's branches; it goes on from that one's tokens before
    `position`, and from what those follow upon."""
    position: int
    """The position of its first token, from the beginning of the text."""
    token_ids: TokenIds


@dataclass(frozen=True, slots=True)
class Pack:
    """What is computed in one forward pass: branches one after another, parents before children."""

    branches: tuple[Branch, ...]
    wanted: tuple[tuple[int, int, Wanted], ...]
    """Branch, place in the branch, and what is taken there."""

    @property
    def n_tokens(self) -> int:
        """Tokens that are computed."""
        return sum(len(branch.token_ids) for branch in self.branches)

    @property
    def features(self) -> tuple[Wanted, ...]:
        """What comes out of it."""
        return tuple(wanted for *_, wanted in self.wanted)


@dataclass(frozen=True, slots=True)
class Batch:
    """What is computed in one forward pass of a backbone that cannot be packed: sequences padded to one length."""

    sequences: tuple[TokenSequence, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens that are computed, padding included."""
        return len(self.sequences) * max(len(sequence.token_ids) for sequence in self.sequences)

    @property
    def features(self) -> tuple[Wanted, ...]:
        """What comes out of it."""
        return tuple(wanted for sequence in self.sequences for wanted in sequence.wanted)


def plan_sequences(
    rendered: Sequence[Rendered], *, conversations: Set[str], prompts: Set[str], max_tokens: int
) -> list[TokenSequence]:
    """Return every wanted feature exactly once, each prompt's taken in the pass of the first of its conversations.

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
        if one.n_prompt_tokens and one.prompt_id in prompts and one.prompt_id not in taken:
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


def plan_packs(sequences: Sequence[TokenSequence], *, token_budget: int) -> list[Pack]:
    """Return packs of at most the budget, cut so that the fewest tokens are computed in all.

    In the order of their tokens, sequences that begin alike lie together. A cut makes the first sequence after it
    compute again what it shares with the one before. A sequence longer than the budget goes alone. The plan is a
    function of the sequences, whatever their order.
    """
    ordered = sorted(sequences, key=lambda sequence: sequence.token_ids)
    arrays = [np.asarray(sequence.token_ids) for sequence in ordered]
    shared = [0, *(_common(one, two) for one, two in pairwise(arrays))]
    cuts = _cheapest_cuts([len(array) for array in arrays], shared, token_budget)
    return [_pack(ordered[start:end], shared[start:end]) for start, end in cuts]


def plan_batches(lengths: Sequence[int], *, token_budget: int) -> list[list[int]]:
    """Return the indices grouped in order of length, so that padding stays small: for backbones that cannot be packed.

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


def _cheapest_cuts(lengths: Sequence[int], shared: Sequence[int], budget: int) -> list[tuple[int, int]]:
    """Return first and last-but-one index of each pack, by dynamic programming over where the last pack begins.

    Args:
        lengths: of the sequences, in order.
        shared: what each has in common with the one before.
        budget: tokens of a pack.
    """
    best = [(0, 0, 0)]  # of the first n sequences: tokens computed, packs, and where the last pack begins
    for end in range(1, len(lengths) + 1):
        size, options = 0, []
        for start in range(end - 1, -1, -1):
            # the pack begins at `start`: whole; the one that began there before shares now
            size += lengths[start] - (shared[start + 1] if start + 1 < end else 0)
            if size > budget and start + 1 < end:
                break
            tokens, packs, _ = best[start]
            options.append((tokens + size, packs + 1, start))
        best.append(min(options))
    cuts, end = [], len(lengths)
    while end:
        start = best[end][2]
        cuts.append((start, end))
        end = start
    return cuts[::-1]


def _pack(sequences: Sequence[TokenSequence], shared: Sequence[int]) -> Pack:
    """Return sequences in the order of their tokens as branches, each leaving the one before where they part."""
    branches: list[Branch] = []
    wanted: list[tuple[int, int, Wanted]] = []
    path: list[int] = []
    for number, (sequence, begins_alike) in enumerate(zip(sequences, shared, strict=True)):
        position = begins_alike if number else 0
        while path and branches[path[-1]].position >= position:
            path.pop()
        if position < len(sequence.token_ids):
            branches.append(Branch(path[-1] if path else None, position, sequence.token_ids[position:]))
            path.append(len(branches) - 1)
        for one in sequence.wanted:
            holder = next(index for index in reversed(path) if branches[index].position <= one.position)
            wanted.append((holder, one.position - branches[holder].position, one))
    return Pack(tuple(branches), tuple(wanted))


def _common(one: npt.NDArray[np.int_], two: npt.NDArray[np.int_]) -> int:
    """Return leading tokens that both share, or 0 where they are too few."""
    length = min(len(one), len(two))
    apart = np.flatnonzero(one[:length] != two[:length])
    shared = int(apart[0]) if len(apart) else length
    return shared if shared >= SHARED_AT_LEAST else 0


def _with(sequence: TokenSequence, wanted: Wanted) -> TokenSequence:
    return replace(sequence, wanted=(*sequence.wanted, wanted))


def _cut_left(sequence: TokenSequence, max_tokens: int) -> TokenSequence:
    surplus = len(sequence.token_ids) - max_tokens
    if surplus <= 0:
        return sequence
    wanted = tuple(replace(w, position=w.position - surplus, truncated=True) for w in sequence.wanted)
    return TokenSequence(sequence.token_ids[surplus:], wanted)

"""Where a prompt ends, told from token ids alone: an exported model sees no messages.

Between the prompt and the answer a chat template writes the same tokens every time, the head of the assistant's turn.
The last of them in a conversation is the last answer's, unless that answer imitates it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

import torch

from armorm.errors import ExportError
from armorm.export.modeling_armorm import find_prompt_ends

TokenIds = Sequence[int]

LONGEST_BEFORE: Final = 8
"""Tokens of the prompt's end that a pattern may begin with."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A rendered conversation whose prompt's end is known."""

    token_ids: TokenIds
    n_prompt_tokens: int


@dataclass(frozen=True, slots=True)
class PromptEnd:
    """Token ids around the end of a prompt, and where its last token is, counted from the first of them."""

    pattern: tuple[int, ...]
    offset: int

    def finds(self, sample: Sample) -> bool:
        """Return whether it tells where the sample's prompt ends."""
        ids_BL = torch.tensor([list(sample.token_ids)])
        (end,) = find_prompt_ends(ids_BL, torch.tensor([ids_BL.shape[1] - 1]), self.pattern, self.offset).tolist()
        return bool(end == sample.n_prompt_tokens - 1)


def find_pattern(samples: Sequence[Sample]) -> PromptEnd:
    """Return what all samples have in common around the ends of their prompts, as much of it as tells each of them.

    Args:
        samples: with answers that begin in many ways, so that nothing of them gets into the pattern: a tokenizer may
            join the head's last token with the answer's first.

    Raises:
        ExportError: nothing does.
    """
    prompts = [sample.token_ids[: sample.n_prompt_tokens] for sample in samples]
    head = _shared([sample.token_ids[sample.n_prompt_tokens :] for sample in samples])
    before = _shared([prompt[::-1][:LONGEST_BEFORE] for prompt in prompts])[::-1]
    for start in range(len(before) + 1):
        candidate = PromptEnd((*before[start:], *head), len(before) - start - 1)
        if candidate.pattern and all(map(candidate.finds, samples)):
            return candidate
    raise ExportError(
        f"got a chat template that writes nothing between prompt and answer by which token ids alone tell the prompt's "
        f"end (it has {len(before)} tokens before it and {len(head)} after it in common); expected one that heads each "
        "answer alike; set chat_template in [backbone] to one that does, and embed with it"
    )


def _shared(sequences: Sequence[TokenIds]) -> tuple[int, ...]:
    """Return the leading tokens that all have in common."""
    columns = takewhile(lambda column: len(set(column)) == 1, zip(*sequences, strict=False))
    return tuple(column[0] for column in columns)

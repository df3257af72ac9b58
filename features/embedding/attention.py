"""Attention over a pack: every token sees its own branch and what that follows upon, as if its text stood alone.

On a CPU by blocks of queries, each against the keys up to its end: no kernel of torch skips what causality hides from
short texts. On a GPU by one flex attention over the whole pack.

Suffixes: T tokens of a pack, R rows of a block, N keys, H heads, K key-value heads, G heads of a key-value head, E size
of a head.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, Final

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface

ATTENTION: Final = "armorm_branches"
"""The name under which transformers knows the attention below."""


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of a pack, from the first to past the last."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(slots=True)
class Layout:
    """The places of a pack's tokens, and what each may attend to."""

    token_ids_T: torch.Tensor
    positions_T: torch.Tensor
    rows_W: torch.Tensor
    """Rows of the wanted tokens."""
    spans: Sequence[Span]
    """The rows of each branch."""
    contexts: Sequence[tuple[Span, ...]]
    """The rows that each branch follows upon, in order of position, from the beginning of the text."""
    wanted_of: Sequence[Sequence[int]]
    """The rows of each branch's wanted tokens."""
    last_layer: int
    """From this one on only wanted tokens are computed; -1 where that is not known."""
    masks: dict[int | None, BlockMask] = field(default_factory=dict)
    """Masks for flex attention by sliding window, made when first asked for and shared by all layers."""
    attended: set[int] = field(default_factory=set)
    """The layers that have called the attention below."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """The scoring of a layer: how it weights what a token sees."""

    scale: float
    """The factor of the scores."""
    window: int | None = None
    """How many tokens a token sees, itself among them; None: all before it."""
    softcap: float | None = None
    """What scores are squeezed below, as in Gemma 2."""


def branch_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Return what transformers calls in every layer: `query` is `[1, H, T, E]`, the result `[1, T, H, E]`."""
    scoring = Scoring(query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window, softcap)
    layout.attended.add(module.layer_idx)  # type: ignore[arg-type]
    if query.is_cuda:
        return by_flex(query, key, value, layout, scoring), None
    only_wanted = bool(module.layer_idx == layout.last_layer)
    return by_blocks(query, key, value, layout, scoring, only_wanted=only_wanted), None


AttentionInterface.register(ATTENTION, branch_attention)


def by_blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scoring: Scoring,
    *,
    only_wanted: bool,
) -> torch.Tensor:
    """Return `[1, T, H, E]`; scores and their softmax are in float32, whatever the type of the vectors.

    Args:
        query: `[1, H, T, E]`.
        key: `[1, K, T, E]`, like `value`.
        value: heads K divide heads H.
        layout: of the pack.
        scoring: the layer's.
        only_wanted: computes rows of wanted tokens alone and leaves 0 in the others.
    """
    window, softcap = scoring.window, scoring.softcap
    n_heads, n_tokens, n_groups = key.shape[1], query.shape[2], query.shape[1] // key.shape[1]
    sizes = Sizes(few=query.dtype != torch.float32)
    surplus = 0 if window is None else sizes.step(window + ROWS)
    query_KGTE = query[0].view(n_heads, n_groups, n_tokens, -1)
    key_KTE, value_KTE = key[0].float(), value[0]
    empty = query.new_zeros if only_wanted else query.new_empty
    result_TKGE = empty((n_tokens, n_heads, n_groups, value.shape[3]))
    for span, context, wanted in zip(layout.spans, layout.contexts, layout.wanted_of, strict=True):
        blocks = [Span(row, row + 1) for row in wanted] if only_wanted else list(_cut(span))
        if not blocks:
            continue
        keys_KNE, values_KNE = (_seen(tensor, (*context, span), sizes, surplus) for tensor in (key_KTE, value_KTE))
        to_position = sum(map(len, context)) - span.start
        for block in blocks:
            position, n_rows = block.start + to_position, sizes.rounded(len(block))
            first = 0 if window is None else max(0, position - window + 1)
            seen = slice(first, first + sizes.rounded(position + len(block) - first))
            asking_KGRE = key_KTE.new_zeros((n_heads, n_groups, n_rows, query.shape[3]))
            asking_KGRE[:, :, : len(block)] = query_KGTE[:, :, block.start : block.end]
            seen_KNE = keys_KNE[:, seen]
            if sizes.few:  # oneDNN's product would copy a slice transposed, which takes longer
                seen_KNE = seen_KNE.contiguous()
            scores_KRN = _scores(
                asking_KGRE.flatten(1, 2), seen_KNE, scoring.scale, from_bfloat16=query.dtype == torch.bfloat16
            )
            if softcap is not None:
                scores_KRN.div_(softcap).tanh_().mul_(softcap)
            _hide(scores_KRN.view(n_heads, n_groups, n_rows, -1), position - first, len(block), window)
            torch.softmax(scores_KRN, -1, out=scores_KRN)
            attended_KRE = torch.bmm(scores_KRN.to(value.dtype), values_KNE[:, seen])
            attended_KGRE = attended_KRE.view(n_heads, n_groups, n_rows, -1)
            result_TKGE[block.start : block.end] = attended_KGRE[:, :, : len(block)].permute(2, 0, 1, 3)
    result_TKGE[layout.spans[-1].end :] = 0  # of padding
    return result_TKGE.flatten(1, 2)[None]


ROWS: Final = 128
"""Queries of a block: small blocks skip more of what is hidden, large ones multiply faster."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of matrices."""

    few: bool
    """Whether to round sizes up: oneDNN compiles 16-bit kernels for each size, which takes as long as a block does."""

    def step(self, size: int) -> int:
        """Return the distance between the sizes about this one: there are eight from a power of two to the next."""
        return max(16, 2 ** (size - 1).bit_length() // 8) if self.few else 1

    def rounded(self, size: int) -> int:
        """Return a length rounded up to the next size."""
        return -(-size // self.step(size)) * self.step(size)


def _cut(span: Span) -> Iterator[Span]:
    return (Span(*ends) for ends in pairwise([*range(span.start, span.end, ROWS), span.end]))


def _seen(tensor_KTE: torch.Tensor, spans: Sequence[Span], sizes: Sizes, surplus: int) -> torch.Tensor:
    """Return `[K, N, E]` of the spans one after another, and zeros up to the next size, and `surplus` more."""
    parts = [tensor_KTE[:, span.start : span.end] for span in spans]
    length = sum(map(len, spans))
    if n_zeros := sizes.rounded(length) + surplus - length:
        parts.append(tensor_KTE.new_zeros((len(tensor_KTE), n_zeros, tensor_KTE.shape[2])))
    return torch.cat(parts, dim=1)


def _scores(query_KRE: torch.Tensor, key_KNE: torch.Tensor, scale: float, *, from_bfloat16: bool) -> torch.Tensor:
    """Return `[K, R, N]` in float32; bfloat16 units lose nothing of bfloat16 numbers, and sum in float32.

    oneDNN uses them with AMX, and multiplies in float32 elsewhere, faster than MKL on other processors than Intel's.
    """
    backend: Any = torch.backends.mkldnn
    matmul = backend.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16" if from_bfloat16 else before
    try:
        unused = query_KRE.new_empty(1)
        return torch.baddbmm(unused, query_KRE, key_KNE.transpose(1, 2), beta=0, alpha=scale)
    finally:
        matmul.fp32_precision = before


def _hide(scores_KGRN: torch.Tensor, position: int, n_rows: int, window: int | None) -> None:
    """Take out what rows do not see, in place: what comes after them, and what a sliding window has left behind.

    Args:
        scores_KGRN: more rows and keys than there are may be in it.
        position: of the first row among the keys.
        n_rows: that there are.
        window: how many keys a row sees, itself among them.
    """
    size = scores_KGRN.shape[2]
    not_before = scores_KGRN[..., position:]
    n_keys = not_before.shape[3]
    not_before += _later(1 << (n_keys - 1).bit_length())[:size, :n_keys]
    if window is not None and position + n_rows > window:
        left_behind = scores_KGRN[..., :size]
        left_behind += torch.full((size, left_behind.shape[-1]), -torch.inf).tril(position - window)


@cache
def _later(n_keys: int) -> torch.Tensor:
    """Return `[ROWS, n_keys]` -inf right of the diagonal, for the largest block. It is kept: ask for few widths."""
    return torch.full((ROWS, n_keys), -torch.inf).triu(1)


def by_flex(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scoring: Scoring,
) -> torch.Tensor:
    """Return `[1, T, H, E]`, like `by_blocks`, by one kernel for the pack that skips blocks nothing is seen in."""
    n_tokens = query.shape[2]
    attend = _compiled_flex() if query.is_cuda else flex_attention
    attended = attend(
        query,
        key,
        value,
        score_mod=None if scoring.softcap is None else _squeezed(scoring.softcap),
        block_mask=_block_mask(layout, scoring.window, n_tokens, query.device),
        scale=scoring.scale,
        enable_gqa=key.shape[1] != query.shape[1],
    )
    result: torch.Tensor = attended.transpose(1, 2)
    return result


@cache
def _compiled_flex() -> Any:
    return torch.compile(flex_attention, dynamic=True)


def _squeezed(softcap: float) -> Any:
    def squeeze(score: torch.Tensor, *_: Any) -> torch.Tensor:
        return torch.tanh(score / softcap) * softcap

    return squeeze


def _block_mask(layout: Layout, window: int | None, n_tokens: int, device: torch.device) -> BlockMask:
    """Return which tokens of a pack see which: those of their own branch and of the ones it leaves, up to there."""
    if window not in layout.masks:
        branch_T, until_BB = _ancestry(layout, n_tokens, device)
        position_T = layout.positions_T

        def sees(batch: Any, head: Any, asking: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
            at, of = position_T[asking], position_T[asked]
            seen = (of <= at) & (of < until_BB[branch_T[asking], branch_T[asked]])
            return seen if window is None else seen & (of > at - window)

        layout.masks[window] = create_block_mask(sees, None, None, n_tokens, n_tokens, device=device)
    return layout.masks[window]


def _ancestry(layout: Layout, n_tokens: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `[T]` the branch of each token, and `[B, B]` up to which position the first branch sees the second."""
    branch_T = torch.zeros(n_tokens, dtype=torch.long)
    of_row = {span.start: branch for branch, span in enumerate(layout.spans)}
    until_BB = torch.zeros((len(layout.spans), len(layout.spans)), dtype=torch.long)
    for branch, (span, context) in enumerate(zip(layout.spans, layout.contexts, strict=True)):
        branch_T[span.start : span.end] = branch
        position = 0
        for seen in context:
            position += len(seen)
            until_BB[branch, of_row[seen.start]] = position
        until_BB[branch, branch] = n_tokens
    return branch_T.to(device), until_BB.to(device)

"""One forward pass over a pack, through transformers' own attention interface: no model is copied or patched.

Linear layers see all tokens of a pack in one row; attention is computed branch by branch, each over its own tokens and
those that it follows upon. In the last layer only the tokens whose states are wanted go on past keys and values.

Suffixes: T tokens of a pack, W wanted ones, H heads, E size of a head, D hidden size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from features.embedding.plan import Pack

ATTENTION: Final = "armorm_branches"
"""The name under which transformers knows the attention below."""

TRIMMED: Final = ("self_attn.q_proj", "self_attn.o_proj", "self_attn.dense", "mlp")
"""Parts of a last layer that work token by token, where a model has them under these names."""


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of a pack, from the first to past the last."""

    start: int
    end: int


@dataclass(slots=True)
class Layout:
    """Where the tokens of a pack stand, and what each may attend to."""

    token_ids_T: torch.Tensor
    positions_T: torch.Tensor
    rows_W: torch.Tensor
    """Of the wanted tokens."""
    spans: Sequence[Span]
    """Of the branches."""
    contexts: Sequence[tuple[Span, ...]]
    """For each branch the rows that it follows upon, in order of position."""
    last_layer: int
    """From this one on only wanted tokens are computed; -1 where that is not known."""
    wanted_of: Sequence[torch.Tensor]
    """For each branch the rows of its wanted tokens."""
    masks: dict[tuple[int, int | None, bool], torch.Tensor | None] = field(default_factory=dict)
    """By branch, sliding window, and whether it is the last layer: made when first asked for."""


def lay_out(pack: Pack, *, last_layer: int, device: torch.device) -> Layout:
    """The tensors of a pack."""
    spans: list[Span] = []
    contexts: list[tuple[Span, ...]] = []
    for branch in pack.branches:
        start = spans[-1].end if spans else 0
        spans.append(Span(start, start + len(branch.token_ids)))
        if branch.parent is None:
            contexts.append(())
        else:
            parent, taken = spans[branch.parent], branch.position - pack.branches[branch.parent].position
            contexts.append((*contexts[branch.parent], Span(parent.start, parent.start + taken)))
    rows = [spans[holder].start + place for holder, place, _ in pack.wanted]
    wanted_of: list[list[int]] = [[] for _ in spans]
    for (holder, _, _), row in zip(pack.wanted, rows, strict=True):
        if row not in wanted_of[holder]:
            wanted_of[holder].append(row)
    positions = [
        torch.arange(branch.position, branch.position + len(branch.token_ids), device=device)
        for branch in pack.branches
    ]
    return Layout(
        token_ids_T=torch.tensor([id for branch in pack.branches for id in branch.token_ids], device=device),
        positions_T=torch.cat(positions),
        rows_W=torch.tensor(rows, device=device),
        spans=spans,
        contexts=contexts,
        last_layer=last_layer,
        wanted_of=[torch.tensor(of, device=device) for of in wanted_of],
    )


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
    """What transformers calls in every layer: `query` is `[1, H, T, E]`, the result `[1, T, H, E]`."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    last = bool(module.layer_idx == layout.last_layer)
    output = query.new_zeros if last else query.new_empty
    result_THE = output((1, query.shape[2], query.shape[1], value.shape[3]))
    for branch, (span, context) in enumerate(zip(layout.spans, layout.contexts, strict=True)):
        rows: slice | torch.Tensor = layout.wanted_of[branch] if last else slice(span.start, span.end)
        if last and not len(layout.wanted_of[branch]):
            continue
        mask = _mask(layout, branch, sliding_window, last)
        keys, values = (_with_context(tensor, span, context) for tensor in (key, value))
        attended = _attend(query[:, :, rows], keys, values, mask, scaling, softcap)
        result_THE[:, rows] = attended.transpose(1, 2)
    return result_THE, None


AttentionInterface.register(ATTENTION, branch_attention)


def _with_context(tensor: torch.Tensor, span: Span, context: Sequence[Span]) -> torch.Tensor:
    """`[1, H, context and own, E]`: what a branch attends to."""
    if not context:
        return tensor[:, :, span.start : span.end]
    return torch.cat([tensor[:, :, one.start : one.end] for one in (*context, span)], dim=2)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    softcap: float | None,
) -> torch.Tensor:
    if softcap is None:
        return scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None, scale=scaling)
    scores = query @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
    scores = torch.tanh(scores / softcap) * softcap
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1, dtype=torch.float32)
    return weights.to(value.dtype) @ value


def _mask(layout: Layout, branch: int, window: int | None, last: bool) -> torch.Tensor | None:
    """`[queries, context and own]` True where a token is seen; None for a text from its beginning, which is causal."""
    name = (branch, window, last)
    if name not in layout.masks:
        layout.masks[name] = _make_mask(layout, branch, window, last)
    return layout.masks[name]


def _make_mask(layout: Layout, branch: int, window: int | None, last: bool) -> torch.Tensor | None:
    span, context = layout.spans[branch], layout.contexts[branch]
    asking = layout.positions_T[layout.wanted_of[branch] if last else slice(span.start, span.end)]
    seen = torch.cat([layout.positions_T[one.start : one.end] for one in (*context, span)])
    beyond = window is not None and len(seen) > window
    if not (last or context or beyond):
        return None
    mask = seen[None, :] <= asking[:, None]
    return mask & (seen[None, :] > asking[:, None] - window) if beyond and window else mask


class LastLayer:
    """Lets parts of the last layer see the wanted tokens alone, by hooks that gather before and scatter after."""

    def __init__(self, model: PreTrainedModel) -> None:
        layers = getattr(model, "layers", None)
        self.index = len(layers) - 1 if isinstance(layers, torch.nn.ModuleList) else -1
        self._rows_W: torch.Tensor | None = None
        self._shape: torch.Size | None = None
        if self.index >= 0:
            named = dict(layers[-1].named_modules()) if layers else {}
            for name in TRIMMED:
                if name in named:
                    named[name].register_forward_pre_hook(self._gather)
                    named[name].register_forward_hook(self._scatter)

    @contextmanager
    def only(self, rows_W: torch.Tensor) -> Iterator[None]:
        """While the block runs."""
        self._rows_W = torch.unique(rows_W)
        try:
            yield
        finally:
            self._rows_W = None

    def _gather(self, module: torch.nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._rows_W is None:
            return None
        self._shape = given[0].shape
        return (given[0][:, self._rows_W], *given[1:])

    def _scatter(self, module: torch.nn.Module, given: tuple[Any, ...], result: Any) -> Any:
        if self._rows_W is None or self._shape is None:
            return None
        whole = result.new_zeros((*self._shape[:2], result.shape[-1]))
        whole[:, self._rows_W] = result
        return whole


def forward(model: PreTrainedModel, last_layer: LastLayer, pack: Pack) -> torch.Tensor:
    """`[W, D]` states of a pack's wanted tokens after the final norm, in the order of `pack.wanted`."""
    layout = lay_out(pack, last_layer=last_layer.index, device=model.device)
    with torch.inference_mode(), last_layer.only(layout.rows_W):
        output = model(
            input_ids=layout.token_ids_T[None],
            position_ids=layout.positions_T[None],
            use_cache=False,
            layout=layout,
        )
    states_WD: torch.Tensor = output.last_hidden_state[0, layout.rows_W]
    return states_WD

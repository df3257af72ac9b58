"""One forward pass over a pack, through transformers' own attention interface: no model is copied or patched.

Linear layers see all tokens of a pack in one row; attention keeps texts apart (see `attention`). In the last layer only
the tokens whose states are wanted go on past keys and values.

Suffixes: T tokens of a pack, W wanted ones, H heads, E size of a head, D hidden size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from transformers import PreTrainedModel

from armorm.features.embedding.attention import Layout, Span
from armorm.features.embedding.packs import Pack

TRIMMED: Final = ("self_attn.q_proj", "self_attn.o_proj", "self_attn.dense", "mlp")
"""Parts of a last layer that work token by token, where a model has them under these names."""


STEP: Final = 128
"""What a pack's tokens are made a multiple of on a CPU: for each number of rows oneDNN compiles a kernel, which takes
longer than some rows more, and keeps it."""


def lay_out(pack: Pack, *, last_layer: int, device: torch.device, step: int = 1) -> Layout:
    """Return the tensors of a pack, padded at its end to a multiple of `step` tokens, which are in no span."""
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
    token_ids = [id for branch in pack.branches for id in branch.token_ids]
    surplus = -len(token_ids) % step
    positions = [
        torch.arange(branch.position, branch.position + len(branch.token_ids), device=device)
        for branch in pack.branches
    ]
    return Layout(
        token_ids_T=torch.tensor(token_ids + [0] * surplus, device=device),
        positions_T=torch.cat([*positions, torch.zeros(surplus, dtype=torch.long, device=device)]),
        rows_W=torch.tensor(rows, device=device),
        spans=spans,
        contexts=contexts,
        wanted_of=wanted_of,
        last_layer=last_layer,
    )


class LastLayer:
    """The last layer, parts of which see the wanted tokens alone: hooks gather before and scatter after."""

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
        """Restrict the last layer to these rows while the block runs."""
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
    """Return `[W, D]` states of a pack's wanted tokens after the final norm, in the order of `pack.wanted`.

    Raises:
        TypeError: not every layer attends by our attention, so that some would take the pack for one text.
    """
    step = STEP if model.device.type == "cpu" else 1
    layout = lay_out(pack, last_layer=last_layer.index, device=model.device, step=step)
    with torch.inference_mode(), last_layer.only(layout.rows_W):
        output = model(
            input_ids=layout.token_ids_T[None],
            position_ids=layout.positions_T[None],
            use_cache=False,
            layout=layout,
        )
    if len(layout.attended) < (n_layers := model.config.get_text_config().num_hidden_layers):
        raise TypeError(f"{len(layout.attended)} of {n_layers} layers attend")
    states_WD: torch.Tensor = output.last_hidden_state[0, layout.rows_W]
    return states_WD

"""Products of float32 matrices on a CPU, by oneDNN.

torch takes MKL, which on other processors than Intel's does without their widest instructions and is half as fast. In
16 bits torch takes oneDNN by itself.
"""

from typing import Final

import torch
from torch import Tensor, nn

HAS_ONEDNN: Final[bool] = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def multiply(X_ND: Tensor, W_KD: Tensor, bias_K: Tensor | None = None) -> Tensor:
    """Return `[.., K]` products `X W' + b` of float32 matrices on a CPU."""
    if not HAS_ONEDNN:
        return nn.functional.linear(X_ND, W_KD, bias_K)
    return nn.functional.linear(X_ND.to_mkldnn(), W_KD, bias_K).to_dense()


class _Linear(nn.Linear):
    """A layer of which all but the product is torch's."""

    def forward(self, input: Tensor) -> Tensor:
        return multiply(input, self.weight, self.bias)


def use_onednn(model: nn.Module) -> None:
    """Have the linear layers of a model in float32 on a CPU multiply by oneDNN. Layers of other classes stay."""
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = _Linear

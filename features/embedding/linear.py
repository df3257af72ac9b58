"""Products of float32 matrices on a CPU, by oneDNN.

torch takes MKL, which on other processors than Intel's does without their widest instructions and is half as fast. In
16 bits torch takes oneDNN by itself.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

HAS_ONEDNN: Final[bool] = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def multiply(X_ND: Tensor, W_KD: Tensor, bias_K: Tensor | None = None) -> Tensor:
    """Return `[.., K]` products `X W' + b` of float32 matrices on a CPU.

    It is a convolution of size 1: oneDNN's takes torch's tensors as they are, where its linear layer takes copies of
    input and output, a tenth of a pass.
    """
    if not HAS_ONEDNN or not X_ND.numel():
        return nn.functional.linear(X_ND, W_KD, bias_K)
    pixels_1DN1 = X_ND.reshape(1, -1, 1, X_ND.shape[-1]).permute(0, 3, 1, 2)
    once: list[Any] = [[0, 0], [1, 1], [1, 1], 1]  # padding, stride, dilation, groups
    found_1KN1 = torch.mkldnn_convolution(pixels_1DN1, W_KD[:, :, None, None], bias_K, *once)
    return found_1KN1.permute(0, 2, 3, 1).reshape(*X_ND.shape[:-1], len(W_KD))


class _Linear(nn.Linear):
    """A layer of which all but the product is torch's."""

    def forward(self, input: Tensor) -> Tensor:
        return multiply(input, self.weight, self.bias)


def use_onednn(model: nn.Module) -> None:
    """Have the linear layers of a model in float32 on a CPU multiply by oneDNN. Layers of other classes stay."""
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = _Linear

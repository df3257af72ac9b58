"""Linear layers by oneDNN: the same products, to the precision of float32, whatever the shape."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from armorm.features.embedding.linear import multiply, use_onednn


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=2),
    st.integers(1, 70),
    st.integers(1, 40),
    st.booleans(),
    st.data(),
)
def test_it_is_the_product(rows: list[int], n_inputs: int, n_outputs: int, biased: bool, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    X_ND = torch.randn(*rows, n_inputs, generator=generator)
    W_KD = torch.randn(n_outputs, n_inputs, generator=generator)
    bias_K = torch.randn(n_outputs, generator=generator) if biased else None
    expected = nn.functional.linear(X_ND.double(), W_KD.double(), None if bias_K is None else bias_K.double())
    found = multiply(X_ND, W_KD, bias_K)
    assert found.shape == expected.shape
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-5)


def test_strided_inputs_are_read_in_order() -> None:
    X_ND = torch.randn(14, 6).T[:, ::2]
    W_KD = torch.randn(10, 14)[::2, ::2]
    torch.testing.assert_close(multiply(X_ND, W_KD), nn.functional.linear(X_ND, W_KD))


class Doubled(nn.Linear):
    """Another class, whose products mean something else."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


@pytest.mark.parametrize("bias", [True, False])
def test_layers_of_torch_are_changed_and_others_stay(bias: bool) -> None:
    model = nn.Sequential(nn.Linear(8, 6, bias=bias), nn.Sequential(Doubled(6, 5, bias=bias)))
    X_ND = torch.randn(3, 8)
    before, names = model(X_ND), list(model.state_dict())
    use_onednn(model)
    torch.testing.assert_close(model(X_ND), before)
    assert list(model.state_dict()) == names
    assert type(model[0]) is not nn.Linear
    assert type(model[1][0]) is Doubled


def test_a_row_is_the_same_whatever_rows_are_beside_it() -> None:
    X_ND, W_KD = torch.randn(700, 576), torch.randn(192, 576)
    whole = multiply(X_ND, W_KD)
    assert all(torch.equal(multiply(X_ND[start:], W_KD), whole[start:]) for start in (1, 60, 512, 699))

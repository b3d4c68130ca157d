"""RMSNorm equals PyTorch's, values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from hybrids.ops.rms_norm import RMSNorm


@pytest.mark.parametrize("shape", [(3, 5, 8), (8,), (4, 8), (2, 3, 5, 8)])
def test_values_and_gradients_equal_pytorchs(shape):
    torch.manual_seed(0)
    norm = RMSNorm(8).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(shape, dtype=torch.float64)
    theirs = F.rms_norm(x, (8,), norm.weight, norm.eps)
    torch.testing.assert_close(norm(x), theirs)
    for ours, expected in zip(
        torch.autograd.grad(norm(x), (x, norm.weight), upstream),
        torch.autograd.grad(theirs, (x, norm.weight), upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected)


def test_a_zero_vector_stays_finite():
    x = torch.zeros(2, 8, requires_grad=True)
    out = RMSNorm(8)(x)
    out.sum().backward()
    assert (out == 0).all() and torch.isfinite(x.grad).all()


def test_half_precision_input_is_taken():
    x = torch.randn(4, 8, dtype=torch.bfloat16)
    torch.testing.assert_close(RMSNorm(8)(x).float(), F.rms_norm(x.float(), (8,), eps=1e-5), rtol=2e-2, atol=2e-2)

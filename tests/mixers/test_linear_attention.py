"""Linear attention equals its quadratic definition, however it is computed."""

import pytest
import torch
from torch.nn import functional as F

from hybrids.ops.linear_attention import linear_attention, linear_attention_recurrent
from hybrids_plugins.mixers.linear_attention import LinearAttention

B, H, K, V = 2, 3, 4, 5


def inputs(length, dtype=torch.float64):
    torch.manual_seed(length)
    shapes = ((B, length, H, K), (B, length, H, K), (B, length, H, V), (B, H, K, V))
    return [torch.randn(*shape, dtype=dtype, requires_grad=True) for shape in shapes]


def quadratic(q, k, v, state, scale):
    """Outputs by the sum over all earlier positions, written out."""
    scores = torch.einsum("bthk,bshk->bhts", q, k) * torch.ones(q.shape[1], q.shape[1]).tril()
    earlier = torch.einsum("bthk,bhkv->bthv", q, state)
    o = torch.einsum("bhts,bshv->bthv", scores, v) + earlier
    return o * scale, state + torch.einsum("bthk,bthv->bhkv", k, v)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 16, 29])
@pytest.mark.parametrize("form", [linear_attention_recurrent, lambda *x: linear_attention(*x, chunk_size=8)])
def test_outputs_state_and_gradients_equal_the_quadratic_sum(form, length):
    x = inputs(length)
    got, expected = form(*x), quadratic(*x, scale=K**-0.5)
    weights = [torch.randn_like(t) for t in expected]
    gradients = [
        torch.autograd.grad(sum((o * w).sum() for o, w in zip(out, weights, strict=True)), x) for out in (got, expected)
    ]
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(*gradients)


def test_no_state_is_a_zero_state_and_the_scale_is_applied():
    q, k, v, state = inputs(11)
    got = linear_attention(q, k, v, chunk_size=4, scale=2.0)
    torch.testing.assert_close(got, quadratic(q, k, v, torch.zeros_like(state), 2.0))


def test_half_precision_inputs_are_computed_in_float32_also_under_autocast():
    q, k, v, _ = (t.detach().bfloat16() for t in inputs(33, torch.float32))
    expected, expected_state = linear_attention(q.float(), k.float(), v.float())
    with torch.autocast("cpu", torch.bfloat16):
        got, state = linear_attention(q, k, v)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, expected.bfloat16())
    torch.testing.assert_close(state, expected_state)


def test_a_chunk_size_below_one_is_refused():
    with pytest.raises(ValueError, match="chunk_size=0"):
        linear_attention(*inputs(3), chunk_size=0)
    with pytest.raises(ValueError, match="chunk_size=0"):
        LinearAttention(8, chunk_size=0)


def test_the_mixer_averages_values_with_normalised_weights():
    torch.manual_seed(0)
    mixer = LinearAttention(6, num_heads=1, chunk_size=4).double()
    x = torch.randn(B, 11, 6, dtype=torch.float64)
    q, k, v = mixer.in_proj(x).chunk(3, dim=-1)
    weights = ((F.elu(q) + 1) @ (F.elu(k) + 1).mT).tril()
    expected = mixer.out_proj(weights / weights.sum(-1, keepdim=True) @ v)
    torch.testing.assert_close(mixer(x)[0], expected)


def test_very_negative_keys_and_queries_give_finite_outputs_and_gradients():
    mixer = LinearAttention(8, num_heads=2)
    x = (1e4 * torch.randn(1, 9, 8)).requires_grad_()
    y, _ = mixer(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()

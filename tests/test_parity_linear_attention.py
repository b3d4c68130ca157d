"""Linear attention with every gate against flash-linear-attention's naive functions."""

import pytest
import torch

from hybrids.ops.linear_attention import linear_attention, linear_attention_recurrent

B, H, K, V = 2, 3, 4, 6
FORMS = [linear_attention, linear_attention_recurrent]


def make_inputs(length, gate_shape=None):
    """q, k, v, state and, with a shape, log_decay; float32, as theirs computes."""
    generator = torch.Generator().manual_seed(length)
    shapes = [(B, length, H, K), (B, length, H, K), (B, length, H, V), (B, H, K, V)]
    x = [torch.randn(shape, generator=generator) for shape in shapes]
    if gate_shape is not None:
        x.append(-torch.rand(gate_shape, generator=generator))
    return [t.requires_grad_() for t in x]


def assert_same(got, expected, inputs):
    """Outputs, and states if there are any, and all gradients."""
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    seeds = [torch.randn_like(t) for t in expected]
    gradients = [torch.autograd.grad(out, inputs, seeds, allow_unused=True) for out in (got, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [1, 40])
def test_a_gate_per_key_feature_is_gla(fla_naive, form, length):
    theirs = fla_naive("ops/gla/naive.py").naive_recurrent_gla
    q, k, v, state, g = x = make_inputs(length, (B, length, H, K))
    expected = theirs(q, k, v, g, initial_state=state, output_final_state=True)
    assert_same(form(q, k, v, state, log_decay=g), expected, x)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [None, 1.0])
def test_a_gate_per_head_is_simple_gla(fla_naive, form, scale):
    theirs = fla_naive("ops/simple_gla/naive.py")
    q, k, v, state, g = x = make_inputs(40, (B, 40, H))
    got = form(q, k, v, state, log_decay=g, scale=scale)
    assert_same(got, theirs.naive_recurrent_simple_gla(q, k, v, g, scale, state, True), x)
    chunked = theirs.naive_chunk_simple_gla(q, k, v, g, state, True, chunk_size=16, scale=scale)
    torch.testing.assert_close(got, chunked, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_gate_that_depends_only_on_the_head_is_retention(fla_naive, form):
    theirs = fla_naive("ops/retention/naive.py").naive_retention
    q, k, v, _ = x = make_inputs(40)
    decay = torch.log1p(-(2.0 ** (-5 - torch.arange(H)))).expand(B, 40, H)
    expected = theirs(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)
    assert_same((form(q, k, v, log_decay=decay)[0],), (expected,), x[:3])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [None, 0.3])
def test_no_gate_is_linear_attention(fla_naive, form, scale):
    theirs = fla_naive("ops/linear_attn/naive.py")
    q, k, v, state = x = make_inputs(64)
    expected = theirs.naive_recurrent_linear_attn(q, k, v, scale, state, output_final_state=True)
    assert_same(form(q, k, v, state, scale=scale), expected, x)
    torch.testing.assert_close(
        form(q, k, v, scale=scale)[0], theirs.naive_chunk_linear_attn(q, k, v, scale), rtol=1e-4, atol=1e-4
    )

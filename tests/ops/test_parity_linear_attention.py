"""Linear attention with every gate against flash-linear-attention's naive functions."""

import pytest
import torch
import torch.nn.functional as F

from hybrids.ops.linear_attention import linear_attention, linear_attention_recurrent
from hybrids_plugins.mixers.based import Based
from hybrids_plugins.mixers.gla import GatedLinearAttention
from hybrids_plugins.mixers.hgrn2 import HGRN2
from hybrids_plugins.mixers.mlstm import MLSTM

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


def test_based_is_the_naive_form_of_its_kernel(fla_naive):
    theirs = fla_naive("ops/based/naive.py")
    torch.manual_seed(0)
    mixer = Based(16, num_heads=2, feature_dim=4, chunk_size=8)
    x = torch.randn(B, 40, 16, requires_grad=True)
    q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in mixer.in_proj(x).split(mixer.widths, dim=-1))
    expected = mixer.out_proj(theirs.naive_parallel_based(q, k, v).transpose(1, 2).flatten(2))
    assert_same((mixer(x)[0],), (expected,), [x, *mixer.parameters()])
    chunked = theirs.naive_chunk_based(q, k, v, chunk_size=20).transpose(1, 2).flatten(2)
    torch.testing.assert_close(mixer(x)[0], mixer.out_proj(chunked), rtol=1e-4, atol=1e-5)


def test_the_memory_of_mlstm_with_open_gates_is_normalised_linear_attention(fla_naive):
    """Forget gates at 1 and input gates at exp(0): n is the sum of keys, and outputs are divided by |q . n|."""
    theirs = fla_naive("ops/linear_attn/naive.py").naive_recurrent_linear_attn
    torch.manual_seed(0)
    mixer = MLSTM(16, num_heads=2, gate_cap=1e4)
    with torch.no_grad():
        mixer.gates.bias.copy_(torch.tensor([0.0, 0.0, 100.0, 100.0]))
    x = torch.randn(B, 40, 16)
    q, k, v, o = mixer.in_proj(x).split(mixer.widths, dim=-1)
    q, k, v = (t.unflatten(-1, (2, -1)) for t in (q, k, v))
    h, sums = theirs(q, k, v)[0], (q * q.shape[-1] ** -0.5 * k.cumsum(1)).sum(-1, keepdim=True)
    h = F.layer_norm(h / sums.abs().clamp(min=1), h.shape[-1:], eps=1e-6).flatten(2)
    torch.testing.assert_close(mixer(x)[0], mixer.out_proj(h * o.sigmoid()), rtol=1e-4, atol=1e-5)


def test_gla_and_hgrn2_are_the_naive_recurrence_between_their_projections(fla_naive):
    theirs = fla_naive("ops/gla/naive.py").naive_recurrent_gla
    torch.manual_seed(0)
    x = torch.randn(B, 40, 16)
    gla, hgrn2 = GatedLinearAttention(16, num_heads=2), HGRN2(16, num_heads=2)
    *qkv, g, low = gla.in_proj(x).split(gla.widths, dim=-1)
    gates = F.logsigmoid(gla.gate_proj(low)) / 16
    o, state = theirs(*(t.unflatten(-1, (2, -1)) for t in (*qkv, gates)), output_final_state=True)
    y, ours = gla(x)
    torch.testing.assert_close(ours.matrix, state, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y, gla.out_proj(gla.norm(o).flatten(2) * F.silu(g)), rtol=1e-4, atol=1e-5)

    q, f, v = (t.unflatten(-1, (2, -1)) for t in hgrn2.in_proj(x).split(hgrn2.widths, dim=-1))
    gates = F.logsigmoid(f)
    o, state = theirs(F.silu(q), 1 - gates.exp(), v, gates, output_final_state=True)
    y, ours = hgrn2(x)
    torch.testing.assert_close(ours.matrix, state, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y, hgrn2.out_proj(hgrn2.norm(o.flatten(2))), rtol=1e-4, atol=1e-5)

"""mLSTM against transformers' xLSTM layer with the same weights, and its own contract."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.xlstm.configuration_xlstm import xLSTMConfig
from transformers.models.xlstm.modeling_xlstm import xLSTMLayer

from hybrids_plugins.mixers.mlstm import MLSTM, MLSTMState

D_MODEL, HEADS = 32, 2


def make_mixer(gate_scale: float = 3.0, **settings) -> MLSTM:
    torch.manual_seed(0)
    mixer = MLSTM(D_MODEL, num_heads=HEADS, chunk_size=8, **settings)
    with torch.no_grad():  # as if trained: at first the gates do not depend on the input
        mixer.gates.weight.normal_(std=gate_scale * D_MODEL**-0.5)
        mixer.norm_weight.uniform_(0.5, 1.5)
    return mixer


def make_pair() -> tuple[MLSTM, xLSTMLayer]:
    """Our layer and theirs with the same weights."""
    ours = make_mixer()
    config = xLSTMConfig(
        hidden_size=D_MODEL,
        num_heads=HEADS,
        num_hidden_layers=1,
        qk_dim_factor=0.5,
        v_dim_factor=1.0,
        chunk_size=16,
        gate_soft_cap=15.0,
        mode="inference",
        autocast_kernel_dtype="float32",
    )
    theirs = xLSTMLayer(config)
    q, k, v, o = ours.in_proj.weight.split(ours.widths)
    write, forget = ours.gates.weight.chunk(2)
    write_bias, forget_bias = ours.gates.bias.chunk(2)
    theirs.load_state_dict(
        {
            "q.weight": q,
            "k.weight": k,
            "v.weight": v,
            "ogate_preact.weight": o,
            "igate_preact.weight": write,
            "igate_preact.bias": write_bias,
            "fgate_preact.weight": forget,
            "fgate_preact.bias": forget_bias,
            "multihead_norm.weight": ours.norm_weight,
            "out_proj.weight": ours.out_proj.weight,
        }
    )
    return ours, theirs


@pytest.mark.parametrize("time", [1, 3, 16, 37])
def test_outputs_and_input_gradients_are_those_of_transformers(time: int) -> None:
    ours, theirs = make_pair()
    x = torch.randn(2, time, D_MODEL, requires_grad=True)
    got, expected = ours(x)[0], theirs(x)[0]
    # Theirs adds 1e-6 to the normaliser.
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=2e-5)
    seed = torch.randn_like(got)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, seed)[0] for y in (got, expected)), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_prefill_state_and_decode_steps_are_those_of_transformers() -> None:
    ours, theirs = make_pair()
    x = torch.randn(2, 24, D_MODEL)
    expected, their_state = theirs(x[:, :20])
    got, state = ours(x[:, :20])
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=2e-5)
    assert_same_state(state, their_state)
    for t in range(20, 24):
        expected, their_state = theirs(x[:, t : t + 1], their_state)
        got, state = ours(x[:, t : t + 1], state)
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=2e-5)
    assert_same_state(state, their_state)


def assert_same_state(state: MLSTMState, theirs: tuple[torch.Tensor, ...]) -> None:
    """Sums are compared as they would be without a stabiliser, which is each side's own choice."""
    memory, normaliser, top = theirs
    top = top.view(2, HEADS)
    theirs_whole = torch.cat([memory, normaliser.unsqueeze(-1)], dim=-1) * top.exp()[..., None, None]
    whole = state.memory * state.stabiliser.exp()[..., None, None]
    torch.testing.assert_close(whole, theirs_whole, rtol=1e-3, atol=1e-4)


def by_steps(mixer: MLSTM, x: torch.Tensor) -> torch.Tensor:
    """Eq. 19-27 of arXiv:2405.04517 without any stabiliser, for one sequence [T D] in float64."""
    q, k, v, o = (x @ w.T for w in mixer.in_proj.weight.split(mixer.widths))
    write, forget = (15 * torch.tanh((x @ mixer.gates.weight.T + mixer.gates.bias) / 15)).chunk(2, dim=-1)
    q, k, v = (t.unflatten(-1, (HEADS, -1)) for t in (q, k, v))
    width = q.shape[-1]
    c, n, rows = x.new_zeros(HEADS, width, v.shape[-1]), x.new_zeros(HEADS, width), []
    for t in range(len(x)):
        f, i = torch.sigmoid(forget[t]), torch.exp(write[t])
        c = f[:, None, None] * c + i[:, None, None] * k[t, :, :, None] * v[t, :, None, :]
        n = f[:, None] * n + i[:, None] * k[t]
        scaled = q[t] * width**-0.5
        h = torch.einsum("hk,hkv->hv", scaled, c) / (scaled * n).sum(-1, keepdim=True).abs().clamp(min=1)
        h = (h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
        rows.append(h.flatten() * mixer.norm_weight * torch.sigmoid(o[t]))
    return torch.stack(rows) @ mixer.out_proj.weight.T


@pytest.mark.parametrize("gate_scale", [0.1, 3.0, 100.0])
def test_the_stabiliser_changes_neither_outputs_nor_gradients(gate_scale: float) -> None:
    mixer = make_mixer(gate_scale).double()
    x = torch.randn(2, 40, D_MODEL, dtype=torch.float64, requires_grad=True)
    got, expected = mixer(x)[0], torch.stack([by_steps(mixer, row) for row in x])
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-8)
    seed, inputs = torch.randn_like(got), [x, *mixer.parameters()]
    gradients = [torch.autograd.grad(y, inputs, seed) for y in (got, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


@given(cut=st.integers(1, 39), gate_scale=st.sampled_from([0.1, 5.0, 1000.0]))
@settings(max_examples=20)
@torch.no_grad()
def test_cutting_a_sequence_keeps_outputs_at_any_strength_of_the_gates(cut: int, gate_scale: float) -> None:
    mixer = make_mixer(gate_scale).double()
    x = torch.randn(2, 40, D_MODEL, dtype=torch.float64)
    whole, end = mixer(x)
    first, state = mixer(x[:, :cut])
    second, end_of_parts = mixer(x[:, cut:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(tuple(end_of_parts), tuple(end))


def test_gates_start_as_the_authors_set_them() -> None:
    torch.manual_seed(0)
    mixer = MLSTM(64, num_heads=4)
    assert mixer.gates.weight.eq(0).all()
    torch.testing.assert_close(mixer.gates.bias[4:].detach(), torch.tensor([3.0, 4.0, 5.0, 6.0]))
    assert 0 < mixer.gates.bias[:4].abs().max() < 0.5
    assert getattr(mixer.gates.bias, "no_weight_decay", False)

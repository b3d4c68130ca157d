"""HGRN2 against the equations of its paper written out step by step, and its own contract."""

import pytest
import torch

from hybrids_plugins.mixers.hgrn2 import HGRN2

D_MODEL, HEADS = 12, 2


def make_mixer(**settings) -> HGRN2:
    torch.manual_seed(0)
    mixer = HGRN2(D_MODEL, num_heads=HEADS, chunk_size=8, **settings).double()
    with torch.no_grad():
        mixer.in_proj.weight.mul_(3)
        mixer.norm.weight.uniform_(0.5, 1.5)
    return mixer


def by_steps(mixer: HGRN2, x: torch.Tensor, lower_bound: float) -> torch.Tensor:
    """arXiv:2404.07904 for one sequence [T D]: h_t = Diag(f_t) h_{t-1} + (1 - f_t) i_t^T, read with q_t.

    The scale is that of the authors' layer; up to the eps of the norm it changes nothing.
    """
    keys = HEADS * mixer.d_key
    q, f, v = (x @ w.T for w in mixer.in_proj.weight.split((keys, keys, D_MODEL)))
    q, f = q / (1 + torch.exp(-q)), lower_bound + (1 - lower_bound) / (1 + torch.exp(-f))
    q, f, v = (t.unflatten(-1, (HEADS, -1)) for t in (q, f, v))
    state, rows = torch.zeros(HEADS, mixer.d_key, D_MODEL // HEADS, dtype=x.dtype), []
    for t in range(len(x)):
        state = f[t, :, :, None] * state + (1 - f[t])[:, :, None] * v[t, :, None, :]
        rows.append((q[t, :, :, None] * state).sum(1).flatten() * mixer.d_key**-0.5)
    o = torch.stack(rows)
    o = o / (o.square().mean(-1, keepdim=True) + 1e-5).sqrt() * mixer.norm.weight
    return o @ mixer.out_proj.weight.T


@pytest.mark.parametrize("settings", [{}, {"lower_bound": 0.6}, {"head_dim": 5}])
@pytest.mark.parametrize("length", [1, 7, 40])
def test_outputs_and_gradients_are_those_of_the_equations(length: int, settings: dict) -> None:
    mixer = make_mixer(**settings)
    x = torch.randn(2, length, D_MODEL, dtype=torch.float64, requires_grad=True)
    bound = settings.get("lower_bound", 0.0)
    got, expected = mixer(x)[0], torch.stack([by_steps(mixer, row, bound) for row in x])
    torch.testing.assert_close(got, expected)
    seed, inputs = torch.randn_like(got), [x, *mixer.parameters()]
    torch.testing.assert_close(torch.autograd.grad(got, inputs, seed), torch.autograd.grad(expected, inputs, seed))


@torch.no_grad()
def test_decode_steps_continue_a_prefill() -> None:
    mixer = make_mixer()
    x = torch.randn(2, 30, D_MODEL, dtype=torch.float64)
    expected, parts, state = mixer(x)[0], [], None
    for piece in x.split([21, 1, 1, 7], dim=1):
        y, state = mixer(piece, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected)


@pytest.mark.parametrize("lower_bound", [0.0, 0.9])
def test_saturated_gates_give_finite_outputs_and_gradients(lower_bound: float) -> None:
    mixer = HGRN2(8, num_heads=2, lower_bound=lower_bound)
    x = (1e4 * torch.randn(1, 50, 8)).requires_grad_()
    y, state = mixer(x)
    gradients = torch.autograd.grad(y.sum(), [x, *mixer.parameters()])
    assert all(t.isfinite().all() for t in (y, state.matrix, *gradients))

"""GLA against the equations of its paper written out step by step, and its own contract."""

import pytest
import torch

from hybrids_plugins.mixers.gla import GatedLinearAttention

D_MODEL, HEADS = 16, 2


def make_mixer(**settings) -> GatedLinearAttention:
    torch.manual_seed(0)
    mixer = GatedLinearAttention(D_MODEL, num_heads=HEADS, chunk_size=8, **settings).double()
    with torch.no_grad():  # as if trained: at first all gates are nearly open and outputs small
        mixer.in_proj.weight.mul_(3)
        mixer.gate_proj.weight.mul_(10)
        mixer.gate_proj.bias.normal_()
        mixer.norm.weight.uniform_(0.5, 1.5)
    return mixer


def by_steps(mixer: GatedLinearAttention, x: torch.Tensor) -> torch.Tensor:
    """Section 4.4 of arXiv:2312.06635 for one sequence [T D], a head and a step at a time."""
    keys, values = D_MODEL // 2, D_MODEL
    wq, wk, wv, wg, w1 = mixer.in_proj.weight.split((keys, keys, values, values, mixer.gate_proj.in_features))
    alpha = torch.sigmoid((x @ w1.T) @ mixer.gate_proj.weight.T + mixer.gate_proj.bias) ** (1 / 16)
    q, k, v, alpha = ((t).unflatten(-1, (HEADS, -1)) for t in (x @ wq.T, x @ wk.T, x @ wv.T, alpha))
    outputs = []
    for head in range(HEADS):
        state, rows = torch.zeros(keys // HEADS, values // HEADS, dtype=x.dtype), []
        for t in range(len(x)):
            state = torch.diag(alpha[t, head]) @ state + torch.outer(k[t, head], v[t, head])
            o = (q[t, head] * (keys // HEADS) ** -0.5) @ state
            rows.append(o / (o.square().mean() + 1e-5).sqrt() * mixer.norm.weight)
        outputs.append(torch.stack(rows))
    gate = x @ wg.T
    return (torch.cat(outputs, dim=-1) * gate * torch.sigmoid(gate)) @ mixer.out_proj.weight.T


@pytest.mark.parametrize("length", [1, 7, 40])
def test_outputs_and_gradients_are_those_of_the_equations(length: int) -> None:
    mixer = make_mixer()
    x = torch.randn(2, length, D_MODEL, dtype=torch.float64, requires_grad=True)
    got, expected = mixer(x)[0], torch.stack([by_steps(mixer, row) for row in x])
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


def test_gates_start_almost_open_as_the_authors_set_them() -> None:
    """Xavier with gain 2^-2.5 and a bias of the default range: logsigmoid near log 1/2, a sixteenth of it."""
    torch.manual_seed(0)
    mixer = GatedLinearAttention(128)
    for weight, fan in ((mixer.in_proj.weight[:64], 128 + 64), (mixer.gate_proj.weight, 16 + 64)):
        bound = 2**-2.5 * (6 / fan) ** 0.5
        assert 0.9 * bound < weight.abs().max() <= bound
    assert getattr(mixer.gate_proj.bias, "no_weight_decay", False)

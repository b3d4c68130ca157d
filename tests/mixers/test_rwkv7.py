"""RWKV-7 against the paper's equations, written out one step at a time, and its own contract."""

import math

import pytest
import torch
from torch import Tensor

from hybrids_plugins.mixers.rwkv7 import RWKV7


def make_mixer(d_model: int = 32, **settings) -> RWKV7:
    """With weights of a size at which every part of the equations shows."""
    torch.manual_seed(0)
    mixer = RWKV7(d_model, **settings).double()
    with torch.no_grad():
        for name, p in mixer.named_parameters():
            p.copy_(torch.rand_like(p) if name in ("mix", "norm_weight") else 0.3 * torch.randn_like(p))
    return mixer


def apply_equations(mixer: RWKV7, x: Tensor) -> tuple[Tensor, Tensor]:
    """arXiv:2503.14456, section 4, in the paper's orientation: a head's state has values in rows, keys in columns."""
    heads, width = mixer.num_heads, mixer.head_dim
    mu_r, mu_d, mu_k, mu_v, mu_a, mu_g = mixer.mix
    states, last, outputs = x.new_zeros(x.shape[0], heads, width, width), torch.zeros_like(x[:, 0]), []

    def low_rank(part, z: Tensor, f) -> Tensor:
        bias = 0 if part.up.bias is None else part.up.bias
        return f(z @ part.down.weight.T) @ part.up.weight.T + bias

    for x_t in x.unbind(1):

        def lerp(mu: Tensor, x_t=x_t, last=last) -> Tensor:
            return (1 - mu) * x_t + mu * last

        r, k, v = (
            p.weight @ lerp(mu).unsqueeze(-1)
            for p, mu in zip((mixer.r_proj, mixer.k_proj, mixer.v_proj), (mu_r, mu_k, mu_v), strict=True)
        )
        r, k, v = (z.squeeze(-1) for z in (r, k, v))
        a = torch.sigmoid(low_rank(mixer.rate, lerp(mu_a), lambda z: z))
        g = low_rank(mixer.gate, lerp(mu_g), torch.sigmoid)
        d = low_rank(mixer.decay, lerp(mu_d), torch.tanh)
        w = torch.exp(-math.exp(-0.5) * torch.sigmoid(d))
        kappa, k_tilde = k * mixer.k_k, k * torch.lerp(torch.ones_like(a), a, mixer.k_a)
        rows, new_states = [], []
        for h in range(heads):
            part = slice(h * width, (h + 1) * width)
            r_h, w_h, a_h, v_h, k_h = (z[:, part] for z in (r, w, a, v, k_tilde))
            unit = kappa[:, part] / kappa[:, part].norm(dim=-1, keepdim=True)
            transition = torch.diag_embed(w_h) - unit.unsqueeze(2) * (a_h * unit).unsqueeze(1)
            state = states[:, h] @ transition + v_h.unsqueeze(2) * k_h.unsqueeze(1)
            read = (state @ r_h.unsqueeze(2)).squeeze(2)
            centred = read - read.mean(-1, keepdim=True)
            normed = centred / (centred.square().mean(-1, keepdim=True) + width * 1e-5).sqrt()
            normed = normed * mixer.norm_weight[part] + mixer.norm_bias[part]
            rows.append(normed + (r_h * mixer.r_k[h] * k_h).sum(-1, keepdim=True) * v_h)
            new_states.append(state)
        states, last = torch.stack(new_states, 1), x_t
        outputs.append((torch.cat(rows, -1) * g) @ mixer.out_proj.weight.T)
    return torch.stack(outputs, 1), states


@pytest.mark.parametrize("settings", [{}, {"num_heads": 4}, {"head_dim": 6, "decay_rank": 3, "chunk_size": 4}])
def test_outputs_state_and_gradients_are_those_of_the_paper(settings: dict) -> None:
    mixer = make_mixer(16, **settings)
    x = torch.randn(2, 21, 16, dtype=torch.float64, requires_grad=True)
    y, state = mixer(x)
    results = [[y, state.matrix], list(apply_equations(mixer, x))]
    results[1][1] = results[1][1].mT  # ours has keys in rows
    seeds = [torch.randn(z.shape, dtype=z.dtype) for z in results[0]]
    leaves = [x, *mixer.parameters()]
    got, expected = ([*zs, *torch.autograd.grad(zs, leaves, seeds)] for zs in results)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cut", [1, 15, 16, 17, 39])
@torch.no_grad()
def test_cutting_a_sequence_keeps_outputs_and_state(cut: int) -> None:
    mixer = make_mixer()
    x = torch.randn(2, 40, 32, dtype=torch.float64)
    whole, end = mixer(x, mixer.init_state(2))
    first, middle = mixer(x[:, :cut])
    last, end_of_parts = mixer(x[:, cut:], middle)
    torch.testing.assert_close(torch.cat([first, last], 1), whole, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tuple(end_of_parts), tuple(end), rtol=1e-10, atol=1e-10)


def test_starts_as_the_first_layer_of_the_authors() -> None:
    """Numbers worked out by hand from RWKV-v7/train_temp/src/model.py with n_embd 128, head_size 64, layer 0."""
    torch.manual_seed(0)
    mixer = RWKV7(128)
    torch.testing.assert_close(
        mixer.decay.up.bias[[0, 63, 127]], torch.tensor([-8.0, -0.02362, 3.0]), rtol=0, atol=1e-4
    )
    torch.testing.assert_close(mixer.rate.up.bias[[0, 127]], torch.tensor([-0.69, 0.31]))
    torch.testing.assert_close(mixer.k_k[[0, 127]], torch.tensor([0.76, 0.66]))
    torch.testing.assert_close(mixer.mix[:, 0], torch.ones(6))
    torch.testing.assert_close(mixer.mix[[0, 1, 2], 64], 1 - torch.tensor([0.5**0.2, 0.5**0.9, 0.5**0.7]))
    assert [part.down.out_features for part in (mixer.decay, mixer.rate, mixer.gate)] == [32, 32, 64]
    for linear, bound in ((mixer.r_proj, 0.5), (mixer.k_proj, 0.05), (mixer.v_proj, 0.5)):
        assert 0.99 * bound < linear.weight.abs().max() * 128**0.5 <= bound
    up = mixer.decay.up.weight  # orthogonal columns of length 0.1
    torch.testing.assert_close(up.mT @ up, 0.01 * torch.eye(32), rtol=0, atol=1e-6)


def test_only_the_large_matrices_decay() -> None:
    decayed = {name for name, p in RWKV7(32).named_parameters() if p.ndim > 1 and not hasattr(p, "no_weight_decay")}
    assert decayed == {f"{name}.weight" for name in ("r_proj", "k_proj", "v_proj", "out_proj")}


def test_a_key_of_zeros_gives_finite_gradients() -> None:
    mixer = make_mixer()
    x = torch.zeros(1, 5, 32, dtype=torch.float64, requires_grad=True)
    mixer(x)[0].sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()

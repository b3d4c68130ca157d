"""Retention against the parallel form of its paper, with complex numbers for the rotations, and its own contract."""

import pytest
import torch

from hybrids_plugins.mixers.retention import Retention

D_MODEL, HEADS = 16, 2


def make_mixer() -> Retention:
    torch.manual_seed(0)
    mixer = Retention(D_MODEL, num_heads=HEADS, chunk_size=8).double()
    with torch.no_grad():
        mixer.in_proj.weight.mul_(3)
    return mixer


def parallel(mixer: Retention, x: torch.Tensor) -> torch.Tensor:
    """Eq. 5 of arXiv:2307.08621: (Q Theta)(K conj(Theta))^T * D, D_nm = gamma^(n-m); then eq. 8."""
    q, k, v, g = (x @ w.T for w in mixer.in_proj.weight.split((D_MODEL, D_MODEL, 2 * D_MODEL, 2 * D_MODEL)))
    positions, width = torch.arange(x.shape[1], dtype=torch.float64), D_MODEL // HEADS
    pairs = 10000.0 ** (-torch.arange(width // 2, dtype=torch.float64) / (width // 2 - 1))
    theta = torch.exp(1j * positions[:, None] * pairs)
    behind = positions[:, None] - positions
    outputs = []
    for head in range(HEADS):
        keys, values = slice(head * width, (head + 1) * width), slice(2 * head * width, 2 * (head + 1) * width)
        qc, kc = (torch.view_as_complex(t[..., keys].unflatten(-1, (-1, 2))) * theta for t in (q, k))
        scores = (qc @ kc.mH).real * width**-0.5
        decay = torch.where(behind >= 0, (1 - 2.0 ** (-5 - head)) ** behind, 0.0)
        o = (scores * decay) @ v[..., values]
        outputs.append(o / (o.square().mean(-1, keepdim=True) + 1e-6).sqrt())
    return (torch.cat(outputs, dim=-1) * g * torch.sigmoid(g)) @ mixer.out_proj.weight.T


@pytest.mark.parametrize("length", [1, 7, 40])
def test_outputs_and_gradients_are_those_of_the_parallel_form(length: int) -> None:
    mixer = make_mixer()
    x = torch.randn(2, length, D_MODEL, dtype=torch.float64, requires_grad=True)
    got, expected = mixer(x)[0], parallel(mixer, x)
    torch.testing.assert_close(got, expected)
    seed, inputs = torch.randn_like(got), [x, *mixer.parameters()]
    torch.testing.assert_close(torch.autograd.grad(got, inputs, seed), torch.autograd.grad(expected, inputs, seed))


@torch.no_grad()
def test_decode_steps_go_on_at_the_position_of_the_prefill() -> None:
    mixer = make_mixer()
    x = torch.randn(2, 30, D_MODEL, dtype=torch.float64)
    expected, parts, state = parallel(mixer, x), [], None
    for piece in x.split([21, 1, 1, 7], dim=1):
        y, state = mixer(piece, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected)
    assert state is not None and state.position.tolist() == [30, 30]


def test_projections_start_as_the_authors_set_them() -> None:
    torch.manual_seed(0)
    mixer = Retention(64)
    bounds = [2**-2.5 * (6 / (64 + width)) ** 0.5 for width in (64, 64, 128, 128)] + [(6 / (64 + 128)) ** 0.5]
    weights = (*mixer.in_proj.weight.split((64, 64, 128, 128)), mixer.out_proj.weight)
    for weight, bound in zip(weights, bounds, strict=True):
        assert 0.98 * bound < weight.abs().max() <= bound

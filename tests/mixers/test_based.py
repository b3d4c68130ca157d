"""Based against its kernel written out over all pairs of positions, and its own contract."""

import pytest
import torch

from hybrids_plugins.mixers.based import Based

D_MODEL, HEADS, K = 12, 2, 5


def make_mixer() -> Based:
    torch.manual_seed(0)
    return Based(D_MODEL, num_heads=HEADS, feature_dim=K, chunk_size=8).double()


def quadratic(mixer: Based, x: torch.Tensor) -> torch.Tensor:
    """Weights 1 + z + z^2 / 2 with z = q . k / sqrt(K), normalised over the past."""
    q, k, v = (x @ w.T for w in mixer.in_proj.weight.split((HEADS * K, HEADS * K, D_MODEL)))
    q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v))
    z = q @ k.mT / K**0.5
    weights = (1 + z + z**2 / 2).tril()
    o = weights @ v / weights.sum(-1, keepdim=True)
    return o.transpose(1, 2).flatten(2) @ mixer.out_proj.weight.T


@pytest.mark.parametrize("length", [1, 7, 40])
def test_outputs_and_gradients_are_those_of_the_kernel(length: int) -> None:
    mixer = make_mixer()
    x = (3 * torch.randn(2, length, D_MODEL, dtype=torch.float64)).requires_grad_()
    got, expected = mixer(x)[0], quadratic(mixer, x)
    torch.testing.assert_close(got, expected)
    seed, inputs = torch.randn_like(got), [x, *mixer.parameters()]
    torch.testing.assert_close(torch.autograd.grad(got, inputs, seed), torch.autograd.grad(expected, inputs, seed))


@torch.no_grad()
def test_decode_steps_continue_a_prefill() -> None:
    mixer = make_mixer()
    x = torch.randn(2, 30, D_MODEL, dtype=torch.float64)
    parts, state = [], None
    for piece in x.split([21, 1, 1, 7], dim=1):
        y, state = mixer(piece, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=1), quadratic(mixer, x))


def test_the_state_holds_every_monomial_once_as_zoologys_formula_counts() -> None:
    """H hd E + H E with E = f (f + 1) / 2 + f + 1; the authors' features, x_i x_j and x_j x_i, are 1 + f + f^2."""
    heads, width, f = 4, 16, 16
    features = f * (f + 1) // 2 + f + 1
    assert Based(64).state_elements(10) == heads * width * features + heads * features == 10404
    assert Based(64).init_state(1).memory.shape == (1, heads, 153, width + 1)


def test_large_queries_and_keys_give_finite_outputs_and_gradients() -> None:
    mixer = Based(16)
    x = (1e3 * torch.randn(1, 20, 16)).requires_grad_()
    y, _ = mixer(x)
    gradients = torch.autograd.grad(y.sum(), [x, *mixer.parameters()])
    assert all(t.isfinite().all() for t in (y, *gradients))

"""Mamba-2 against transformers' layer with the same weights, and its own contract."""

import pytest
import torch
from transformers import DynamicCache
from transformers.models.mamba2.configuration_mamba2 import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from hybrids_plugins.mixers.mamba2 import Mamba2

D_MODEL, D_STATE, HEAD_DIM = 32, 8, 16


def make_pair() -> tuple[Mamba2, Mamba2Mixer, Mamba2Config]:
    """Our layer and theirs with the same weights."""
    torch.manual_seed(0)
    ours = Mamba2(D_MODEL, d_state=D_STATE, head_dim=HEAD_DIM, chunk_size=8)
    config = Mamba2Config(
        hidden_size=D_MODEL,
        num_heads=ours.num_heads,
        head_dim=HEAD_DIM,
        state_size=D_STATE,
        n_groups=1,
        num_hidden_layers=1,
        chunk_size=16,
    )
    theirs = Mamba2Mixer(config, layer_idx=0)
    with torch.no_grad():
        ours.D.uniform_(0.5, 1.5)
        ours.norm.weight.uniform_(0.5, 1.5)
    weights = {name: value for name, value in ours.state_dict().items() if not name.startswith("conv_")}
    weights |= {"conv1d.weight": ours.conv_weight.unsqueeze(1), "conv1d.bias": ours.conv_bias}
    theirs.load_state_dict(weights)
    return ours, theirs, config


@pytest.mark.parametrize("time", [1, 3, 16, 37])
def test_outputs_and_all_gradients_are_those_of_transformers(time: int) -> None:
    ours, theirs, _ = make_pair()
    x = torch.randn(2, time, D_MODEL, requires_grad=True)
    got, expected = ours(x)[0], theirs(x)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    seed = torch.randn_like(got)
    names = {"conv1d.weight": "conv_weight", "conv1d.bias": "conv_bias"}
    parameters = dict(ours.named_parameters())
    pairs = [(x, x)] + [(parameters[names.get(name, name)], p) for name, p in theirs.named_parameters()]
    assert len(pairs) == 1 + len(parameters)
    mine = torch.autograd.grad(got, [pair[0] for pair in pairs], seed)
    others = torch.autograd.grad(expected, [pair[1] for pair in pairs], seed)
    for a, b in zip(mine, others, strict=True):
        torch.testing.assert_close(a, b.view_as(a), rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_prefill_state_and_decode_steps_are_those_of_transformers_with_its_cache() -> None:
    ours, theirs, config = make_pair()
    x = torch.randn(2, 24, D_MODEL)
    cache = DynamicCache(config=config)
    expected = theirs(x[:, :20], cache_params=cache)
    got, state = ours(x[:, :20])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    assert_same_state(state, cache)
    for t in range(20, 24):
        y, state = ours(x[:, t : t + 1], state)
        torch.testing.assert_close(y, theirs(x[:, t : t + 1], cache_params=cache), rtol=1e-4, atol=1e-6)
    assert_same_state(state, cache)


def assert_same_state(state, cache) -> None:
    """Theirs has features before time, keeps one input more, and holds the transposed matrices."""
    torch.testing.assert_close(state.matrix.mT, cache.get_recurrent_state(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(state.tail, cache.get_conv_state(0, state_idx=0)[..., -3:].mT, rtol=1e-4, atol=1e-6)


def test_initial_decay_and_step_are_in_the_ranges_of_the_paper() -> None:
    torch.manual_seed(0)
    mixer = Mamba2(1024, head_dim=8)
    step, decay = torch.nn.functional.softplus(mixer.dt_bias), mixer.A_log.exp()
    assert 1e-3 <= step.min() < 2e-3 and 5e-2 < step.max() <= 1e-1
    assert 1 <= decay.min() < 2 and 15 < decay.max() <= 16
    assert mixer.D.eq(1).all()
    assert all(getattr(p, "no_weight_decay", False) for p in (mixer.A_log, mixer.dt_bias, mixer.D))


def test_steps_of_any_length_give_finite_outputs_and_gradients() -> None:
    """delta A of 1e4 empties the state at once; delta near 0 neither forgets nor writes."""
    mixer = Mamba2(32)
    with torch.no_grad():
        mixer.dt_bias.copy_(torch.tensor([1e4, -1e4]))
    x = torch.randn(1, 70, 32, requires_grad=True)
    y, state = mixer(x)
    gradients = torch.autograd.grad(y.square().sum(), [x, *mixer.parameters()])
    assert all(t.isfinite().all() for t in (y, state.matrix, *gradients))

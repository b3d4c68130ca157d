"""Mamba against transformers' layer with the same weights, and its own contract."""

import math

import pytest
import torch
from transformers.models.mamba.configuration_mamba import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers_layers import assert_same_decoding

from hybrids.ops import selective_scan_cpu
from hybrids_plugins.mixers.mamba import Mamba

D_MODEL = 20


def make_pair(backend: str = "torch") -> tuple[Mamba, MambaMixer, MambaConfig]:
    """Our layer and theirs with the same weights."""
    torch.manual_seed(0)
    config = MambaConfig(hidden_size=D_MODEL, state_size=6, expand=2, num_hidden_layers=1, time_step_rank=3)
    ours, theirs = Mamba(D_MODEL, d_state=6, dt_rank=3), MambaMixer(config, layer_idx=0)
    ours.backends["selective_scan"] = backend
    with torch.no_grad():
        ours.A_log.add_(torch.randn_like(ours.A_log) / 4)
        ours.D.uniform_(0.5, 1.5)
        for their_name, name in NAMES.items():
            target = theirs.get_parameter(their_name)
            target.copy_(ours.get_parameter(name).view_as(target))
    return ours, theirs, config


NAMES = {
    "in_proj.weight": "in_proj.weight",
    "conv1d.weight": "conv_weight",
    "conv1d.bias": "conv_bias",
    "x_proj.weight": "x_proj.weight",
    "dt_proj.weight": "dt_weight",
    "dt_proj.bias": "dt_bias",
    "A_log": "A_log",
    "D": "D",
    "out_proj.weight": "out_proj.weight",
}


@pytest.fixture(scope="module", params=["torch", "cpp"])
def backend(request) -> str:
    if request.param == "cpp" and (reason := selective_scan_cpu.why_not()):
        pytest.skip(f"the kernel cannot run here: {reason}")
    return request.param


@pytest.mark.parametrize("time", [1, 3, 70])
def test_agrees_with_transformers_in_outputs_and_all_gradients(backend: str, time: int) -> None:
    ours, theirs, _ = make_pair(backend)
    assert {n for n, _ in theirs.named_parameters()} == set(NAMES)
    assert {n for n, _ in ours.named_parameters()} == set(NAMES.values())
    x = torch.randn(2, time, D_MODEL, requires_grad=True)
    got, expected = ours(x)[0], theirs(x)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    seed = torch.randn_like(got)
    d_ours = torch.autograd.grad(got, [x, *(ours.get_parameter(n) for n in NAMES.values())], seed)
    d_theirs = torch.autograd.grad(expected, [x, *(theirs.get_parameter(n) for n in NAMES)], seed)
    for name, a, b in zip(("x", *NAMES), d_ours, d_theirs, strict=True):
        torch.testing.assert_close(
            a, b.view_as(a), rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"gradient of {name}: {m}"
        )


def test_prefill_and_decode_steps_agree_with_transformers_with_its_cache(backend: str) -> None:
    ours, theirs, config = make_pair(backend)
    state, cache = assert_same_decoding(ours, theirs, config, D_MODEL)
    torch.testing.assert_close(state.ssm, cache.get_recurrent_state(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cut", [1, 2, 3, 31, 69])
@torch.no_grad()
def test_cutting_a_sequence_keeps_outputs_and_state(backend: str, cut: int) -> None:
    torch.manual_seed(0)
    mixer = Mamba(32).double()
    mixer.backends["selective_scan"] = backend
    x = torch.randn(2, 70, 32, dtype=torch.float64)
    whole, end = mixer(x, mixer.init_state(2))
    first, middle = mixer(x[:, :cut])
    last, end_of_parts = mixer(x[:, cut:], middle)
    torch.testing.assert_close(torch.cat([first, last], 1), whole, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(tuple(end_of_parts), tuple(end), rtol=1e-10, atol=1e-12)


def test_initialisation_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    mixer = Mamba(256)
    step = torch.nn.functional.softplus(mixer.dt_bias)
    assert 1e-3 <= step.min() < 2e-3 and 5e-2 < step.max() <= 1e-1
    assert math.isclose(step.log().mean().item(), math.log(1e-2), abs_tol=0.2), "log-uniform"
    torch.testing.assert_close(mixer.A_log.exp(), torch.arange(1.0, 17).expand(512, 16))
    assert torch.equal(mixer.D, torch.ones(512))
    assert mixer.dt_weight.shape == (512, 16) and 0.24 < mixer.dt_weight.abs().max() <= 0.25
    assert 0.49 < mixer.conv_weight.abs().max() <= 0.5
    marked = {n for n, p in mixer.named_parameters() if getattr(p, "no_weight_decay", False)}
    assert marked == {"A_log", "D", "dt_bias"}


def test_rank_of_the_step_is_a_sixteenth_of_the_width_rounded_up() -> None:
    assert [Mamba(width).dt_rank for width in (8, 16, 17, 128)] == [1, 1, 2, 8]

"""Parameters of gates get their gradient where decays are strong: whole sequences in float32 against the same layer in
float64, one step at a time."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hybrids.mixer import Mixer
from hybrids_plugins.mixers.gated_delta_net import GatedDeltaNet
from hybrids_plugins.mixers.gla import GatedLinearAttention
from hybrids_plugins.mixers.hgrn2 import HGRN2
from hybrids_plugins.mixers.kimi_delta_attention import KimiDeltaAttention
from hybrids_plugins.mixers.mamba import Mamba
from hybrids_plugins.mixers.mamba2 import Mamba2
from hybrids_plugins.mixers.rwkv7 import RWKV7

D_MODEL, LENGTH = 16, 41


def long_steps(mixer: GatedDeltaNet | KimiDeltaAttention | Mamba | Mamba2, strength: float) -> None:
    mixer.A_log.zero_()
    mixer.dt_bias.fill_(strength)


def shut_gla(mixer: GatedLinearAttention, strength: float) -> None:
    mixer.gate_proj.bias.fill_(-strength * mixer.gate_normalizer)


def shut_hgrn2(mixer: HGRN2, strength: float) -> None:
    """By way of the first input, which is always 1."""
    mixer.in_proj.weight.split(mixer.widths)[1][:, 0] = -strength


def shut_rwkv7(mixer: RWKV7, strength: float) -> None:
    """As far as this gate shuts."""
    mixer.decay.up.bias.fill_(strength)


LAYERS: dict[str, tuple[Callable[[], Mixer], Callable, list[str]]] = {
    "gated_delta_net": (lambda: GatedDeltaNet(D_MODEL), long_steps, ["A_log", "dt_bias"]),
    "kimi_delta_attention": (
        lambda: KimiDeltaAttention(D_MODEL),
        long_steps,
        ["A_log", "dt_bias", "decay_proj.weight"],
    ),
    "mamba": (lambda: Mamba(D_MODEL), long_steps, ["A_log", "dt_bias", "dt_weight"]),
    "mamba2": (lambda: Mamba2(D_MODEL, head_dim=8, d_state=8), long_steps, ["A_log", "dt_bias"]),
    "gla": (lambda: GatedLinearAttention(D_MODEL), shut_gla, ["gate_proj.weight", "gate_proj.bias"]),
    "hgrn2": (lambda: HGRN2(D_MODEL), shut_hgrn2, ["in_proj.weight"]),
    "hgrn2 with a bound": (lambda: HGRN2(D_MODEL, lower_bound=1e-9), shut_hgrn2, ["in_proj.weight"]),
    "rwkv7": (lambda: RWKV7(D_MODEL), shut_rwkv7, ["decay.up.bias", "decay.up.weight", "decay.down.weight"]),
}


def by_steps(mixer: Mixer, x: Tensor) -> Tensor:
    outputs, state = [], None
    for piece in x.split(1, dim=1):
        y, state = mixer(piece, state)
        outputs.append(y)
    return torch.cat(outputs, dim=1)


def gradients(mixer: Mixer, outputs: Tensor, names: list[str]) -> list[Tensor]:
    seed = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = torch.autograd.grad(outputs, [mixer.get_parameter(name) for name in names], seed.to(outputs.dtype))
    if isinstance(mixer, HGRN2):
        found = [found[0].split(mixer.widths)[1]]  # the rows of the gate; the others have larger gradients
    return list(found)


@pytest.mark.parametrize("strength", [5.0, 15.0, 35.0])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_gates_in_float32_are_those_of_single_steps_in_float64(name: str, strength: float) -> None:
    make, shut, parameters = LAYERS[name]
    torch.manual_seed(0)
    mixer, x = make(), torch.randn(2, LENGTH, D_MODEL)
    x[..., 0] = 1
    with torch.no_grad():
        shut(mixer, strength)
    exact = copy.deepcopy(mixer).double()
    got = gradients(mixer, mixer(x)[0], parameters)
    expected = gradients(exact, by_steps(exact, x.double()), parameters)
    for parameter, g, e in zip(parameters, got, expected, strict=True):
        error = float((g.double() - e).abs().max() / e.abs().max())
        assert error < 1e-4, f"{parameter} is off by {error:.1e} of its largest gradient, {float(e.abs().max()):.1e}"

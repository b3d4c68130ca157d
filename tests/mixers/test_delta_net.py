"""DeltaNet against its equations, and against transformers' gated layer with the gate held open."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.olmo_hybrid.configuration_olmo_hybrid import OlmoHybridConfig
from transformers.models.olmo_hybrid.modeling_olmo_hybrid import OlmoHybridGatedDeltaNet
from transformers_layers import assert_same_decoding, assert_same_outputs_and_input_gradients

from hybrids_plugins.mixers.delta_net import DeltaNet

D_MODEL, HEADS, D_KEY, D_VALUE = 32, 2, 8, 16
KEYS, VALUES = HEADS * D_KEY, HEADS * D_VALUE


def make_mixer(**settings) -> DeltaNet:
    torch.manual_seed(0)
    mixer = DeltaNet(D_MODEL, num_heads=HEADS, head_dim=D_KEY, expand_v=2.0, **settings)
    with torch.no_grad():
        mixer.norm.weight.uniform_(0.5, 1.5)
    return mixer


def apply_equations(mixer: DeltaNet, x: Tensor) -> tuple[Tensor, Tensor]:
    """One step at a time: convolve by hand, S_t = S_{t-1} (I - beta k k^T) + beta v k^T, read, norm, project."""
    projected = x @ mixer.in_proj.weight.T
    qkv, beta = projected[..., : 2 * KEYS + VALUES], projected[..., -HEADS:].sigmoid()
    taps = mixer.conv_weight.shape[1]
    padded = torch.cat([qkv.new_zeros(len(x), taps - 1, qkv.shape[2]), qkv], dim=1)
    state, outputs = x.new_zeros(len(x), HEADS, D_VALUE, D_KEY), []
    for t in range(x.shape[1]):
        seen = F.silu((padded[:, t : t + taps] * mixer.conv_weight.T).sum(1))
        q, k, v = seen[:, :KEYS], seen[:, KEYS : 2 * KEYS], seen[:, 2 * KEYS :]
        q, k, v = (z.view(len(x), HEADS, -1) for z in (q, k, v))
        q, k = (z / (z.square().sum(-1, keepdim=True) + 1e-6).sqrt() for z in (q, k))
        b = beta[:, t, :, None, None]
        kept = torch.eye(D_KEY, dtype=x.dtype) - b * k.unsqueeze(-1) * k.unsqueeze(-2)
        state = state @ kept + b * v.unsqueeze(-1) * k.unsqueeze(-2)
        o = (state @ q.unsqueeze(-1)).squeeze(-1) * D_KEY**-0.5
        o = o / (o.square().mean(-1, keepdim=True) + 1e-5).sqrt() * mixer.norm.weight
        outputs.append(o.flatten(1) @ mixer.out_proj.weight.T)
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize("time", [1, 3, 40])
def test_outputs_state_and_gradients_are_those_of_the_equations(time: int) -> None:
    mixer = make_mixer().double()
    x = torch.randn(2, time, D_MODEL, dtype=torch.float64, requires_grad=True)
    y, state = mixer(x)
    outputs, states = apply_equations(mixer, x)
    results = [[y, state.matrix], [outputs, states.mT]]
    seeds = [torch.randn(z.shape, dtype=z.dtype) for z in results[0]]
    got, expected = ([*zs, *torch.autograd.grad(zs, [x, *mixer.parameters()], seeds)] for zs in results)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def make_pair(is_reflecting: bool) -> tuple[DeltaNet, OlmoHybridGatedDeltaNet, OlmoHybridConfig]:
    """With an output gate, our layer is theirs at a decay of exp(-softplus(-100)) = 1."""
    config = OlmoHybridConfig(
        hidden_size=D_MODEL,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=HEADS,
        linear_num_value_heads=HEADS,
        linear_key_head_dim=D_KEY,
        linear_value_head_dim=D_VALUE,
        linear_allow_neg_eigval=is_reflecting,
    )
    ours = make_mixer(use_output_gate=True, allow_negative_eigenvalues=is_reflecting)
    theirs = OlmoHybridGatedDeltaNet(config, layer_idx=0)
    with torch.no_grad():
        q, k, v, g, b = ours.in_proj.weight.split((KEYS, KEYS, VALUES, VALUES, HEADS))
        parts = {"q_proj": q, "k_proj": k, "v_proj": v, "g_proj": g, "b_proj": b, "o_proj": ours.out_proj.weight}
        for name, weight in (parts | {"o_norm": ours.norm.weight}).items():
            getattr(theirs, name).weight.copy_(weight)
        theirs.conv1d.weight.copy_(ours.conv_weight.unsqueeze(1))
        theirs.dt_bias.fill_(-100.0)
    return ours, theirs, config


@pytest.mark.parametrize("is_reflecting", [False, True])
@pytest.mark.parametrize("time", [1, 3, 100])
def test_agrees_with_transformers_in_outputs_and_input_gradients(time: int, is_reflecting: bool) -> None:
    ours, theirs, _ = make_pair(is_reflecting)
    assert_same_outputs_and_input_gradients(ours, theirs, time, D_MODEL)


def test_prefill_and_decode_steps_agree_with_transformers_with_its_cache() -> None:
    ours, theirs, config = make_pair(False)
    assert_same_decoding(ours, theirs, config, D_MODEL)

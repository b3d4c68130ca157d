"""Kimi Delta Attention against transformers' layer with the same weights, and its own contract."""

import pytest
import torch
from torch import Tensor
from transformers.models.kimi_linear.configuration_kimi_linear import KimiLinearConfig
from transformers.models.kimi_linear.modeling_kimi_linear import KimiLinearDeltaAttention
from transformers_layers import assert_same_decoding, assert_same_outputs_and_input_gradients

from hybrids.ops.delta_heads import DeltaState
from hybrids_plugins.mixers.kimi_delta_attention import KimiDeltaAttention

D_MODEL, HEADS, D_HEAD = 32, 2, 8


def make_pair() -> tuple[KimiDeltaAttention, KimiLinearDeltaAttention, KimiLinearConfig]:
    """Our layer and theirs with the same weights."""
    config = KimiLinearConfig(
        hidden_size=D_MODEL,
        num_hidden_layers=1,
        layer_types=["linear_attention"],
        linear_num_heads=HEADS,
        linear_head_dim=D_HEAD,
        linear_conv_kernel_dim=4,
        rms_norm_eps=1e-5,
    )
    torch.manual_seed(0)
    ours = KimiDeltaAttention(D_MODEL, num_heads=HEADS, head_dim=D_HEAD)
    theirs = KimiLinearDeltaAttention(config, layer_idx=0)
    with torch.no_grad():
        ours.norm.weight.uniform_(0.5, 1.5)
        copy_weights(ours, theirs)
    return ours, theirs, config


def copy_weights(ours: KimiDeltaAttention, theirs: KimiLinearDeltaAttention) -> None:
    width = HEADS * D_HEAD
    q, k, v, b, f_a, g_a = ours.in_proj.weight.split((width, width, width, HEADS, D_HEAD, D_HEAD))
    copies: list[tuple[Tensor, Tensor]] = [
        (theirs.q_proj.weight, q),
        (theirs.k_proj.weight, k),
        (theirs.v_proj.weight, v),
        (theirs.b_proj.weight, b),
        (theirs.conv1d.weight, ours.conv_weight.unsqueeze(1)),
        (theirs.forget_gate.f_a_proj.weight, f_a),
        (theirs.forget_gate.f_b_proj.weight, ours.decay_proj.weight),
        (theirs.forget_gate.dt_bias, ours.dt_bias),
        (theirs.forget_gate.A_log, ours.A_log.view(1, 1, HEADS, 1)),
        (theirs.g_a_proj.weight, g_a),
        (theirs.g_b_proj.weight, ours.gate_proj.weight),
        (theirs.o_norm.weight, ours.norm.weight),
        (theirs.o_proj.weight, ours.out_proj.weight),
    ]
    for target, source in copies:
        target.copy_(source)


@pytest.mark.parametrize("time", [1, 3, 64, 100])
def test_agrees_with_transformers_in_outputs_and_input_gradients(time: int) -> None:
    ours, theirs, _ = make_pair()
    assert_same_outputs_and_input_gradients(ours, theirs, time, D_MODEL)


def test_prefill_and_decode_steps_agree_with_transformers_with_its_cache() -> None:
    ours, theirs, config = make_pair()
    state, cache = assert_same_decoding(ours, theirs, config, D_MODEL)
    torch.testing.assert_close(state.matrix, cache.layers[0].recurrent_states[0], rtol=1e-4, atol=1e-6)


def test_initial_decay_and_step_are_in_the_ranges_of_the_authors() -> None:
    torch.manual_seed(0)
    mixer = KimiDeltaAttention(256, num_heads=256)
    step, decay = torch.nn.functional.softplus(mixer.dt_bias), mixer.A_log.exp()
    assert 1e-3 <= step.min() < 2e-3 and 5e-2 < step.max() <= 1e-1
    assert 1 <= decay.min() < 2 and 15 < decay.max() <= 16
    assert all(getattr(p, "no_weight_decay", False) for p in (mixer.A_log, mixer.dt_bias))


@torch.no_grad()
def test_each_key_feature_forgets_at_its_own_rate() -> None:
    """With nothing to write, row i of the state decays by softplus(dt_i) a step."""
    mixer = KimiDeltaAttention(4, num_heads=1, conv_size=1)
    mixer.in_proj.weight.zero_()
    mixer.A_log.zero_()
    mixer.dt_bias.copy_(torch.tensor([-100.0, 0.0, 1.0, 100.0]))
    state = DeltaState(mixer.init_state(1).tail, torch.ones(1, 1, 4, 4))
    matrix = mixer(torch.randn(1, 2, 4), state)[1].matrix[0, 0]
    expected = torch.tensor([1.0, 0.25, (1 + torch.e) ** -2, 0.0])  # exp(-softplus(x)) = 1 / (1 + exp(x))
    torch.testing.assert_close(matrix, expected.unsqueeze(1).expand(4, 4))


@torch.no_grad()
def test_negative_eigenvalues_double_beta() -> None:
    """A key that is written twice with beta near 2 gives back its value, then nothing: (1 - 2) v + 2 v = v, and 2 v."""
    mixer = KimiDeltaAttention(4, num_heads=1, conv_size=1, allow_negative_eigenvalues=True)
    mixer.in_proj.weight.zero_()
    mixer.conv_weight.fill_(1.0)
    mixer.dt_bias.fill_(-100.0)
    mixer.in_proj.weight[4:8, 0] = mixer.in_proj.weight[8:12, 0] = 10.0  # k: all equal; v: 10
    mixer.in_proj.weight[12, 0] = 100.0  # beta
    x = torch.zeros(1, 2, 4)
    x[..., 0] = 1.0
    key = torch.full((4, 1), 0.5)
    once, twice = (mixer(x[:, :steps])[1].matrix[0, 0] for steps in (1, 2))
    torch.testing.assert_close(once, key * 2 * torch.full((4,), 10.0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(twice, torch.zeros(4, 4), rtol=0, atol=0.02)

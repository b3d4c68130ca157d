"""Gated DeltaNet against transformers' layer with the same weights, and its own contract."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers.models.qwen3_next.configuration_qwen3_next import Qwen3NextConfig
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet
from transformers_layers import assert_same_decoding, assert_same_outputs_and_input_gradients

from hybrids.ops.delta_heads import DeltaState
from hybrids_plugins.mixers.gated_delta_net import GatedDeltaNet

D_MODEL, HEADS, D_KEY, D_VALUE = 32, 2, 8, 16


def make_pair() -> tuple[GatedDeltaNet, Qwen3NextGatedDeltaNet, Qwen3NextConfig]:
    """Our layer and theirs with the same weights."""
    config = Qwen3NextConfig(
        hidden_size=D_MODEL,
        num_hidden_layers=1,
        layer_types=["linear_attention"],
        linear_num_key_heads=HEADS,
        linear_num_value_heads=HEADS,
        linear_key_head_dim=D_KEY,
        linear_value_head_dim=D_VALUE,
        linear_conv_kernel_dim=4,
        rms_norm_eps=1e-5,
    )
    torch.manual_seed(0)
    ours = GatedDeltaNet(D_MODEL, num_heads=HEADS, head_dim=D_KEY, expand_v=2.0)
    theirs = Qwen3NextGatedDeltaNet(config, layer_idx=0)
    with torch.no_grad():
        ours.norm.weight.uniform_(0.5, 1.5)
        copy_weights(ours, theirs)
    return ours, theirs, config


def copy_weights(ours: GatedDeltaNet, theirs: Qwen3NextGatedDeltaNet) -> None:
    """Theirs groups the rows of a projection by head, ours by what they make."""
    keys, values = HEADS * D_KEY, HEADS * D_VALUE
    q, k, v, z, b, a = ours.in_proj.weight.split((keys, keys, values, values, HEADS, HEADS))

    def by_head(*parts: Tensor) -> Tensor:
        return torch.cat([p.unflatten(0, (HEADS, -1)) for p in parts], dim=1).flatten(0, 1)

    theirs.in_proj_qkvz.weight.copy_(by_head(q, k, v, z))
    theirs.in_proj_ba.weight.copy_(by_head(b, a))
    theirs.conv1d.weight.copy_(ours.conv_weight.unsqueeze(1))
    theirs.A_log.copy_(ours.A_log)
    theirs.dt_bias.copy_(ours.dt_bias)
    theirs.norm.weight.copy_(ours.norm.weight)
    theirs.out_proj.weight.copy_(ours.out_proj.weight)


@pytest.mark.parametrize("time", [1, 3, 64, 100])
def test_agrees_with_transformers_in_outputs_and_input_gradients(time: int) -> None:
    ours, theirs, _ = make_pair()
    assert_same_outputs_and_input_gradients(ours, theirs, time, D_MODEL)


def test_prefill_and_decode_steps_agree_with_transformers_with_its_cache() -> None:
    ours, theirs, config = make_pair()
    assert_same_decoding(ours, theirs, config, D_MODEL)


def test_a_checkpoint_from_before_the_norm_was_a_module_still_loads() -> None:
    path = Path(__file__).parents[1] / "trained_before/mqar-LA-646e90b2/checkpoints/step=00000400.ckpt"
    prefix = "model.backbone.blocks.0.mixers.0."
    stored = torch.load(path, weights_only=True)["state_dict"]
    state = {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
    assert "norm_weight" in state and "norm.weight" not in state
    mixer = GatedDeltaNet(16)
    mixer.load_state_dict(state)
    assert torch.equal(mixer.norm.weight, state["norm_weight"])
    whole = nn.ModuleDict({"inside": copy.deepcopy(mixer)})
    whole.load_state_dict({f"inside.{name}": value for name, value in state.items()})
    # Optimisers store their moments by the order of parameters, those without decay apart.
    spared = [name for name, parameter in mixer.named_parameters() if parameter.ndim < 2]
    assert spared == ["A_log", "dt_bias", "norm.weight"]


def test_initial_decay_and_step_are_in_the_ranges_of_the_paper() -> None:
    torch.manual_seed(0)
    mixer = GatedDeltaNet(256, num_heads=256)
    step, decay = torch.nn.functional.softplus(mixer.dt_bias), mixer.A_log.exp()
    assert 1e-3 <= step.min() < 2e-3 and 5e-2 < step.max() <= 1e-1
    assert 0 < decay.min() < 1 and 15 < decay.max() <= 16
    assert all(getattr(p, "no_weight_decay", False) for p in (mixer.A_log, mixer.dt_bias))


def test_negative_eigenvalues_flip_what_a_key_reads() -> None:
    """beta near 2 reflects the state along the key: with nothing to write, a read changes its sign each step."""
    torch.manual_seed(0)
    mixer = GatedDeltaNet(8, num_heads=1, conv_size=1, use_output_gate=False, allow_negative_eigenvalues=True)
    with torch.no_grad():
        mixer.in_proj.weight.zero_()
        mixer.conv_weight.fill_(1.0)
        mixer.in_proj.weight[:8, 0] = mixer.in_proj.weight[8:16, 0] = 1.0  # q and k: all ones
        mixer.in_proj.weight[24, 0] = 100.0  # beta
        mixer.dt_bias.fill_(-100.0)  # no decay
    x = torch.zeros(1, 2, 8)
    x[..., 0] = 1.0
    state = DeltaState(mixer.init_state(1).tail, torch.ones(1, 1, 8, 8))
    once, twice = (mixer(x[:, :steps], state)[1].matrix for steps in (1, 2))
    torch.testing.assert_close(once, -state.matrix, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(twice, state.matrix, rtol=1e-4, atol=1e-4)

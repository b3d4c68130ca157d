"""Kernels get what our ops mean, as the stand-ins of kernel_stand_ins.py see it."""

import pytest
import torch
from kernel_inputs import (
    BF16,
    GATES,
    assert_same,
    dplr_step_by_step,
    make_dplr_inputs,
    make_inputs,
    make_mamba2_inputs,
    make_scan_inputs,
    mamba2_reference,
)
from kernel_stand_ins import selective_reference, step_by_step

from hybrids.ops.kernels import find_kernel
from hybrids.ops.short_conv import short_conv

LINEAR_ATTENTION = find_kernel("linear_attention", "fla").call
DELTA_RULE = find_kernel("delta_rule", "fla").call
DPLR = find_kernel("dplr", "fla").call
MAMBA2_SCAN = find_kernel("mamba2_scan", "mamba_ssm").call
SELECTIVE_SCAN = find_kernel("selective_scan", "mamba_ssm").call
SHORT_CONV = find_kernel("short_conv", "mamba_ssm").call


def names(calls):
    return [call.name for call in calls]


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("length", [7, 65])
def test_linear_attention_says_to_fla_what_it_means(stand_ins, length, gate, scale):
    inputs = make_inputs(length, 4, gate, has_beta=False)

    def ours(**x):
        return step_by_step(**x, scale=scale)

    def theirs(**x):
        return LINEAR_ATTENTION(**x, scale=scale)

    assert_same(ours, theirs, inputs, 1e-5)
    start = "fused_recurrent" if length <= 64 else "chunk"
    assert names(stand_ins) == [f"{start}_{'gla' if gate == 'key' else 'simple_gla'}"]


def test_grouped_heads_odd_widths_and_the_start_of_a_sequence(stand_ins):
    inputs = make_inputs(5, 4, "scalar", has_beta=False, groups=1, d_value=5)
    assert_same(step_by_step, LINEAR_ATTENTION, inputs, 1e-5)
    del inputs["state"]
    assert_same(step_by_step, LINEAR_ATTENTION, inputs, 1e-5)


@pytest.mark.parametrize(("d_key", "d_value"), [(5, 4), (4, 5), (5, 5)])
@pytest.mark.parametrize("gate", GATES)
def test_odd_widths_in_bfloat16_have_a_gradient(stand_ins, gate, d_key, d_value):
    """fla's chunks refuse them, from 65 tokens on."""
    inputs = make_inputs(65, d_key, gate, has_beta=False, dtype=BF16, d_value=d_value)
    assert_same(step_by_step, LINEAR_ATTENTION, inputs, 2e-2)
    with torch.no_grad():
        o, state = LINEAR_ATTENTION(**inputs)
    assert (o.shape[-1], tuple(state.shape[-2:])) == (d_value, (d_key, d_value))


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("length", [7, 65])
def test_the_delta_rule_says_to_fla_what_it_means(stand_ins, length, gate, scale):
    inputs = make_inputs(length, 4, gate, has_beta=True)

    def ours(**x):
        return step_by_step(**x, scale=scale)

    def theirs(**x):
        return DELTA_RULE(**x, scale=scale)

    assert_same(ours, theirs, inputs, 1e-5)
    name = {"none": "delta_rule", "scalar": "gated_delta_rule", "key": "kda"}[gate]
    start = "fused_recurrent" if length <= 64 and gate == "none" else "chunk"  # with a decay, steps have no gradient
    assert names(stand_ins) == [f"{start}_{name}"]


@pytest.mark.parametrize(("length", "expected"), [(1, "fused_recurrent"), (64, "fused_recurrent"), (65, "chunk")])
def test_a_decode_step_takes_the_kernel_without_a_gradient(stand_ins, length, expected):
    with torch.no_grad():
        DELTA_RULE(**make_inputs(length, 4, "scalar", has_beta=True))
    assert names(stand_ins) == [f"{expected}_gated_delta_rule"]


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("length", [7, 65])
def test_the_generalised_delta_rule_says_to_fla_what_it_means(stand_ins, length, scale):
    inputs = make_dplr_inputs(length, 4)
    assert_same(lambda **x: dplr_step_by_step(**x, scale=scale), lambda **x: DPLR(**x, scale=scale), inputs, 1e-5)
    assert names(stand_ins) == ["chunk_dplr_delta_rule"]  # steps have no gradient
    with torch.no_grad():
        DPLR(**inputs)
    assert names(stand_ins)[1:] == [f"{'fused_recurrent' if length <= 64 else 'chunk'}_dplr_delta_rule"]


def test_decays_of_zero_reach_the_kernel_as_finite_logarithms(stand_ins):
    inputs = make_inputs(6, 4, "scalar", has_beta=True)
    inputs["log_decay"][:, 3] = -torch.inf
    o, state = DELTA_RULE(**inputs)
    expected = step_by_step(**inputs)
    torch.testing.assert_close((o.double(), state.double()), expected, rtol=0, atol=1e-5)


def test_activations_keep_their_dtype_and_states_are_float32(stand_ins):
    for op, has_beta in ((LINEAR_ATTENTION, False), (DELTA_RULE, True)):
        inputs = make_inputs(5, 4, "scalar", has_beta=has_beta, dtype=BF16)
        inputs["state"] = inputs["state"].double()
        o, state = op(**inputs)
        assert (o.dtype, state.dtype) == (BF16, torch.float32)


def test_the_selective_scan_says_to_mamba_ssm_what_it_means(stand_ins):
    inputs = make_scan_inputs(6)
    actual, expected = SELECTIVE_SCAN(**inputs), selective_reference(**inputs)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6, check_dtype=False)
    x = inputs.pop("x").requires_grad_()
    _, state = SELECTIVE_SCAN(x, **inputs)
    with pytest.raises(RuntimeError, match=r"no gradient for its final state; take backend=torch"):
        state.sum().backward()


def test_the_scan_of_mamba2_says_to_mamba_ssm_what_it_means(stand_ins):
    assert_same(mamba2_reference, MAMBA2_SCAN, make_mamba2_inputs(9), 1e-5)


@pytest.mark.parametrize("has_state", [False, True])
def test_the_short_convolution_says_to_causal_conv1d_what_it_means(stand_ins, has_state):
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(2, 5, 19, generator=generator)
    inputs = {
        "x": wide[..., :16],
        "weight": torch.randn(16, 4, generator=generator),
        "bias": torch.randn(16, generator=generator),
    }
    if has_state:
        inputs["state"] = torch.randn(2, 3, 16, generator=generator)

    def ours(**x):
        return short_conv(**x, activation="silu")

    def theirs(**x):
        return SHORT_CONV(**x, activation="silu")

    assert_same(ours, theirs, inputs, 1e-6)
    # A slice of a projection has strides that the kernel refuses; clones, as above, do not.
    torch.testing.assert_close(theirs(**inputs), ours(**inputs))


@pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=str)
@pytest.mark.parametrize("start", [0, 1, 4, 8])
@pytest.mark.parametrize("batch", [1, 2])
def test_slices_reach_causal_conv1d_where_it_can_load_them(stand_ins, batch, start, dtype):
    """Input, state and the gradient of the output are each a slice that may start anywhere in its storage."""
    generator = torch.Generator().manual_seed(0)

    def sliced(time):
        return torch.randn(batch, time, 32, generator=generator).to(dtype)[..., start : start + 16]

    x, state, weight = sliced(5), sliced(3), torch.randn(16, 4, generator=generator).to(dtype)
    beside = torch.randn(batch, 5, start + 3, generator=generator).to(dtype)
    gradients = []
    for form in (short_conv, SHORT_CONV):
        leaf = x.detach().requires_grad_()
        y, _ = form(leaf, weight, None, state)
        (gradient,) = torch.autograd.grad(torch.cat([beside, y], dim=-1).square().sum(), leaf)
        gradients.append(gradient)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=2e-2, atol=2e-2)

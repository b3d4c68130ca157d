"""Kernels compute what our ops mean, on a GPU."""

import pytest
import torch
from gpu_kernels import require
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
from hybrids.ops.kernels.inputs import SHORT
from hybrids.ops.short_conv import short_conv

LINEAR_ATTENTION = find_kernel("linear_attention", "fla").call
DELTA_RULE = find_kernel("delta_rule", "fla").call
DPLR = find_kernel("dplr", "fla").call
MAMBA2_SCAN = find_kernel("mamba2_scan", "mamba_ssm").call
SELECTIVE_SCAN = find_kernel("selective_scan", "mamba_ssm").call
SHORT_CONV = find_kernel("short_conv", "mamba_ssm").call

LENGTHS = [1, 5, 63, 64, 65, 200]
TOLERANCES = {torch.float32: 5e-3, BF16: 5e-2}
"""Of the largest entry. float32 is TF32 in Triton, with 10 bits of mantissa; bfloat16 has 7."""


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(("width", "d_value"), [(16, 16), (32, 33), (64, 64), (128, 128)])
@pytest.mark.parametrize("length", LENGTHS)
def test_linear_attention_on_fla(length, width, d_value, gate, dtype):
    require("linear_attention", "fla", gate=gate)
    inputs = make_inputs(length, width, gate, has_beta=False, dtype=dtype, device="cuda", d_value=d_value)
    assert_same(step_by_step, LINEAR_ATTENTION, inputs, TOLERANCES[dtype])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("width", [16, 64, 128])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_delta_rule_on_fla(length, width, gate, dtype):
    require("delta_rule", "fla", gate=gate)
    if gate == "none" and dtype == torch.float32 and length > SHORT:
        pytest.skip("fla refuses float32 there")
    inputs = make_inputs(length, width, gate, has_beta=True, dtype=dtype, device="cuda")
    assert_same(step_by_step, DELTA_RULE, inputs, TOLERANCES[dtype])
    with torch.no_grad():
        o, state = DELTA_RULE(**inputs)
        expected, expected_state = step_by_step(**inputs)
    for actual, reference in ((o, expected), (state, expected_state)):
        atol = TOLERANCES[dtype] * reference.abs().max().item()
        torch.testing.assert_close(actual.double(), reference, rtol=0, atol=atol)


@pytest.mark.gpu
@pytest.mark.parametrize("width", [16, 64, 128])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_generalised_delta_rule_on_fla(length, width):
    require("dplr", "fla")
    inputs = make_dplr_inputs(length, width, dtype=BF16, device="cuda")
    assert_same(dplr_step_by_step, lambda **x: DPLR(**x, scale=1.0), inputs, TOLERANCES[BF16])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("d_state", "d_value"), [(16, 16), (64, 32), (128, 64)])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_scan_of_mamba2_on_mamba_ssm(length, d_state, d_value, dtype):
    require("mamba2_scan", "mamba_ssm")
    inputs = make_mamba2_inputs(length, d_state, d_value, dtype=dtype, device="cuda")
    assert_same(mamba2_reference, MAMBA2_SCAN, inputs, TOLERANCES[dtype])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=str)
@pytest.mark.parametrize("length", LENGTHS)
def test_the_selective_scan_on_mamba_ssm(length, dtype):
    require("selective_scan", "mamba_ssm")
    inputs = make_scan_inputs(length, 16, width=32, dtype=dtype, device="cuda")

    def outputs_of(scan):
        return lambda **x: scan(**x)[:1]

    tolerance = 1e-4 if dtype == torch.float32 else TOLERANCES[BF16]  # no tensor cores, so no TF32
    assert_same(outputs_of(selective_reference), outputs_of(SELECTIVE_SCAN), inputs, tolerance)
    with torch.no_grad():
        state, expected = (scan(**inputs)[1].double() for scan in (SELECTIVE_SCAN, selective_reference))
    torch.testing.assert_close(state, expected, rtol=0, atol=tolerance * expected.abs().max().item())


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=str)
@pytest.mark.parametrize("has_state", [False, True])
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("length", [4, 5, 64, 200])
def test_the_short_convolution_on_causal_conv1d(length, size, has_state, dtype):
    require("short_conv", "mamba_ssm")
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (2, length, 24), "weight": (24, size), "bias": (24,)}
    if has_state:
        shapes["state"] = (2, size - 1, 24)
    inputs = {name: torch.randn(shape, generator=generator).to("cuda", dtype) for name, shape in shapes.items()}

    def ours(**x):
        return short_conv(**x, activation="silu")

    def theirs(**x):
        return SHORT_CONV(**x, activation="silu")

    assert_same(ours, theirs, inputs, 1e-4 if dtype == torch.float32 else 2e-2)

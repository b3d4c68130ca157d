"""Kernels get what our ops mean: on a GPU by their results, elsewhere by the stand-ins of kernel_stand_ins.py."""

import pytest
import torch
from kernel_stand_ins import selective_reference, step_by_step
from torch.nn import functional as F

from hybrids.ops import kernels
from hybrids.ops.backend import missing
from hybrids.ops.short_conv import short_conv

BF16 = torch.bfloat16
GATES = ["none", "scalar", "key"]


def make_inputs(length, width, gate, *, has_beta, dtype=torch.float32, device="cpu", d_value=None, groups=3):
    generator = torch.Generator().manual_seed(0)

    def make(*shape):
        return torch.randn(2, length, *shape, generator=generator)

    inputs = {"q": make(groups, width), "k": F.normalize(make(groups, width), dim=-1), "v": make(3, d_value or width)}
    if has_beta:
        inputs["beta"] = make(3).sigmoid()
    inputs = {name: x.to(device, dtype) for name, x in inputs.items()}
    if gate != "none":
        inputs["log_decay"] = F.logsigmoid(make(3) if gate == "scalar" else make(3, width)).to(device)
    state = torch.randn(2, 3, width, d_value or width, generator=generator).to(device)
    return {**inputs, "state": state}


def assert_same(expected_side, actual_side, inputs, tolerance):
    """Outputs, states and gradients under the same random weights; the tolerance is a share of the largest entry."""
    sides = []
    for function in (expected_side, actual_side):
        leaves = {name: x.detach().clone().requires_grad_() for name, x in inputs.items()}
        outputs = function(**leaves)
        generator = torch.Generator().manual_seed(1)
        weights = [torch.randn(x.shape, generator=generator).to(x.device) for x in outputs]
        total = sum((x.double() * w).sum() for x, w in zip(outputs, weights, strict=True))
        sides.append([*outputs, *torch.autograd.grad(total, list(leaves.values()))])
    for expected, actual in zip(*sides, strict=True):
        scale = expected.double().abs().max().item()
        torch.testing.assert_close(actual.double(), expected.double(), rtol=0, atol=tolerance * scale)


# Without a GPU: stand-ins.


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
        return kernels.linear_attention(**x, scale=scale)

    assert_same(ours, theirs, inputs, 1e-5)
    start = "fused_recurrent" if length <= 64 else "chunk"
    assert names(stand_ins) == [f"{start}_{'gla' if gate == 'key' else 'simple_gla'}"]


def test_grouped_heads_odd_widths_and_the_start_of_a_sequence(stand_ins):
    inputs = make_inputs(5, 4, "scalar", has_beta=False, groups=1, d_value=5)
    assert_same(step_by_step, kernels.linear_attention, inputs, 1e-5)
    del inputs["state"]
    assert_same(step_by_step, kernels.linear_attention, inputs, 1e-5)


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("length", [7, 65])
def test_the_delta_rule_says_to_fla_what_it_means(stand_ins, length, gate, scale):
    inputs = make_inputs(length, 4, gate, has_beta=True)

    def ours(**x):
        return step_by_step(**x, scale=scale)

    def theirs(**x):
        return kernels.delta_rule(**x, scale=scale)

    assert_same(ours, theirs, inputs, 1e-5)
    name = {"none": "delta_rule", "scalar": "gated_delta_rule", "key": "kda"}[gate]
    start = "fused_recurrent" if length <= 64 and gate == "none" else "chunk"  # with a decay, steps have no gradient
    assert names(stand_ins) == [f"{start}_{name}"]


@pytest.mark.parametrize(("length", "expected"), [(1, "fused_recurrent"), (64, "fused_recurrent"), (65, "chunk")])
def test_a_decode_step_takes_the_kernel_without_a_gradient(stand_ins, length, expected):
    with torch.no_grad():
        kernels.delta_rule(**make_inputs(length, 4, "scalar", has_beta=True))
    assert names(stand_ins) == [f"{expected}_gated_delta_rule"]


def dplr_step_by_step(q, k, v, a, b, log_decay, state=None, *, scale=1.0):
    """S <- diag(exp(log_decay)) S + k v^T + b (a^T S) with S of before the step on both sides, in float64."""
    q, k, v, a, b, log_decay = (x.double() for x in (q, k, v, a, b, log_decay))
    state = torch.zeros(*q.shape[::2], q.shape[3], v.shape[3]) if state is None else state
    state, outputs = state.double(), []
    for t in range(q.shape[1]):
        seen = torch.einsum("bhkv,bhk->bhv", state, a[:, t])
        state = state * log_decay[:, t].exp().unsqueeze(-1)
        for key, value in ((k[:, t], v[:, t]), (b[:, t], seen)):
            state = state + key.unsqueeze(-1) * value.unsqueeze(-2)
        outputs.append(scale * torch.einsum("bhkv,bhk->bhv", state, q[:, t]))
    return torch.stack(outputs, dim=1), state


def make_dplr_inputs(length, width, *, dtype=torch.float32, device="cpu"):
    inputs = make_inputs(length, width, "key", has_beta=False, dtype=dtype, device=device)
    rate = torch.rand(inputs["k"].shape, generator=torch.Generator().manual_seed(2)).to(device, dtype)
    return inputs | {"a": -inputs["k"], "b": inputs["k"] * rate}


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("length", [7, 65])
def test_the_generalised_delta_rule_says_to_fla_what_it_means(stand_ins, length, scale):
    inputs = make_dplr_inputs(length, 4)
    assert_same(
        lambda **x: dplr_step_by_step(**x, scale=scale), lambda **x: kernels.dplr(**x, scale=scale), inputs, 1e-5
    )
    assert names(stand_ins) == ["chunk_dplr_delta_rule"]  # steps have no gradient
    with torch.no_grad():
        kernels.dplr(**inputs)
    assert names(stand_ins)[1:] == [f"{'fused_recurrent' if length <= 64 else 'chunk'}_dplr_delta_rule"]


def test_decays_of_zero_reach_the_kernel_as_finite_logarithms(stand_ins):
    inputs = make_inputs(6, 4, "scalar", has_beta=True)
    inputs["log_decay"][:, 3] = -torch.inf
    o, state = kernels.delta_rule(**inputs)
    expected = step_by_step(**inputs)
    torch.testing.assert_close((o.double(), state.double()), expected, rtol=0, atol=1e-5)


def test_activations_keep_their_dtype_and_states_are_float32(stand_ins):
    for op, has_beta in ((kernels.linear_attention, False), (kernels.delta_rule, True)):
        inputs = make_inputs(5, 4, "scalar", has_beta=has_beta, dtype=BF16)
        inputs["state"] = inputs["state"].double()
        o, state = op(**inputs)
        assert (o.dtype, state.dtype) == (BF16, torch.float32)


def make_scan_inputs(length, d_state=4, *, width=8, dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    x, dt = (torch.randn(2, length, width, generator=generator) for _ in range(2))
    B, C = (torch.randn(2, length, d_state, generator=generator) for _ in range(2))
    A, D = -torch.rand(width, d_state, generator=generator) - 0.1, torch.randn(width, generator=generator)
    activations = {name: t.to(device, dtype) for name, t in (("x", x), ("dt", F.softplus(dt)), ("B", B), ("C", C))}
    return {**activations, "A": A.to(device), "D": D.to(device)}


def test_the_selective_scan_says_to_mamba_ssm_what_it_means(stand_ins):
    inputs = make_scan_inputs(6)
    actual, expected = kernels.selective_scan(**inputs), selective_reference(**inputs)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6, check_dtype=False)
    x = inputs.pop("x").requires_grad_()
    _, state = kernels.selective_scan(x, **inputs)
    with pytest.raises(RuntimeError, match=r"no gradient for its final state; take backend=torch"):
        state.sum().backward()


def make_mamba2_inputs(length, d_state=4, d_value=6, *, dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, length, 4, d_value, generator=generator)
    B, C = (torch.randn(2, length, 2, d_state, generator=generator) for _ in range(2))
    activations = {name: t.to(device, dtype) for name, t in (("x", x), ("B", B), ("C", C))}
    dt = F.softplus(torch.randn(2, length, 4, generator=generator)).to(device)
    A = -torch.rand(4, generator=generator).to(device)
    state = torch.randn(2, 4, d_state, d_value, generator=generator).to(device)
    return {**activations, "dt": dt, "A": A, "state": state}


def mamba2_reference(x, dt, A, B, C, state=None):
    return step_by_step(C, B, dt[..., None].double() * x, log_decay=dt.double() * A, state=state, scale=1.0)


def test_the_scan_of_mamba2_says_to_mamba_ssm_what_it_means(stand_ins):
    assert_same(mamba2_reference, kernels.mamba2_scan, make_mamba2_inputs(9), 1e-5)


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
        return kernels.short_conv(**x, activation="silu")

    assert_same(ours, theirs, inputs, 1e-6)
    # A slice of a projection has strides that the kernel refuses; clones, as above, do not.
    torch.testing.assert_close(theirs(**inputs), ours(**inputs))


# On a GPU: the kernels themselves.

LENGTHS = [1, 5, 63, 64, 65, 200]
TOLERANCES = {torch.float32: 5e-3, BF16: 5e-2}
"""Of the largest entry. float32 is TF32 in Triton, with 10 bits of mantissa; bfloat16 has 7."""


def require(op, name):
    found = missing(op, name)
    if found:
        pytest.skip("; ".join(map(str, found)))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(("width", "d_value"), [(16, 16), (32, 33), (64, 64), (128, 128)])
@pytest.mark.parametrize("length", LENGTHS)
def test_linear_attention_on_fla(length, width, d_value, gate, dtype):
    require("linear_attention", "fla")
    inputs = make_inputs(length, width, gate, has_beta=False, dtype=dtype, device="cuda", d_value=d_value)
    assert_same(step_by_step, kernels.linear_attention, inputs, TOLERANCES[dtype])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("width", [16, 64, 128])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_delta_rule_on_fla(length, width, gate, dtype):
    require("delta_rule", "fla")
    if gate == "none" and dtype == torch.float32 and length > kernels.SHORT:
        pytest.skip("fla refuses float32 there")
    inputs = make_inputs(length, width, gate, has_beta=True, dtype=dtype, device="cuda")
    assert_same(step_by_step, kernels.delta_rule, inputs, TOLERANCES[dtype])
    with torch.no_grad():
        o, state = kernels.delta_rule(**inputs)
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
    assert_same(dplr_step_by_step, lambda **x: kernels.dplr(**x, scale=1.0), inputs, TOLERANCES[BF16])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("d_state", "d_value"), [(16, 16), (64, 32), (128, 64)])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_scan_of_mamba2_on_mamba_ssm(length, d_state, d_value, dtype):
    require("mamba2_scan", "mamba_ssm")
    inputs = make_mamba2_inputs(length, d_state, d_value, dtype=dtype, device="cuda")
    assert_same(mamba2_reference, kernels.mamba2_scan, inputs, TOLERANCES[dtype])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=str)
@pytest.mark.parametrize("length", LENGTHS)
def test_the_selective_scan_on_mamba_ssm(length, dtype):
    require("selective_scan", "mamba_ssm")
    inputs = make_scan_inputs(length, 16, width=32, dtype=dtype, device="cuda")

    def outputs_of(scan):
        return lambda **x: scan(**x)[:1]

    tolerance = 1e-4 if dtype == torch.float32 else TOLERANCES[BF16]  # no tensor cores, so no TF32
    assert_same(outputs_of(selective_reference), outputs_of(kernels.selective_scan), inputs, tolerance)
    with torch.no_grad():
        state, expected = (scan(**inputs)[1].double() for scan in (kernels.selective_scan, selective_reference))
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
        return kernels.short_conv(**x, activation="silu")

    assert_same(ours, theirs, inputs, 1e-4 if dtype == torch.float32 else 2e-2)

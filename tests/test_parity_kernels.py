"""Kernels get what our ops mean: on a GPU by their results, elsewhere by stand-ins with fla's own signatures.

The stand-ins compute with fla's naive functions and take exactly the arguments that fla's source declares, so that a
changed name, order, layout or scale shows without a GPU. Both are compared with one step at a time, written out here.
"""

import ast
import importlib.util
import inspect
import sys
import types
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from hybrids.ops import kernels
from hybrids.ops.backend import missing
from hybrids.ops.short_conv import short_conv

BF16 = torch.bfloat16
GATES = ["none", "scalar", "key"]


def step_by_step(q, k, v, beta=None, log_decay=None, state=None, *, scale=None):
    """S <- a S; with beta, S <- S + beta k (v - S^T k)^T, without S <- S + k v^T; o = scale S^T q. In float64."""
    q, k, v, beta, log_decay, state = (None if x is None else x.double() for x in (q, k, v, beta, log_decay, state))
    (B, T, H, V), K = v.shape, q.shape[-1]
    q, k = (x.repeat_interleave(H // x.shape[2], dim=2) for x in (q, k))
    state = v.new_zeros(B, H, K, V) if state is None else state
    outputs = []
    for t in range(T):
        if log_decay is not None:
            state = state * log_decay[:, t].exp().reshape(B, H, -1, 1)
        new = (
            v[:, t] if beta is None else beta[:, t, :, None] * (v[:, t] - torch.einsum("bhkv,bhk->bhv", state, k[:, t]))
        )
        state = state + k[:, t].unsqueeze(-1) * new.unsqueeze(-2)
        outputs.append(torch.einsum("bhkv,bhk->bhv", state, q[:, t]))
    return torch.stack(outputs, dim=1) * (K**-0.5 if scale is None else scale), state


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


def declared_signature(place, name):
    """Signature of a function in fla's source, without importing it."""
    package = importlib.util.find_spec("fla")
    assert package is not None and package.origin is not None
    tree = ast.parse((Path(package.origin).parent / "ops" / place).read_text())
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert not function.args.posonlyargs and not function.args.kwonlyargs
    num_required = len(function.args.args) - len(function.args.defaults)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    empty = inspect.Parameter.empty
    return inspect.Signature(
        inspect.Parameter(arg.arg, kind, default=empty if i < num_required else None)
        for i, arg in enumerate(function.args.args)
    )


@pytest.fixture
def stand_ins(monkeypatch, fla_naive):
    """Modules in place of fla's, and the names of the kernels called."""
    called = []
    naive_gla = fla_naive("ops/gla/naive.py").naive_recurrent_gla
    naive_kda = fla_naive("ops/kda/naive.py").naive_recurrent_kda

    def by_key(x, like):
        decay = x.get("gk", x.get("g"))
        decay = torch.zeros(like.shape[:3]) if decay is None else decay
        return decay if decay.dim() == 4 else decay[..., None].expand_as(like)

    def gla(x):
        q = x["q"] if x["scale"] is None else x["q"] * (x["scale"] * x["q"].shape[-1] ** 0.5)
        return naive_gla(q, x["k"], x["v"], by_key(x, q), x["initial_state"], output_final_state=True)

    def delta(x):
        decay = by_key(x, x["q"])
        return naive_kda(
            x["q"], x["k"], x["v"], decay, x["beta"], x["scale"], x["initial_state"], output_final_state=True
        )

    def stand_in(op, file, name, compute):
        signature = declared_signature(f"{op}/{file}.py", name)

        def kernel(*args, **kwargs):
            called.append(name)
            bound = signature.bind(*args, **kwargs).arguments
            assert bound["output_final_state"] is True
            assert bound["q"].dtype == bound["k"].dtype == bound["v"].dtype
            state = bound["initial_state"]
            assert state is None or state.dtype == torch.float32
            decay = bound.get("gk", bound.get("g"))
            assert decay is None or decay.isfinite().all()  # running sums of -inf are NaN
            return compute({"scale": None, **bound})

        module = sys.modules.get(f"fla.ops.{op}")
        if not isinstance(module, types.SimpleNamespace):
            module = types.SimpleNamespace()
            monkeypatch.setitem(sys.modules, f"fla.ops.{op}", module)
        setattr(module, name, kernel)

    for op, stem, compute in [
        ("simple_gla", "simple_gla", gla),
        ("gla", "gla", gla),
        ("delta_rule", "delta_rule", delta),
        ("gated_delta_rule", "gated_delta_rule", delta),
        ("kda", "kda", delta),
    ]:
        stand_in(op, "chunk", f"chunk_{stem}", compute)
        stand_in(op, "fused_recurrent", f"fused_recurrent_{stem}", compute)
    return called


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
    assert stand_ins == [f"{start}_{'gla' if gate == 'key' else 'simple_gla'}"]


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
    assert stand_ins == [f"{start}_{name}"]


@pytest.mark.parametrize(("length", "expected"), [(1, "fused_recurrent"), (64, "fused_recurrent"), (65, "chunk")])
def test_a_decode_step_takes_the_kernel_without_a_gradient(stand_ins, length, expected):
    with torch.no_grad():
        kernels.delta_rule(**make_inputs(length, 4, "scalar", has_beta=True))
    assert stand_ins == [f"{expected}_gated_delta_rule"]


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


def selective_reference(x, dt, A, B, C, D=None, state=None):
    state = torch.zeros(x.shape[0], *A.shape, dtype=torch.float64, device=x.device) if state is None else state
    outputs = []
    for t in range(x.shape[1]):
        written = (dt[:, t] * x[:, t])[..., None].double() * B[:, t, None]
        state = (dt[:, t, :, None].double() * A).exp() * state + written
        outputs.append((state * C[:, t, None]).sum(-1) + (0 if D is None else D * x[:, t]))
    return torch.stack(outputs, dim=1), state


def make_scan_inputs(length, d_state=4, *, width=8, dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    x, dt = (torch.randn(2, length, width, generator=generator) for _ in range(2))
    B, C = (torch.randn(2, length, d_state, generator=generator) for _ in range(2))
    A, D = -torch.rand(width, d_state, generator=generator) - 0.1, torch.randn(width, generator=generator)
    activations = {name: t.to(device, dtype) for name, t in (("x", x), ("dt", F.softplus(dt)), ("B", B), ("C", C))}
    return {**activations, "A": A.to(device), "D": D.to(device)}


def selective_scan_stand_in(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
):
    """The signature and layout of mamba_ssm's `selective_scan_fn`: [B D T] and [B N T]."""
    assert A.dtype == D.dtype == torch.float32 and return_last_state and not delta_softplus
    x, dt, B, C = (t.transpose(1, 2) for t in (u, delta, B, C))
    y, state = selective_reference(x, dt, A, B, C, D)
    return y.transpose(1, 2), state


def test_the_selective_scan_says_to_mamba_ssm_what_it_means(monkeypatch):
    module = types.SimpleNamespace(selective_scan_fn=selective_scan_stand_in)
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops.selective_scan_interface", module)
    inputs = make_scan_inputs(6)
    actual, expected = kernels.selective_scan(**inputs), selective_reference(**inputs)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)
    x = inputs.pop("x").requires_grad_()
    _, state = kernels.selective_scan(x, **inputs)
    with pytest.raises(RuntimeError, match=r"no gradient for its final state; take backend=torch"):
        state.sum().backward()


def mamba2_stand_in(
    x,
    dt,
    A,
    B,
    C,
    chunk_size,
    D=None,
    z=None,
    dt_bias=None,
    initial_states=None,
    seq_idx=None,
    cu_seqlens=None,
    dt_softplus=False,
    dt_limit=(0.0, float("inf")),
    return_final_states=False,
    return_varlen_states=False,
    state_dtype=None,
):
    """The signature of mamba_ssm's `mamba_chunk_scan_combined`, whose states are [B H V N]."""
    assert return_final_states and not dt_softplus and state_dtype == torch.float32
    state = None if initial_states is None else initial_states.mT
    o, state = step_by_step(C, B, dt[..., None] * x, log_decay=dt * A, state=state, scale=1.0)
    return o.to(x.dtype), state.float().mT


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


def test_the_scan_of_mamba2_says_to_mamba_ssm_what_it_means(monkeypatch):
    module = types.SimpleNamespace(mamba_chunk_scan_combined=mamba2_stand_in)
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops.triton.ssd_combined", module)
    assert_same(mamba2_reference, kernels.mamba2_scan, make_mamba2_inputs(9), 1e-5)


def causal_conv1d_stand_in(
    x,
    weight,
    bias=None,
    seq_idx=None,
    initial_states=None,
    return_final_states=False,
    final_states_out=None,
    activation=None,
):
    """The signature of causal_conv1d's `causal_conv1d_fn`, and the layout that its CUDA code checks."""
    assert x.stride(1) == 1 and x.stride(2) % 8 == 0 and x.stride(0) % 8 == 0
    assert weight.dtype == x.dtype and not return_final_states
    if initial_states is None:
        initial_states = x.new_zeros(x.shape[0], x.shape[1], weight.shape[1] - 1).transpose(1, 2).contiguous().mT
    assert initial_states.stride(1) == 1 and initial_states.dtype == x.dtype
    y = F.conv1d(torch.cat([initial_states, x], dim=-1), weight[:, None], bias, groups=x.shape[1])
    return F.silu(y) if activation == "silu" else y


@pytest.mark.parametrize("has_state", [False, True])
def test_the_short_convolution_says_to_causal_conv1d_what_it_means(monkeypatch, has_state):
    module = types.SimpleNamespace(causal_conv1d_fn=causal_conv1d_stand_in)
    monkeypatch.setitem(sys.modules, "causal_conv1d", module)
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

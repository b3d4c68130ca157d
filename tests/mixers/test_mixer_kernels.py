"""Every mixer says to the kernels of its ops what it says to torch: with stand-ins here, on a GPU with the kernels."""

import copy
import inspect

import jaxtyping
import pytest
import torch
from gpu_kernels import require

from hybrids import registry
from hybrids.model.measure import measure_step
from hybrids.ops.kernels import kernels_of, ops_with_kernels

WIDTH = 32
BF16 = torch.bfloat16
ALL = [entry.name for entry in registry.entries() if entry.kind == "mixer"]


def build(name, *, d_model=WIDTH, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return registry.get("mixer", name).cls(d_model, **settings)


def main_op(name):
    return next((demand.op for demand in build(name).demands()), None)


WITH_KERNELS = [name for name in ALL if main_op(name) is not None]
GPU_KERNELS = {op: kernels_of(op)[0].backend for op in ops_with_kernels()}
"""The kernel of every op: what `auto` takes where nothing is missing."""


def both_sides(name, **settings):
    """A mixer on torch, and its copy on kernels."""
    torch_side = build(name, **settings)
    kernel_side = copy.deepcopy(torch_side)
    torch_side.backends = dict.fromkeys(GPU_KERNELS, "torch")
    kernel_side.backends = dict(GPU_KERNELS)
    return torch_side, kernel_side


def inputs(length, *, batch=2, d_model=WIDTH):
    return torch.randn(batch, length, d_model, generator=torch.Generator().manual_seed(1))


def outputs_and_gradients(mixer, x):
    """Outputs, final state, and gradients of input and parameters under random weights of both.

    The final state of the selective scan has no gradient in its kernel.
    """
    x = x.clone().requires_grad_()
    y, state = mixer(x)
    carried = [] if main_op_of(mixer) == "selective_scan" else [s for s in state if s.is_floating_point()]
    generator = torch.Generator().manual_seed(2)
    total = sum((out.double() * torch.randn(out.shape, generator=generator).to(out)).sum() for out in (y, *carried))
    return [y, *state, *torch.autograd.grad(total, [x, *mixer.parameters()])]


def main_op_of(mixer):
    return mixer.demands()[0].op


def assert_close(actual, expected, tolerance):
    """Within a share of the largest entry of each tensor."""
    for a, e in zip(actual, expected, strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        e = e.double()
        torch.testing.assert_close(a.double(), e, rtol=0, atol=tolerance * max(e.abs().max().item(), 1e-3))


@pytest.mark.parametrize("length", [7, 65])
@pytest.mark.parametrize("name", WITH_KERNELS)
def test_a_mixer_on_kernels_is_the_mixer_on_torch(stand_ins, name, length):
    torch_side, kernel_side = both_sides(name)
    expected = outputs_and_gradients(torch_side, inputs(length))
    assert stand_ins == []
    assert_close(outputs_and_gradients(kernel_side, inputs(length)), expected, 1e-4)
    assert len(stand_ins) == len(kernel_side.demands())


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_prefill_and_decode_steps_on_kernels_are_those_on_torch(stand_ins, name):
    def run(mixer):
        results, state = [], None
        for piece in inputs(27).split([17, 1, 2, 1, 6], dim=1):
            y, state = mixer(piece, state)
            results += [y, *state]
        return results

    with torch.no_grad():
        expected, actual = map(run, both_sides(name))
    assert stand_ins
    assert_close(actual, expected, 1e-4)


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_kernels_get_activations_at_their_dtype_and_the_rest_in_float32(stand_ins, name):
    """The stand-ins refuse decays, beta and states that are not in float32."""
    torch_side, kernel_side = both_sides(name)
    with torch.autocast("cpu", dtype=BF16):
        expected, actual = torch_side(inputs(20)), kernel_side(inputs(20))
    assert_close([actual[0]], [expected[0]], 0.06)
    assert [s.dtype for s in actual[1]] == [s.dtype for s in expected[1]]
    for call in stand_ins:
        given = call.given
        dtypes = {given[key].dtype for key in ("q", "k", "v", "a", "b", "x", "u", "delta", "B", "C") if key in given}
        # The input of a layer is in float32 under autocast, and this layer convolves that.
        assert dtypes == {torch.float32 if name == "short_conv" else BF16}, call.name
        assert all(given[key].dtype == torch.float32 for key in ("A", "D", "dt") if key in given)


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_chunks_in_bfloat16_take_a_gradient_whatever_the_widths(stand_ins, name):
    """Their kernels refuse odd widths: 153 features of `based`, one more column of values where a sum is normalised."""
    torch_side, kernel_side = both_sides(name)
    with torch.autocast("cpu", dtype=BF16):
        expected, actual = (outputs_and_gradients(side, inputs(65)) for side in (torch_side, kernel_side))
    assert stand_ins
    for a, e in zip(actual, expected, strict=True):
        assert (a.double() - e.double()).norm() < 0.08 * e.double().norm().clamp_min(1e-6)


def test_a_slice_of_a_projection_reaches_the_convolution_aligned(stand_ins):
    """Rows of 176 numbers, of which the convolution gets those from 68 on: 136 bytes, which 16 does not divide."""
    torch_side, kernel_side = both_sides("mamba2", d_model=34, head_dim=17, d_state=18)
    assert kernel_side.in_proj.out_features == 176 and kernel_side.d_inner == 68
    with torch.autocast("cpu", dtype=BF16):
        expected, actual = (outputs_and_gradients(side, inputs(9, d_model=34)) for side in (torch_side, kernel_side))
    assert "causal_conv1d_fn" in {call.name for call in stand_ins}
    assert_close(actual[:1], expected[:1], 0.06)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch 2.13's compiler sets off warnings of its own
@pytest.mark.parametrize("name", WITH_KERNELS)
def test_a_compiled_mixer_calls_its_kernels_uncompiled(stand_ins, monkeypatch, name):
    """The stand-ins note whether they are traced, as the kernels' own code must not be."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the compiler cannot trace shape checks
    torch._dynamo.reset()
    _, mixer = both_sides(name)
    expected = outputs_and_gradients(mixer, inputs(9))
    num_calls = len(stand_ins)
    mixer.compile(backend="eager")
    assert_close(outputs_and_gradients(mixer, inputs(9)), expected, 1e-5)  # traced, sums are taken in another order
    assert len(stand_ins) == 2 * num_calls > 0
    assert not any(call.is_compiled for call in stand_ins)


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_a_mixer_demands_what_it_gives(stand_ins, name):
    _, mixer = both_sides(name)
    mixer(inputs(9))
    assert len(stand_ins) == len(mixer.demands())
    for demand in mixer.demands():
        (given,) = [call.given for call in stand_ins if measured_op(call.name) == demand.op]
        if demand.op == "short_conv":
            assert (demand.d_conv, demand.conv_size) == tuple(given["weight"].shape)
        elif demand.op == "selective_scan":
            assert demand.d_state == given["A"].shape[1]
        elif demand.op == "mamba2_scan":
            assert (demand.d_state, demand.d_value) == (given["B"].shape[-1], given["x"].shape[-1])
        else:
            is_evened = demand.op == "linear_attention"
            widths = [width + width % 2 if is_evened else width for width in (demand.d_key, demand.d_value)]
            assert widths == [given["q"].shape[-1], given["v"].shape[-1]]
            decay = given.get("gk", given.get("g"))
            assert demand.gate == ("none" if decay is None else {3: "scalar", 4: "key"}[decay.dim()])


def measured_op(kernel):
    ops = {"mamba_chunk_scan_combined": "mamba2_scan", "selective_scan_fn": "selective_scan"}
    ops |= {"causal_conv1d_fn": "short_conv", "chunk_dplr_delta_rule": "dplr"}
    if kernel in ops:
        return ops[kernel]
    return "linear_attention" if kernel.endswith("gla") else "delta_rule"


def test_kernels_that_cannot_go_on_from_a_state_or_take_a_step_are_not_asked(stand_ins):
    def called(mixer, length, state=None):
        stand_ins.clear()
        with torch.no_grad():
            state = mixer(inputs(length), state)[1]
        return {call.name for call in stand_ins}, state

    mamba, mamba2 = both_sides("mamba")[1], both_sides("mamba2")[1]
    names, state = called(mamba, 9)
    assert names == {"selective_scan_fn", "causal_conv1d_fn"}
    assert called(mamba, 9, state)[0] == {"causal_conv1d_fn"}
    assert called(mamba, 1)[0] == called(mamba2, 1)[0] == set()
    assert called(mamba, 3)[0] == {"selective_scan_fn"}  # fewer than the four taps
    assert called(mamba, 4)[0] == {"selective_scan_fn", "causal_conv1d_fn"}
    names, state = called(mamba2, 9)
    assert called(mamba2, 9, state)[0] == names == {"mamba_chunk_scan_combined", "causal_conv1d_fn"}


@pytest.mark.parametrize("name", ALL)
def test_a_mixer_has_the_setting_if_and_only_if_its_ops_have_kernels(name):
    cls = registry.get("mixer", name).cls
    assert ("backend" in inspect.signature(cls).parameters) == (name in WITH_KERNELS)
    if name in WITH_KERNELS:
        assert (cls(WIDTH).backend, cls(WIDTH, backend="fla").backend) == (None, "fla")
        with pytest.raises(ValueError, match=r"backend='triton' is unknown; .*allowed: auto, torch"):
            cls(WIDTH, backend="triton")


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_a_mixer_that_nobody_asked_runs_without_a_gpu_kernel(stand_ins, name):
    mixer = build(name)
    mixer(inputs(9))
    assert stand_ins == []


@pytest.mark.parametrize("name", ["gated_delta_net", "mamba", "mamba2"])
def test_costs_are_counted_on_torch_whatever_is_chosen(name):
    """There are no stand-ins here: a kernel could not even be imported."""
    torch_side, kernel_side = both_sides(name)
    assert measure_step(kernel_side, WIDTH, 20) == measure_step(torch_side, WIDTH, 20)
    assert kernel_side.backends == GPU_KERNELS


# On a GPU: the kernels themselves.


def on_gpu(name, dtype):
    """A mixer on torch in float32, and on its kernels; the test is skipped where one of them has a limit."""
    torch_side, kernel_side = both_sides(name, d_model=256)
    for demand in kernel_side.demands():
        require(demand.op, GPU_KERNELS[demand.op])
    chosen = kernel_side.choose_backends(device="cuda", dtype=dtype)
    refused = [f"{op}: {choice.reason}" for op, choice in chosen.items() if choice.backend == "torch"]
    if refused:
        pytest.skip("; ".join(refused))
    return torch_side.cuda(), kernel_side.cuda()


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:.* runs on torch, without a kernel")
@pytest.mark.parametrize("length", [1, 17, 64, 65, 256])
@pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=str)
@pytest.mark.parametrize("name", WITH_KERNELS)
def test_a_mixer_on_its_kernels_is_the_mixer_on_torch(name, dtype, length):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        torch_side, kernel_side = on_gpu(name, dtype)
        x = inputs(length, d_model=256).cuda()
        with torch.autocast("cuda", dtype=BF16, enabled=dtype == BF16):
            expected, actual = (outputs_and_gradients(side, x) for side in (torch_side, kernel_side))
    finally:
        torch.set_float32_matmul_precision(before)
    for a, e in zip(actual, expected, strict=True):
        error = (a.double() - e.double()).norm() / e.double().norm().clamp_min(1e-6)
        assert error < (1e-2 if dtype == torch.float32 else 8e-2)

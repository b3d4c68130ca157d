"""The selective scan: its forms against each other, at extreme steps, and against transformers."""

import itertools
import os
import subprocess
import sys
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_gradients import assert_all_close, outputs_and_gradients
from torch import Tensor
from transformers.models.mamba.modeling_mamba import mamba_selective_scan

from hybrids.ops import selective_scan_cpu
from hybrids.ops.kernels import Demand, machine, resolve
from hybrids.ops.selective_scan import selective_scan, selective_scan_recurrent

WIDTH, STATES = 5, 3


@pytest.fixture(scope="session", params=["torch", "cpp"])
def backend(request) -> str:
    if request.param == "cpp" and (reason := selective_scan_cpu.why_not()):
        pytest.skip(f"the kernel cannot run here: {reason}")
    return request.param


def make_inputs(
    time: int,
    *,
    seed: int = 0,
    batch: int = 2,
    width: int = WIDTH,
    longest: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    """x, dt in (0, longest), A, B, C, D, state; all requiring gradients."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    x, dt = normal(batch, time, width), longest * normal(batch, time, width).sigmoid()
    A, B, C = -normal(width, STATES).exp(), normal(batch, time, STATES), normal(batch, time, STATES)
    inputs = [x, dt, A, B, C, normal(width), normal(batch, width, STATES)]
    return [t.to(dtype).requires_grad_() for t in inputs]


@pytest.mark.parametrize(("time", "chunk_size"), list(itertools.product((1, 2, 7, 33, 64, 70), (None, 1, 5, 16, 64))))
@pytest.mark.parametrize("longest", [0.1, 5.0])
def test_both_backends_equal_the_recurrent_form(
    backend: str, time: int, chunk_size: int | None, longest: float
) -> None:
    inputs = make_inputs(time, longest=longest)
    got = outputs_and_gradients(selective_scan, inputs, chunk_size=chunk_size, backend=backend)
    assert_all_close(got, outputs_and_gradients(selective_scan_recurrent, inputs), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("width", [1, 8, 9, 16, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_width_fills_the_lanes_of_the_kernel(backend: str, width: int, dtype: torch.dtype) -> None:
    inputs = make_inputs(20, width=width, dtype=dtype)
    doubles = [t.detach().double().requires_grad_() for t in inputs]
    got = outputs_and_gradients(selective_scan, inputs, backend=backend)
    expected = outputs_and_gradients(selective_scan_recurrent, doubles)
    tolerance = 2e-5 if dtype == torch.float32 else 1e-11
    assert_all_close([t.double() for t in got], expected, rtol=tolerance, atol=tolerance)


def test_kernel_gives_the_same_with_any_number_of_threads(backend: str, monkeypatch) -> None:
    monkeypatch.setattr(selective_scan_cpu, "SMALL", 0)
    inputs = make_inputs(20, batch=3, width=100)
    expected = outputs_and_gradients(selective_scan, inputs, backend=backend)
    for threads in (2, 3, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        got = outputs_and_gradients(selective_scan, inputs, backend=backend)
        assert_all_close(got, expected, rtol=1e-12, atol=1e-12)


def test_small_steps_side_by_side_equal_one_after_the_other(monkeypatch) -> None:
    inputs = make_inputs(67)
    assert inputs[-1].numel() * 8 < 2**14, "these states are small enough to be grouped"
    grouped = outputs_and_gradients(selective_scan, inputs, backend="torch", chunk_size=64)
    monkeypatch.setattr("hybrids.ops.selective_scan_chunks.STEP_ELEMENTS", 1)
    one_by_one = outputs_and_gradients(selective_scan, inputs, backend="torch", chunk_size=64)
    assert_all_close(grouped, one_by_one, rtol=1e-11, atol=1e-12)


def test_agrees_with_transformers(backend: str) -> None:
    inputs = make_inputs(24, dtype=torch.float32)
    inputs[-1] = torch.zeros_like(inputs[-1])
    x, dt, A, B, C, D, _ = inputs
    y, state = selective_scan(*inputs[:-1], backend=backend)
    sequence = (t.transpose(1, 2) for t in (x, dt))
    theirs, theirs_state = mamba_selective_scan(
        *sequence, A, B.transpose(1, 2), C.transpose(1, 2), D=D, return_last_state=True
    )
    torch.testing.assert_close(y, theirs.transpose(1, 2), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, theirs_state, rtol=1e-5, atol=1e-5)
    seeds = torch.randn_like(y), torch.randn_like(state)
    got = torch.autograd.grad([y, state], inputs[:-1], seeds)
    expected = torch.autograd.grad([theirs, theirs_state], inputs[:-1], (seeds[0].transpose(1, 2), seeds[1]))
    assert_all_close(list(got), list(expected), rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_finite_differences(backend: str) -> None:
    inputs = make_inputs(5, batch=1, width=2)
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x, chunk_size=2, backend=backend), inputs)


def test_a_missing_state_is_a_state_of_zeros(backend: str) -> None:
    inputs = make_inputs(20)
    inputs[-1] = torch.zeros_like(inputs[-1])
    got = selective_scan(*inputs[:-1], backend=backend)
    assert_all_close(list(got), list(selective_scan(*inputs, backend=backend)), rtol=0, atol=0)


def test_without_skip_outputs_are_what_the_states_give(backend: str) -> None:
    inputs = make_inputs(20)
    x, *_, D, _ = inputs
    with_skip, _ = selective_scan(*inputs, backend=backend)
    inputs[5] = None  # type: ignore[call-overload]
    torch.testing.assert_close(selective_scan(*inputs, backend=backend)[0] + D * x, with_skip)


@settings(max_examples=30)
@given(st.integers(2, 50), st.integers(1, 40), st.data())
def test_cutting_anywhere_keeps_outputs_and_state(backend: str, time: int, chunk_size: int, data) -> None:
    cut = data.draw(st.integers(1, time - 1))
    longest = data.draw(st.sampled_from([0.0, 1e-3, 1.0, 1e3]))
    x, dt, A, B, C, D, state = (t.detach() for t in make_inputs(time, seed=time, longest=longest))

    def scan(part: slice, state: Tensor) -> tuple[Tensor, Tensor]:
        steps = x[:, part], dt[:, part], A, B[:, part], C[:, part]
        return selective_scan(*steps, D, state, chunk_size=chunk_size, backend=backend)

    whole, end = scan(slice(None), state)
    first, middle = scan(slice(cut), state)
    last, end_of_parts = scan(slice(cut, None), middle)
    assert_all_close([torch.cat([first, last], 1), end_of_parts], [whole, end], rtol=1e-10, atol=1e-11)


@settings(max_examples=30)
@given(st.lists(st.sampled_from([0.0, 1e-30, 1e-6, 1.0, 60.0, 70.0, 90.0, 1e4]), min_size=2, max_size=40))
def test_extreme_steps_give_finite_and_equal_results(backend: str, steps: list[float]) -> None:
    inputs = make_inputs(len(steps))
    inputs[1] = torch.tensor(steps, dtype=torch.float64).expand(2, WIDTH, -1).mT.clone().requires_grad_()
    got = outputs_and_gradients(selective_scan, inputs, chunk_size=16, backend=backend)
    assert all(t.isfinite().all() for t in got)
    assert_all_close(got, outputs_and_gradients(selective_scan_recurrent, inputs), rtol=1e-9, atol=1e-9)
    halves = [t.detach().float().requires_grad_() for t in inputs]
    in_float = outputs_and_gradients(selective_scan, halves, chunk_size=16, backend=backend)
    assert all(t.isfinite().all() for t in in_float)


@pytest.mark.parametrize("logarithm", [-200.0, -87.5, -64.0, -63.9, -1e-3, 0.0, 3.0, 87.9, 89.0, torch.inf, torch.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_decays_are_exponentials_to_the_last_digits(backend: str, logarithm: float, dtype: torch.dtype) -> None:
    """One step from a state of ones with nothing written reads the decay itself."""
    zero, one = torch.zeros(1, 2, 1, dtype=dtype), torch.ones(1, 2, 1, dtype=dtype)
    dt = torch.tensor([1.0, 0.0], dtype=dtype)[None, :, None]
    A = torch.full((1, 1), logarithm, dtype=dtype)
    state = torch.ones(1, 1, 1, dtype=dtype)
    y, _ = selective_scan(zero, dt, A, zero, one, None, state, backend=backend)
    expected = torch.zeros((), dtype=dtype) if logarithm <= -64 else torch.tensor(logarithm, dtype=dtype).exp()
    torch.testing.assert_close(y[0, 0, 0], expected, rtol=4 * torch.finfo(dtype).eps, atol=0, equal_nan=True)


def test_only_states_before_chunks_are_kept_for_the_backward_pass(backend: str) -> None:
    batch, time, width = 2, 512, 8
    inputs = make_inputs(time, batch=batch, width=width, dtype=torch.float32)
    kept: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes() // t.element_size()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        selective_scan(*inputs, chunk_size=64, backend=backend)[0].sum()
    given = sum(t.numel() for t in inputs)
    states = (time // 64 + 1) * batch * width * STATES
    assert sum(kept.values()) <= given + states + 3 * width * STATES + batch * time * width


def test_computes_in_float32_under_autocast(backend: str) -> None:
    inputs = make_inputs(40, dtype=torch.float32)
    expected, expected_state = selective_scan(*inputs, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = selective_scan(*inputs, backend=backend)
        torch.autograd.grad(y.sum(), inputs[0])
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    torch.testing.assert_close(state, expected_state, rtol=0, atol=0)
    low, state = selective_scan(inputs[0].bfloat16(), *inputs[1:], backend=backend)
    assert low.dtype == torch.bfloat16 and state.dtype == torch.float32


@pytest.mark.filterwarnings("ignore")  # torch 2.13's compiler sets off warnings of its own
def test_compiles_on_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the compiler cannot trace shape checks
    inputs = make_inputs(20, dtype=torch.float32)
    compiled = torch.compile(selective_scan, backend="aot_eager")
    got = outputs_and_gradients(compiled, inputs, backend="cpp")
    expected = outputs_and_gradients(selective_scan, inputs)
    assert_all_close(got, expected, rtol=1e-5, atol=1e-5)


def test_second_derivatives_are_refused(backend: str) -> None:
    inputs = make_inputs(4)
    y, _ = selective_scan(*inputs, backend=backend)
    (gradient,) = torch.autograd.grad(y.sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("position", "shape", "message"),
    [
        (1, (2, 4, 4), r"dt has shape \(2, 4, 4\); \(2, 4, 5\) is needed"),
        (2, (4, 3), r"A has shape \(4, 3\); its first axis must be the width of x, 5"),
        (3, (2, 4, 2), r"B has shape \(2, 4, 2\); \(2, 4, 3\) is needed"),
        (4, (2, 3, 3), r"C has shape \(2, 3, 3\); \(2, 4, 3\) is needed"),
        (5, (4,), r"D has shape \(4,\); \(5,\) is needed"),
        (6, (1, 5, 3), r"state has shape \(1, 5, 3\); \(2, 5, 3\) is needed"),
    ],
)
def test_shapes_that_do_not_belong_together_are_errors(
    position: int, shape: tuple[int, ...], message: str, monkeypatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of tests
    inputs: list[Any] = make_inputs(4)
    inputs[position] = torch.zeros(shape)
    with pytest.raises(ValueError, match=message):
        selective_scan(*inputs)


def test_an_unknown_backend_and_chunk_size_are_errors() -> None:
    inputs = make_inputs(4)
    with pytest.raises(
        ValueError, match=r"backend=cuda: selective_scan has no such backend; .*allowed: mamba_ssm, cpp"
    ):
        selective_scan(*inputs, backend="cuda")
    with pytest.raises(ValueError, match="chunk_size=0 must be at least 1"):
        selective_scan(*inputs, chunk_size=0)


def test_without_a_compiler_auto_takes_torch_and_says_so_and_cpp_is_an_error(tmp_path, monkeypatch, caplog) -> None:
    for name in ("CXX", "PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(selective_scan_cpu, "_library", selective_scan_cpu._library.__wrapped__)
    monkeypatch.setattr(selective_scan_cpu, "why_not", selective_scan_cpu.why_not.__wrapped__)
    monkeypatch.setattr(selective_scan_cpu.shutil, "which", lambda name: None)
    scan = Demand(op="selective_scan", d_state=STATES)
    machine.missing.cache_clear()
    try:
        assert resolve(scan, device="cpu").backend == "torch"
        assert "selective_scan runs on backend torch" in caplog.text and "no C++ compiler found" in caplog.text
        with pytest.raises(ValueError, match="backend=cpp cannot run selective_scan: the kernel cannot be built: no C"):
            resolve(scan, "cpp", device="cpu")
    finally:
        machine.missing.cache_clear()


def test_a_compiler_that_fails_is_a_reason_with_its_message(tmp_path, monkeypatch) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho out of disk >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(OSError, match="cannot build it: out of disk"):
        selective_scan_cpu._library.__wrapped__()
    assert [p.name for p in (tmp_path / "hybrids").iterdir()] == [], "nothing half-built stays"


def test_the_kernel_is_neither_built_nor_loaded_before_it_is_used(tmp_path) -> None:
    code = (
        "import torch; from hybrids.ops import selective_scan as s, selective_scan_cpu as c;"
        "x = torch.zeros(1, 1, 1); s.selective_scan(x, x, x[0], x, x);"
        "y = torch.zeros(1, 2, 1); s.selective_scan(y, y, x[0], y, y);"
        "assert c._library.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []

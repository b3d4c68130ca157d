"""The delta rule: its two forms against each other and against transformers."""

import itertools
from typing import Any

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from op_gradients import assert_all_close, outputs_and_gradients
from torch import Tensor
from transformers.models.qwen3_next import modeling_qwen3_next as qwen

from hybrids.ops.delta_rule import delta_rule, delta_rule_recurrent

HEADS, D_KEY, D_VALUE = 3, 5, 4


def make_inputs(
    time: int, *, seed: int = 0, batch: int = 2, gate: float | None = 0.3, dtype: torch.dtype = torch.float64
) -> list[Any]:
    """q, k, v, beta, log_decay in [-gate, 0], state; all requiring gradients."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    q, k = normal(batch, time, HEADS, D_KEY), F.normalize(normal(batch, time, HEADS, D_KEY), dim=-1)
    v, state = normal(batch, time, HEADS, D_VALUE), normal(batch, HEADS, D_KEY, D_VALUE)
    beta, depth = normal(batch, time, HEADS).sigmoid(), normal(batch, time, HEADS).sigmoid()
    inputs = [q, k, v, beta, None if gate is None else -gate * depth, state]
    return [x if x is None else x.to(dtype).requires_grad_() for x in inputs]


@pytest.mark.parametrize("gate", [None, 0.3, 5.0])
@pytest.mark.parametrize(
    ("time", "chunk_size"), [*itertools.product((1, 2, 7, 33), (1, 2, 16, 64)), (64, 32), (65, 32), (130, 32)]
)
def test_chunked_form_equals_recurrent_form(time: int, chunk_size: int, gate: float | None) -> None:
    inputs = make_inputs(time, gate=gate)
    got = outputs_and_gradients(delta_rule, inputs, chunk_size=chunk_size)
    assert_all_close(got, outputs_and_gradients(delta_rule_recurrent, inputs), rtol=1e-10, atol=1e-11)


def test_a_missing_state_is_a_state_of_zeros() -> None:
    inputs = make_inputs(20)
    inputs[-1] = torch.zeros_like(inputs[-1])
    for fn in (delta_rule, delta_rule_recurrent):
        assert_all_close(list(fn(*inputs[:-1])), list(fn(*inputs)), rtol=0, atol=0)


@pytest.mark.parametrize("gate", [None, 0.3])
def test_gradients_are_those_of_finite_differences(gate: float | None) -> None:
    inputs = make_inputs(5, batch=1, gate=gate)
    assert torch.autograd.gradcheck(lambda *x: delta_rule(*x, chunk_size=2, scale=0.7), inputs)


def steps(tokens: list[Any], part: slice) -> list[Any]:
    return [None if x is None else x[:, part] for x in tokens]


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 50), st.integers(1, 40), st.data())
def test_cutting_anywhere_keeps_outputs_and_state(time: int, chunk_size: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, time - 1))
    gate = data.draw(st.sampled_from([None, 0.0, 1e-3, 1.0, 100.0]))
    *tokens, state = (x.detach() if isinstance(x, Tensor) else x for x in make_inputs(time, seed=time, gate=gate))
    head, tail = steps(tokens, slice(cut)), steps(tokens, slice(cut, None))
    whole, end = delta_rule(*steps(tokens, slice(None)), state=state, chunk_size=chunk_size)
    first, middle = delta_rule(*head, state=state, chunk_size=chunk_size)
    last, end_of_parts = delta_rule(*tail, state=middle, chunk_size=chunk_size)
    assert_all_close([torch.cat([first, last], 1), end_of_parts], [whole, end], rtol=1e-10, atol=1e-11)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([0.0, -1e-6, -1.0, -30.0, -63.0, -65.0, -1e4]), min_size=2, max_size=40))
def test_extreme_gates_give_finite_and_equal_results(gates: list[float]) -> None:
    inputs = make_inputs(len(gates), dtype=torch.float32)
    inputs[4] = torch.tensor(gates)[None, :, None].expand(2, -1, HEADS).clone().requires_grad_()
    got = outputs_and_gradients(delta_rule, inputs, chunk_size=16)
    assert all(x.isfinite().all() for x in got)
    exact = [x.detach().double().requires_grad_() for x in inputs if x is not None]
    expected = outputs_and_gradients(delta_rule_recurrent, exact)
    assert_all_close(got, [x.float() for x in expected], rtol=1e-4, atol=1e-4)


def test_a_reset_forgets_everything_before_it() -> None:
    inputs = [x.detach() for x in make_inputs(40, dtype=torch.float32) if x is not None]
    inputs[4][:, 20] = -1e4
    o, _ = delta_rule(*inputs)
    for x in inputs[:4]:
        x[:, :20] = torch.randn_like(x[:, :20])
    torch.testing.assert_close(delta_rule(*inputs)[0][:, 20:], o[:, 20:], rtol=0, atol=0)


def theirs(fn, inputs: list[Tensor], **options) -> tuple[Tensor, Tensor]:
    q, k, v, beta, log_decay, state = inputs
    return fn(q, k, v, g=log_decay, beta=beta, initial_state=state, output_final_state=True, **options)


@pytest.mark.parametrize("time", [1, 30, 100])
@pytest.mark.parametrize("name", ["torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"])
def test_agrees_with_transformers(name: str, time: int) -> None:
    inputs = make_inputs(time, dtype=torch.float32)
    got = outputs_and_gradients(delta_rule, inputs)
    expected = outputs_and_gradients(lambda *x: theirs(getattr(qwen, name), list(x)), inputs)
    assert_all_close(got, expected, rtol=1e-4, atol=2e-5)


def test_computes_in_float32_under_autocast_and_returns_the_dtype_of_the_values() -> None:
    inputs = [x.detach().bfloat16() for x in make_inputs(40, dtype=torch.float32)]
    expected, expected_state = delta_rule(*(x.float() for x in inputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        o, state = delta_rule(*inputs)
    assert (o.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(o, expected.bfloat16(), rtol=0, atol=0)
    torch.testing.assert_close(state, expected_state, rtol=0, atol=0)


@pytest.mark.parametrize("position", range(1, 6))
def test_shapes_that_do_not_belong_together_are_an_error(position: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of tests
    inputs = make_inputs(4)
    inputs[position] = inputs[position][:1]
    name = ("q", "k", "v", "beta", "log_decay", "state")[position]
    with pytest.raises(ValueError, match=rf"^{name} has shape \(1, "):
        delta_rule(*inputs)


def test_a_second_derivative_is_an_error_and_not_a_wrong_number() -> None:
    inputs = make_inputs(4)
    gradient, *_ = torch.autograd.grad(delta_rule(*inputs)[0].sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        gradient.sum().backward()


def test_a_chunk_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="chunk_size=0"):
        delta_rule(*make_inputs(4), chunk_size=0)

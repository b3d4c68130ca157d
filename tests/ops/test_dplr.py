"""The generalised delta rule: its two forms against each other, and the per-key delta rule as a case of it."""

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

from hybrids.ops.delta_rule import delta_rule_recurrent
from hybrids.ops.dplr import dplr, dplr_recurrent, per_key_delta_rule

HEADS, D_KEY, D_VALUE = 3, 5, 4
GATES = [0.0, -1e-6, -1.0, -30.0, -43.0, -90.0, -1e4, -float("inf")]
"""Both sides of the smallest decay kept in float32 (exp(-43) = 2e-19) and of the smallest float32 (exp(-103))."""


def make_inputs(
    time: int, *, seed: int = 0, batch: int = 2, gate: float = 0.3, is_shared: bool = False, dtype=torch.float64
) -> list[Any]:
    """q, k, v, a, b, log_decay in [-gate, 0], state as RWKV-7 or, shared, the delta rule makes them."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    def keys() -> Tensor:
        return normal(batch, time, HEADS, D_KEY)

    unit, rate = F.normalize(keys(), dim=-1), keys().sigmoid()
    k = unit * rate[..., :1] if is_shared else keys()
    v, state = normal(batch, time, HEADS, D_VALUE), normal(batch, HEADS, D_KEY, D_VALUE)
    inputs = [keys(), k, v, -unit, None if is_shared else unit * rate, -gate * keys().sigmoid(), state]
    return [x if x is None else x.to(dtype).requires_grad_() for x in inputs]


def set_gates(inputs: list[Any], gates: list[float]) -> None:
    """These gates in turn, in another order for each key feature."""
    columns = torch.stack([torch.tensor(gates).roll(shift) for shift in range(D_KEY)], dim=-1)
    inputs[5] = columns[None, :, None].expand(2, -1, HEADS, -1).to(inputs[0].dtype).clone().requires_grad_()


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("gate", [0.3, 5.0])
@pytest.mark.parametrize(
    ("time", "chunk_size"), [*itertools.product((1, 2, 7, 33), (1, 2, 16, 64)), (64, 16), (65, 16), (70, 24)]
)
def test_chunked_form_equals_recurrent_form(time: int, chunk_size: int, gate: float, is_shared: bool) -> None:
    inputs = make_inputs(time, gate=gate, is_shared=is_shared)
    got = outputs_and_gradients(dplr, inputs, chunk_size=chunk_size)
    assert_all_close(got, outputs_and_gradients(dplr_recurrent, inputs), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_missing_state_is_a_state_of_zeros(is_shared: bool) -> None:
    inputs = make_inputs(20, is_shared=is_shared)
    inputs[-1] = torch.zeros_like(inputs[-1])
    for fn in (dplr, dplr_recurrent):
        assert_all_close(list(fn(*inputs[:-1])), list(fn(*inputs)), rtol=0, atol=0)


@pytest.mark.parametrize("is_shared", [False, True])
def test_gradients_are_those_of_finite_differences(is_shared: bool) -> None:
    inputs = make_inputs(3, batch=1, is_shared=is_shared)
    assert torch.autograd.gradcheck(lambda *x: dplr(*x, chunk_size=2, scale=0.7), inputs)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 50), st.integers(1, 40), st.booleans(), st.data())
def test_cutting_anywhere_keeps_outputs_and_state(
    time: int, chunk_size: int, is_shared: bool, data: st.DataObject
) -> None:
    cut, gate = data.draw(st.integers(1, time - 1)), data.draw(st.sampled_from([0.0, 1e-3, 1.0, 100.0]))
    inputs = make_inputs(time, seed=time, gate=gate, is_shared=is_shared)
    *tokens, state = (None if x is None else x.detach() for x in inputs)
    head, tail = ([None if x is None else x[:, part] for x in tokens] for part in (slice(cut), slice(cut, None)))
    whole, end = dplr(*tokens, state=state, chunk_size=chunk_size)
    first, middle = dplr(*head, state=state, chunk_size=chunk_size)
    last, end_of_parts = dplr(*tail, state=middle, chunk_size=chunk_size)
    assert_all_close([torch.cat([first, last], 1), end_of_parts], [whole, end], rtol=1e-10, atol=1e-11)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(GATES), min_size=2, max_size=40), st.booleans())
def test_extreme_gates_give_finite_and_equal_results(gates: list[float], is_shared: bool) -> None:
    inputs = make_inputs(len(gates), is_shared=is_shared, dtype=torch.float32)
    set_gates(inputs, gates)
    got = outputs_and_gradients(dplr, inputs)
    assert all(x.isfinite().all() for x in got)
    exact = [x if x is None else x.detach().double().requires_grad_() for x in inputs]
    expected = outputs_and_gradients(dplr_recurrent, exact)
    assert_all_close(got, [x.float() for x in expected], rtol=1e-4, atol=1e-4)


def test_a_weak_gate_after_strong_ones_keeps_its_digits() -> None:
    """A difference of sums of logarithms would lose them: in float32 it is known to 2e-4 after -3000."""
    inputs = make_inputs(32, is_shared=True, dtype=torch.float32)
    set_gates(inputs, [-100.0] * 28 + [-0.001] * 4)
    inputs[5] = inputs[5].detach()[..., :1].expand(-1, -1, -1, D_KEY).clone()
    exact = [x if x is None else x.detach().double() for x in inputs]
    got, expected = dplr(*inputs, chunk_size=32), dplr_recurrent(*exact)
    assert_all_close([x.detach() for x in got], [x.float() for x in expected], rtol=2e-6, atol=2e-6)


def test_small_products_of_decays_still_count() -> None:
    """With nothing written, what is read after 5 steps of exp(-8) is exp(-40) = 4e-18 of the state."""
    inputs = [x.detach() for x in make_inputs(5, dtype=torch.float32)]
    for i in (1, 3):
        inputs[i].zero_()
    inputs[5].fill_(-8.0)
    o, state = dplr(*inputs)
    expected = inputs[6] * torch.tensor(-40.0, dtype=torch.float64).exp()
    torch.testing.assert_close(state, expected.float(), rtol=1e-5, atol=0)
    read = (inputs[0][:, -1, :, None] @ state).squeeze(-2) * D_KEY**-0.5
    torch.testing.assert_close(o[:, -1], read, rtol=1e-4, atol=1e-22)


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_reset_forgets_everything_before_it(is_shared: bool) -> None:
    inputs = [None if x is None else x.detach() for x in make_inputs(40, is_shared=is_shared, dtype=torch.float32)]
    inputs[5][:, 20] = -torch.inf
    inputs[3][:, 20] = 0  # `a` reads before the gate
    o, _ = dplr(*inputs)
    for x in inputs[:5]:
        if x is not None:
            x[:, :20] = torch.randn_like(x[:, :20])
    torch.testing.assert_close(dplr(*inputs)[0][:, 20:], o[:, 20:], rtol=0, atol=0)


def per_key_inputs(time: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """q, unit k, v, beta, log_decay, state."""
    q, _, v, a, _, log_decay, state = make_inputs(time, dtype=dtype)
    beta = q.detach()[..., 0].sigmoid().requires_grad_()
    return [q, a, v, beta, log_decay, state]


def apply_equation(q, k, v, beta, log_decay, state) -> tuple[Tensor, Tensor]:
    """S_t = (I - beta k k^T) diag(exp(log_decay)) S_{t-1} + beta k v^T, with every matrix written out."""
    outputs = []
    for t in range(q.shape[1]):
        written = beta[:, t, :, None, None] * k[:, t, :, :, None]
        kept = torch.eye(D_KEY, dtype=q.dtype) - written * k[:, t, :, None, :]
        state = kept @ torch.diag_embed(log_decay[:, t].exp()) @ state + written * v[:, t, :, None, :]
        outputs.append((q[:, t, :, None, :] @ state).squeeze(-2) * D_KEY**-0.5)
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize("time", [1, 30, 64])
def test_the_per_key_delta_rule_is_its_equation(time: int) -> None:
    inputs = per_key_inputs(time)
    got, expected = (outputs_and_gradients(fn, inputs) for fn in (per_key_delta_rule, apply_equation))
    assert_all_close(got, expected, rtol=1e-10, atol=1e-11)


def test_one_gate_for_all_keys_gives_the_gated_delta_rule() -> None:
    q, k, v, beta, log_decay, state = (x.detach() for x in per_key_inputs(40))
    log_decay = log_decay[..., 0]
    per_key = log_decay.unsqueeze(-1).expand_as(k)
    got = per_key_delta_rule(q, k, v, beta, per_key, state)
    assert_all_close(list(got), list(delta_rule_recurrent(q, k, v, beta, log_decay, state)), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(("fn", "make"), [(dplr, make_inputs), (per_key_delta_rule, per_key_inputs)])
def test_computes_in_float32_under_autocast_and_returns_the_dtype_of_the_values(fn, make) -> None:
    inputs = [x.detach().bfloat16() for x in make(40, dtype=torch.float32)]
    expected, expected_state = fn(*(x.float() for x in inputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        o, state = fn(*inputs)
    assert (o.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(o, expected.bfloat16(), rtol=0, atol=0)
    torch.testing.assert_close(state, expected_state, rtol=0, atol=0)


@pytest.mark.parametrize("position", range(1, 7))
def test_shapes_that_do_not_belong_together_are_an_error(position: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of tests
    inputs = make_inputs(4)
    inputs[position] = inputs[position][:1]
    name = ("q", "k", "v", "a", "b", "log_decay", "state")[position]
    with pytest.raises(ValueError, match=rf"^{name} has shape \(1, "):
        dplr(*inputs)


@pytest.mark.parametrize(("position", "name"), [(1, "beta"), (3, "beta"), (4, "log_decay"), (2, "v"), (5, "state")])
def test_shapes_of_the_per_key_delta_rule_are_checked(
    position: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    inputs = per_key_inputs(4)
    inputs[position] = inputs[position][:1]
    with pytest.raises(ValueError, match=rf"^{name} has shape "):
        per_key_delta_rule(*inputs)


def test_a_second_derivative_is_an_error_and_not_a_wrong_number() -> None:
    inputs = make_inputs(4)
    gradient, *_ = torch.autograd.grad(dplr(*inputs)[0].sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        gradient.sum().backward()


def test_a_chunk_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="chunk_size=0"):
        dplr(*make_inputs(4), chunk_size=0)

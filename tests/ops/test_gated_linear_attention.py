"""Gated linear attention: chunks equal single steps for every gate, and no gate is too strong or too weak."""

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrids.ops.linear_attention import linear_attention, linear_attention_recurrent

B, H, K, V = 2, 4, 3, 5
GATES = ("none", "head", "key")


def make_inputs(length, gate, *, groups=H, dtype=torch.float64, seed=0, strength=3.0):
    """q, k, v, state and, unless `gate` is none, log_decay; all of them leaves."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "q": (B, length, groups, K),
        "k": (B, length, groups, K),
        "v": (B, length, H, V),
        "state": (B, H, K, V),
        "log_decay": (B, length, H) if gate == "head" else (B, length, H, K),
    }
    x = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    x["log_decay"] = -strength * x["log_decay"].abs()
    if gate == "none":
        del x["log_decay"]
    return {name: t.to(dtype).requires_grad_() for name, t in x.items()}


def gradients(outputs, inputs):
    generator = torch.Generator().manual_seed(99)
    seeds = [torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.dtype) for t in outputs]
    return torch.autograd.grad(outputs, list(inputs.values()), seeds)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 29, 64])
def test_chunks_equal_single_steps_in_outputs_state_and_gradients(gate, length):
    x = make_inputs(length, gate)
    got, expected = linear_attention(**x, chunk_size=8), linear_attention_recurrent(**x)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(gradients(got, x), gradients(expected, x))


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("groups", [1, 2])
def test_heads_that_share_queries_and_keys_equal_repeated_ones(gate, groups):
    x = make_inputs(21, gate, groups=groups)
    repeated = x | {name: x[name].repeat_interleave(H // groups, dim=2) for name in ("q", "k")}
    got, expected = linear_attention(**x, chunk_size=8), linear_attention_recurrent(**repeated)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(gradients(got, x), gradients(expected, x))
    torch.testing.assert_close(linear_attention_recurrent(**x), expected)


@given(
    length=st.integers(1, 70),
    chunk_size=st.integers(1, 40),
    cut=st.floats(0, 1),
    gate=st.sampled_from(GATES),
    strength=st.sampled_from([0.0, 1e-6, 0.1, 10.0, 1e3]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_any_length_chunk_and_cut_gives_what_single_steps_give(length, chunk_size, cut, gate, strength, seed):
    x = {n: t.detach() for n, t in make_inputs(length, gate, seed=seed, strength=strength).items()}
    expected, expected_state = linear_attention_recurrent(**x)
    at, state, parts = round(cut * length), x.pop("state"), []
    for piece in (slice(None, at), slice(at, None)):
        part = {name: t[:, piece] for name, t in x.items()}
        if part["q"].shape[1]:
            o, state = linear_attention(**part, state=state, chunk_size=chunk_size)
            parts.append(o)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected)
    torch.testing.assert_close(state, expected_state)


EXTREMES = (0.0, -1e-30, -1e-4, -1.0, -87.0, -104.0, -1e4, -1e30, -torch.inf)


@pytest.mark.parametrize("gate", ["head", "key"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gates_of_any_strength_keep_outputs_and_gradients(gate, dtype):
    x = make_inputs(60, gate, dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randint(len(EXTREMES), x["log_decay"].shape, generator=generator)
    # Mostly open, so that much is carried past the gates that are shut.
    chosen[torch.rand(chosen.shape, generator=generator) < 0.7] = 2
    x["log_decay"] = torch.tensor(EXTREMES, dtype=dtype)[chosen].requires_grad_()
    exact = {name: t.detach().double().requires_grad_() for name, t in x.items()}
    got, expected = linear_attention(**x, chunk_size=32), linear_attention_recurrent(**exact)
    # Gradients of a gate are differences of sums over a chunk: what is lost is relative to the largest of them.
    tolerance = {"rtol": 1e-5, "atol": 2e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-12}
    for g, e in zip((*got, *gradients(got, x)), (*expected, *gradients(expected, exact)), strict=True):
        torch.testing.assert_close(g.double(), e, **tolerance)


@pytest.mark.parametrize("gate", ["head", "key"])
def test_a_gate_shut_once_does_not_blur_those_that_follow(gate):
    """With sums of logarithms, -1e4 in a chunk would cost the later gates their digits in float32."""
    x = {n: t.detach() for n, t in make_inputs(32, gate, dtype=torch.float32, strength=0.01).items()}
    x["log_decay"][:, 3] = -1e4
    got, _ = linear_attention(**x, chunk_size=32)
    expected, _ = linear_attention_recurrent(**{name: t.double() for name, t in x.items()})
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("gate", ["head", "key"])
def test_a_fact_is_kept_over_ten_thousand_steps_of_an_almost_open_gate(gate):
    length, log_decay = 10_000, -1e-4
    shape = (1, length, 1) if gate == "head" else (1, length, 1, 1)
    decays = torch.full(shape, log_decay, requires_grad=True)
    zeros, one = torch.zeros(1, length, 1, 1), torch.ones(1, 1, 1, 1)
    _, state = linear_attention(zeros, zeros, zeros, one, log_decay=decays)
    state.sum().backward()
    kept = torch.tensor(length * log_decay).exp()
    # exp(-1e-4) in float32 is off by up to 3e-8, and that 10,000 times.
    torch.testing.assert_close(state, kept.view_as(state), rtol=3e-4, atol=0)
    torch.testing.assert_close(decays.grad, kept.expand(shape), rtol=3e-4, atol=0)


@pytest.mark.parametrize("gate", GATES)
def test_half_precision_is_computed_in_float32_also_under_autocast(gate):
    x = {name: t.detach().bfloat16() for name, t in make_inputs(33, gate).items()}
    expected, expected_state = linear_attention_recurrent(**{name: t.float() for name, t in x.items()})
    with torch.autocast("cpu", torch.bfloat16):
        got, state = linear_attention(**x)
    assert (got.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(got, expected.bfloat16())
    torch.testing.assert_close(state, expected_state)


def test_a_second_derivative_is_refused_and_the_recurrent_form_has_one():
    x = make_inputs(5, "key")
    for form in (linear_attention, linear_attention_recurrent):
        (gradient,) = torch.autograd.grad(form(**x)[0].square().sum(), x["q"], create_graph=True)
        if form is linear_attention:
            with pytest.raises(RuntimeError, match="no second derivative"):
                gradient.sum().backward()
        else:
            gradient.sum().backward()


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("k", (B, 5, H, K + 1), "k has shape"),
        ("v", (B, 5, H + 1, V), "v has 5 heads; a multiple of the 4 heads of q"),
        ("state", (B, H, V, K), "state has shape"),
        ("log_decay", (B, 5, 1), "log_decay has shape"),
        ("log_decay", (B, 5, H, 1), "log_decay has shape"),
    ],
)
def test_shapes_that_do_not_belong_together_are_errors(name, shape, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of tests
    x = make_inputs(5, "none") | {name: torch.zeros(shape)}
    with pytest.raises(ValueError, match=message):
        linear_attention(**x)

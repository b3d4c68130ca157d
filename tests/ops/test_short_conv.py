"""The short convolution against PyTorch's own, and its state."""

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybrids.ops.short_conv import short_conv


def make_inputs(time: int, taps: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, weight, bias, state in float64, all requiring gradients."""
    g = torch.Generator().manual_seed(seed)
    shapes = ((2, time, 6), (6, taps), (6,), (2, taps - 1, 6))
    x, weight, bias, state = (torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in shapes)
    return x, weight, bias, state


def plain_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Padded on both sides by PyTorch, then cut: another way to be causal."""
    width, taps = weight.shape
    y = F.conv1d(x.transpose(1, 2), weight.unsqueeze(1), bias, padding=taps - 1, groups=width)
    return y[..., : x.shape[1]].transpose(1, 2)


@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize("time", [1, 2, 3, 4, 17])
def test_equals_a_padded_convolution_with_gradients(time: int, taps: int) -> None:
    x, weight, bias, _ = make_inputs(time, taps)
    for b in (None, bias):
        for activation, after in ((None, lambda y: y), ("silu", F.silu)):
            got, _ = short_conv(x, weight, b, activation=activation)
            expected = after(plain_conv(x, weight, b))
            torch.testing.assert_close(got, expected)
            wanted = [t for t in (x, weight, b) if t is not None]
            seed = torch.cos(torch.arange(got.numel(), dtype=got.dtype)).view_as(got)
            pairs = zip(*(torch.autograd.grad(y, wanted, seed) for y in (got, expected)), strict=True)
            for a, e in pairs:
                torch.testing.assert_close(a, e)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 20), st.integers(1, 6), st.data())
def test_cutting_anywhere_keeps_outputs_and_state(time: int, taps: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, time - 1))
    x, weight, bias, state = make_inputs(time, taps, seed=time)
    whole, end = short_conv(x, weight, bias, state, activation="silu")
    first, middle = short_conv(x[:, :cut], weight, bias, state, activation="silu")
    last, end_of_parts = short_conv(x[:, cut:], weight, bias, middle, activation="silu")
    torch.testing.assert_close(torch.cat([first, last], 1), whole)
    torch.testing.assert_close(end_of_parts, end, rtol=0, atol=0)


@pytest.mark.parametrize("time", [1, 2, 9])
def test_state_is_the_last_inputs(time: int) -> None:
    x, weight, bias, state = make_inputs(time, 4)
    _, new_state = short_conv(x, weight, bias, state)
    torch.testing.assert_close(new_state, torch.cat([state, x], 1)[:, -3:], rtol=0, atol=0)
    assert new_state.untyped_storage().nbytes() == new_state.numel() * new_state.element_size()


@pytest.mark.parametrize("time", [1, 5])
def test_gradients_reach_every_input(time: int) -> None:
    assert torch.autograd.gradcheck(lambda *args: short_conv(*args, activation="silu"), make_inputs(time, 4))


@pytest.mark.parametrize("time", [1, 9])
def test_keeps_the_dtype_of_x_under_autocast(time: int) -> None:
    x, weight, bias, _ = (t.detach().float() for t in make_inputs(time, 4))
    expected, _ = short_conv(x, weight, bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, state = short_conv(x, weight, bias)
        low, low_state = short_conv(x.bfloat16(), weight, bias)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert (state.dtype, low.dtype, low_state.dtype) == (torch.float32, torch.bfloat16, torch.bfloat16)
    torch.testing.assert_close(low.float(), expected, rtol=0.05, atol=0.05)  # bf16 has 8 bits


def test_wrong_arguments_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of tests
    x, weight, _, state = make_inputs(5, 4)
    with pytest.raises(ValueError, match="width of x, 6"):
        short_conv(x, weight[:5])
    with pytest.raises(ValueError, match=r"\(2, 3, 6\) is needed"):
        short_conv(x, weight, state=state[:, :2])
    with pytest.raises(ValueError, match="activation='relu' is unknown; allowed: None, 'silu'"):
        short_conv(x, weight, activation="relu")

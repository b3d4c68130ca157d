"""Layers of a stack: sums, two streams, free-standing channel layers, and what cannot be built."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from hybrids import registry
from hybrids.channel import ChannelMixer
from hybrids.mixer import Mixer
from hybrids.model.backbone import Backbone
from hybrids.model.block import Block, Choice, Letter
from hybrids.model.measure import measure_step
from hybrids.pattern import Pattern

D = 8


class Sum(NamedTuple):
    total: Tensor


class RunningSum(Mixer[Sum]):
    """y_t = scale * (x_1 + ... + x_t), a mixer whose result is known by hand."""

    def __init__(self, d_model: int, *, scale: float = 1.0) -> None:
        super().__init__(d_model)
        self.scale = scale

    def forward(self, x, state=None):
        start = self.init_state(len(x)) if state is None else state
        sums = x.cumsum(1) + start.total[:, None]
        return self.scale * sums, Sum(sums[:, -1])

    def init_state(self, batch_size):
        return Sum(torch.zeros(batch_size, self.d_model))

    def state_elements(self, context):
        return self.d_model

    def step_flops(self, context):
        return 2 * self.d_model


class Shift(ChannelMixer):
    """y = 3: whatever comes in."""

    def forward(self, x):
        return torch.full_like(x, 3.0)

    def step_flops(self):
        return 0


def letter(scale=1.0, channel=None):
    return Letter(Choice(RunningSum, {"scale": scale}), channel)


def normed(x):
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def backbone(pattern, **letters):
    return Backbone(D, Pattern.parse(pattern), letters)


@pytest.fixture
def x():
    return torch.randn(2, 5, D, generator=torch.Generator().manual_seed(0))


def test_a_layer_adds_its_mixer_and_then_its_channel_mixer(x):
    stack = backbone("L", L=letter(2.0, Choice(Shift)))
    assert_close(stack(x)[0], x + 2 * normed(x).cumsum(1) + 3)


def test_a_plus_sums_mixers_on_the_same_input(x):
    stack = backbone("L+A+B", L=letter(2.0), A=letter(5.0), B=letter(-1.0))
    assert_close(stack(x)[0], x + (2 + 5 - 1) * normed(x).cumsum(1))


def test_two_streams_start_as_the_first_alone_and_the_gate_learns(x):
    both, alone = backbone("L:A", L=letter(2.0), A=letter(5.0)), backbone("L", L=letter(2.0))
    assert torch.equal(both(x)[0], alone(x)[0])
    gate = both.blocks[0].stream_gate
    both(x)[0].sum().backward()
    assert_close(gate.grad, 5 * normed(x).cumsum(1).sum())  # tanh' = 1 at 0


def test_two_streams_add_the_second_through_tanh(x):
    stack = backbone("L:A", L=letter(2.0), A=letter(5.0))
    nn.init.constant_(stack.blocks[0].stream_gate, 0.5)
    gate = torch.tensor(0.5).tanh()
    assert_close(stack(x)[0], x + (2 + 5 * gate) * normed(x).cumsum(1))


@pytest.mark.parametrize("pattern", ["L", "L+A", "L:A", "LF", "FFL+A.L:Ax2"])
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_cutting_a_sequence_and_carrying_the_cache_keeps_outputs(x, pattern, cut):
    letters = {"L": letter(2.0, Choice(Shift)), "A": letter(5.0, Choice(Shift)), "F": Letter(None, Choice(Shift))}
    stack = backbone(pattern, **letters)
    for block in stack.blocks:
        if block.stream_gate is not None:
            nn.init.constant_(block.stream_gate, 0.3)
    whole, _ = stack(x)
    first, cache = stack(x[:, :cut])
    second, _ = stack(x[:, cut:], cache)
    assert_close(torch.cat([first, second], dim=1), whole)
    from_start, _ = stack(x, stack.init_state(len(x)))
    assert torch.equal(from_start, whole)


def test_a_free_standing_channel_layer_carries_nothing(x):
    stack = backbone("F", F=Letter(None, Choice(Shift)))
    y, cache = stack(x)
    assert cache == ((),)
    assert stack.state_elements(100) == 0
    assert_close(y, x + 3)


@pytest.mark.parametrize("pattern", ["LA", "L+A", "L:A", "LF.S+A+L"])
def test_declared_state_and_cost_of_a_stack_are_the_measured_ones(make_run, pattern):
    run = make_run(f"pattern={pattern}", "+mixer@mixers.F=none")
    stack = Backbone(16, run.pattern, run.letters)
    cost = measure_step(stack, 16, 9)
    assert stack.state_elements(9) == cost.state_elements
    assert stack.step_flops(9) == pytest.approx(cost.flops, rel=0.1)


def test_a_layer_with_nothing_is_refused():
    with pytest.raises(ValueError, match="layer F has neither a mixer nor a channel mixer"):
        backbone("F", F=Letter(None, None))
    with pytest.raises(ValueError, match="a layer with neither a mixer nor a channel mixer does nothing"):
        Block(D, [], None)


@pytest.mark.parametrize("pattern", ["L+A", "L:A"])
def test_letters_with_different_channel_mixers_cannot_share_a_layer(pattern):
    with pytest.raises(ValueError, match=rf"letters of layer {pattern.replace('+', '.')} have different channel mixer"):
        backbone(pattern, L=letter(channel=Choice(Shift)), A=letter())
    mlp = registry.get("channel", "mlp").cls
    with pytest.raises(ValueError, match="different channel mixers"):
        backbone(pattern, L=letter(channel=Choice(mlp)), A=letter(channel=Choice(mlp, {"expansion": 2.0})))


def test_a_letter_without_mixer_cannot_be_joined():
    with pytest.raises(ValueError, match=r"layer L\+F joins a letter that is bound to no mixer"):
        backbone("L+F", L=letter(channel=Choice(Shift)), F=Letter(None, Choice(Shift)))


def test_an_unbound_letter_says_how_to_bind_it():
    with pytest.raises(
        ValueError, match=r"pattern=LLXA .* letter X, .* bound letters: A, L; bind it with \+mixer@mixers.X="
    ):
        backbone("LLXA", L=letter(), A=letter())


def test_wrong_settings_are_said_with_their_letter():
    heads = Letter(Choice(registry.get("mixer", "attention").cls, {"num_heads": 3}), None)
    with pytest.raises(ValueError, match=r"mixers\.B: num_heads=3 does not divide d_model=8; allowed: 1, 2, 4, 8"):
        backbone("L+B", L=letter(), B=heads)

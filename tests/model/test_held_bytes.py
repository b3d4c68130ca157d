"""What a forward pass keeps for the backward pass; no recurrent mixer keeps the state of every step."""

import inspect

import pytest
import torch

from hybrids.model.measure import held_bytes
from hybrids.ops.linear_attention import linear_attention_recurrent
from hybrids.registry import entries, get

WIDTH, LENGTH = 64, 256
MATRIX_SETTINGS = {"d_state": (16, 64), "feature_dim": (8, 16), "num_heads": (4, 1)}
"""Settings that make a matrix state larger, and two values of them; the first one that a mixer has is taken."""


def test_what_a_product_keeps_is_counted_once():
    x, w = torch.ones(4, 8, requires_grad=True), torch.ones(8, 8, requires_grad=True)
    assert held_bytes(lambda: x @ w) == 4 * (32 + 64)
    assert held_bytes(lambda: x @ w, [w]) == 4 * 32
    assert held_bytes(lambda: (x[:2] @ w) + (x[2:] @ w), [w]) == 4 * 32  # two views of one storage


def test_results_that_the_backward_pass_needs_are_counted():
    x = torch.ones(8, requires_grad=True)
    assert held_bytes(lambda: x.exp().exp(), [x]) == 2 * 4 * 8
    assert held_bytes(lambda: x + 1, [x]) == 0


def test_a_loop_over_time_under_autograd_keeps_every_state():
    q, k, v = (torch.randn(1, LENGTH, 2, 16, requires_grad=True) for _ in range(3))
    held = held_bytes(lambda: linear_attention_recurrent(q, k, v), [q, k, v])
    assert held > LENGTH * 4 * 2 * 16 * 16


def larger_states(name):
    """The settings of a mixer with a small and with a large matrix state, None where it has no such state."""
    parameters = inspect.signature(get("mixer", name).cls).parameters
    setting = next((setting for setting in MATRIX_SETTINGS if setting in parameters), None)
    return None if setting is None else [{setting: value} for value in MATRIX_SETTINGS[setting]]


def is_recurrent(name):
    mixer = get("mixer", name).cls(WIDTH)
    return mixer.state_elements(2 * LENGTH) == mixer.state_elements(LENGTH)


MATRIX_MIXERS = [
    name
    for name in (entry.name for entry in entries() if entry.kind == "mixer")
    if is_recurrent(name) and larger_states(name) and name != "sliding_attention"
]


def held_and_state(name, settings):
    """Bytes held for each token, and bytes of one state."""
    torch.manual_seed(0)
    mixer = get("mixer", name).cls(WIDTH, **settings)
    x = torch.randn(1, LENGTH, WIDTH, requires_grad=True)
    held = held_bytes(lambda: mixer(x)[0], [x, *mixer.parameters()])
    return held / LENGTH, 4 * mixer.state_elements(LENGTH)


def test_there_are_mixers_with_a_matrix_state():
    assert len(MATRIX_MIXERS) >= 12


@pytest.mark.parametrize("name", MATRIX_MIXERS)
def test_a_larger_state_is_not_kept_for_every_step(name):
    (held, state), (held_large, state_large) = (held_and_state(name, settings) for settings in larger_states(name))
    assert state_large > 1.5 * state
    assert held_large - held < (state_large - state) / 4

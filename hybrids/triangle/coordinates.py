"""Efficiency, Compactness and Recall at a context, from what was measured there and at twice of it.

    E = 1 - log2(f(2n) / f(n))      1: a step costs the same; 0: its cost grows in proportion
    C = 1 - log2(s(2n) / s(n))      1: the state does not grow; 0: it grows in proportion
    R = r(n) / bits offered         where the number of facts grows in proportion to n

Each is 1 where nothing has to be given up. They say how things grow, not how large they are: a large state holds
(1, 1, 1) at any finite n, so s, f and r stand beside them, always.

A layer that works in blocks gains state where a block ends, and reads fewer tokens just after: from n to 2n, s may then
grow more than in proportion, and f fall. E and C are therefore taken where blocks end, at `whole_blocks` of n.
"""

import math
from typing import NamedTuple


class Measured(NamedTuple):
    """What was measured at one context; backbone only, one sequence."""

    context: int
    state_bits: int
    step_flops: int
    step_bytes: int


class Coordinates(NamedTuple):
    """The place of a model in the triangle at one context."""

    efficiency: float
    compactness: float
    recall: float | None
    """None where nothing was recalled, or where the task has no bits."""


def locate(
    at: Measured, at_twice: Measured, recalled: float | None = None, offered: float | None = None
) -> Coordinates:
    """Coordinates at `at.context`, from the measurements there and at twice of it; `recalled` and `offered` in bits."""
    assert at_twice.context == 2 * at.context, f"measured at {at.context} and {at_twice.context}"
    return Coordinates(
        efficiency=flatness(at.step_flops, at_twice.step_flops),
        compactness=flatness(at.state_bits, at_twice.state_bits),
        recall=recalled / offered if recalled is not None and offered else None,
    )


def whole_blocks(context: int, period: int) -> int:
    """The context, or the next one at which the blocks of a stack with this period end."""
    return -(-context // period) * period


def flatness(once: float, twice: float) -> float:
    """1 - log2(twice / once): 1 where a quantity does not grow as the context doubles, 0 where it doubles.

    A quantity that is nothing at both does not grow.
    """
    if once == twice:
        return 1.0
    if once <= 0 or twice <= 0:
        raise ValueError(f"measured {once} and {twice}; growth from or to nothing has no logarithm")
    return 1 - math.log2(twice / once)

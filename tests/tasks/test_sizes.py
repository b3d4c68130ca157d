"""Grids of sizes stay within their limits."""

import pytest

from hybrids.tasks.sizes import multiples, powers_of_two


def test_powers_of_two_lie_within_their_limits():
    assert powers_of_two(3, 32) == (4, 8, 16, 32)
    assert powers_of_two(1, 1) == (1,)


@pytest.mark.parametrize(
    ("size", "factors", "limits", "expected"),
    [
        (5, (4, 0.5, 1), {}, (2, 5, 20)),
        (3, (0.5, 1, 2, 4), {"low": 2}, (3, 6, 12)),
        (8, (0.5, 1, 2, 4), {"low": 4, "high": 16}, (4, 8, 16)),
        (0, (1, 2, 4), {}, (0,)),
    ],
)
def test_multiples_are_rounded_down_ascending_and_within_their_limits(size, factors, limits, expected):
    assert multiples(size, factors, **limits) == expected

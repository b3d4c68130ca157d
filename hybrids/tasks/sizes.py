"""Sizes to try: grids around the size of training."""

from collections.abc import Sequence

DOUBLING = (0.5, 1, 2, 4, 8)
"""From half to eight times the size of training."""

FAR = (1, 2, 4, 6.4)
"""As far beyond training as formal languages are tested: lengths up to 40 in training, up to 256 in the test."""


def multiples(size: int, factors: Sequence[int | float], *, low: int = 0, high: int | None = None) -> tuple[int, ...]:
    """`size` times each factor, rounded down, ascending; those from `low` to `high`."""
    found = {int(size * factor) for factor in factors}
    return tuple(sorted(n for n in found if low <= n and (high is None or n <= high)))


def powers_of_two(low: int, high: int) -> tuple[int, ...]:
    """Those from `low` to `high`, at most 2**24."""
    return tuple(2**k for k in range(25) if low <= 2**k <= high)

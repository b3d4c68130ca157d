"""Answers at every prefix of a sequence: scans, lengths that vary, and accuracy by the number of tokens read."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybrids.errors import check_number
from hybrids.rng import MAX_HIGH, Draws
from hybrids.tasks.sizes import powers_of_two


def prefix_scan(x: Int[Tensor, "B T *rest"], combine: Callable[[Tensor, Tensor], Tensor]) -> Int[Tensor, "B T *rest"]:
    """x_1, x_1 x_2, ..., x_1 ... x_T, where `combine(earlier, later)` is associative; in ceil(log2 T) steps.

    Source: Hillis and Steele, Data parallel algorithms, Communications of the ACM 29 (12), 1986.
    """
    reach = 1
    while reach < x.shape[1]:
        x = torch.cat([x[:, :reach], combine(x[:, :-reach], x[:, reach:])], dim=1)
        reach *= 2
    return x


def prefix_slice(num_read: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Numbers of tokens read, at least 1, each rounded up to a power of two: the slice `prefix` of an answer."""
    powers = 1 << torch.arange(MAX_HIGH.bit_length(), device=num_read.device)
    return powers[torch.bucketize(num_read, powers)]


def prefix_values(shortest: int, longest: int) -> tuple[int, ...]:
    """The values of `prefix_slice` for `shortest` to `longest` tokens."""
    return powers_of_two(shortest, 2 * longest - 1)


@dataclass(frozen=True)
class Lengths:
    """Lengths of examples: uniform over low, low + step, ..., high."""

    low: int
    high: int
    step: int = 1

    @classmethod
    def of(cls, length: int, min_length: int | None, *, least: int = 1, step: int = 1) -> "Lengths":
        """From the settings `length`, the longest, and `min_length` (None: always `length`).

        Raises UserError for a setting below `least`. `length` differs from every length by a multiple of `step`.
        """
        check_number("length", length, least, MAX_HIGH)
        check_number("min_length", min_length, least, length, f"{length=}")
        return cls(length if min_length is None else length - (length - min_length) // step * step, length, step)

    def draw(self, draws: Draws) -> Int[Tensor, "B 1"]:
        """One length for each example."""
        return draws.integers("length", 1, len(self.values)) * self.step + self.low

    @property
    def values(self) -> tuple[int, ...]:
        """All lengths, ascending."""
        return tuple(range(self.low, self.high + 1, self.step))

    @property
    def shares(self) -> Float[Tensor, " T"]:
        """Probabilities that an example has at least t tokens, for t = 1 ... high; in float64."""
        shorter = torch.searchsorted(torch.tensor(self.values), torch.arange(1, self.high + 1))
        return 1 - shorter.double() / len(self.values)

"""Finite groups by name: symmetric, alternating and cyclic groups, and their direct products such as `A4xZ5`.

An element is a number. Those of S_n and A_n are the permutations of n points in lexicographic order of their images,
those of Z_n the residues; an element of a product has the number of its first factor as the leading digit. Number 0
is the identity. The product x y of permutations is x followed by y.
"""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

from hybrids.errors import UserError

MAX_ORDER = 1000
"""A multiplication table has the square of it."""

_FACTOR = re.compile(r"(S|A|Z)([1-9][0-9]{0,3})")


@dataclass(frozen=True)
class Factor:
    """A group that is no product: `kind` S, A or Z, of n points."""

    kind: str
    n: int

    @property
    def order(self) -> int:
        """The number of elements."""
        if self.kind == "Z":
            return self.n
        return math.factorial(self.n) // (2 if self.kind == "A" and self.n > 1 else 1)

    @cached_property
    def permutations(self) -> list[tuple[int, ...]]:
        """Images of the points under each element of S_n or A_n."""
        return [p for p in itertools.permutations(range(self.n)) if self.kind == "S" or not _num_inversions(p) % 2]

    @cached_property
    def _numbers(self) -> dict[tuple[int, ...], int]:
        return {permutation: number for number, permutation in enumerate(self.permutations)}

    def multiply(self, x: int, y: int) -> int:
        """The product of two elements."""
        if self.kind == "Z":
            return (x + y) % self.n
        first, second = self.permutations[x], self.permutations[y]
        return self._numbers[tuple(second[point] for point in first)]

    def table(self) -> Int[Tensor, "N N"]:
        """Products of all pairs."""
        if self.kind == "Z":
            numbers = torch.arange(self.n)
            return (numbers[:, None] + numbers) % self.n
        images = torch.tensor(self.permutations)
        products = images[:, images].transpose(0, 1)  # [x, y, point] = images[y, images[x, point]]
        codes, weights = images @ self._weights, products @ self._weights
        return torch.searchsorted(codes, weights)  # lexicographic order is ascending

    @property
    def _weights(self) -> Int[Tensor, " n"]:
        return torch.tensor([self.n ** (self.n - 1 - place) for place in range(self.n)])

    def generators(self) -> list[int]:
        """S_n: (0 1) and the cycle of all points; A_n: (0 1 2) and the cycle of all points, or of all but 0; Z_n: 1."""
        if self.order == 1:
            return []
        if self.kind == "Z":
            return [1]
        short, start = (2, 0) if self.kind == "S" else (3, 1 - self.n % 2)
        cycles = [range(short), range(start, self.n)]
        return sorted({self._numbers[_cycle(self.n, cycle)] for cycle in cycles})

    def swaps(self) -> list[int]:
        """Transpositions; none in A_n and Z_n."""
        pairs = itertools.combinations(range(self.n), 2) if self.kind == "S" else ()
        return [self._numbers[_cycle(self.n, pair)] for pair in pairs]

    def spell(self, element: int) -> str:
        """A number for a residue, cycles such as `(01)(234)` for a permutation, `()` for the identity."""
        return str(element) if self.kind == "Z" else "".join(_cycles(self.permutations[element])) or "()"


@dataclass(frozen=True)
class Group:
    """A direct product of factors, at least one."""

    factors: tuple[Factor, ...]

    @property
    def order(self) -> int:
        """The number of elements."""
        return math.prod(factor.order for factor in self.factors)

    def digits(self, element: int) -> list[int]:
        """The element of each factor."""
        found = []
        for factor in reversed(self.factors):
            element, digit = divmod(element, factor.order)
            found.append(digit)
        return found[::-1]

    def number(self, digits: Sequence[int]) -> int:
        """The element of these digits."""
        element = 0
        for factor, digit in zip(self.factors, digits, strict=True):
            element = element * factor.order + digit
        return element

    def table(self) -> Int[Tensor, "N N"]:
        """Products of all pairs."""
        table = torch.zeros(1, 1, dtype=torch.int64)
        for factor in self.factors:
            digit = factor.table()
            table = table[:, None, :, None] * factor.order + digit[None, :, None, :]
            table = table.reshape(table.shape[0] * table.shape[1], -1)
        return table

    def alphabet(self, tokens: str) -> list[int]:
        """All `elements`; or the identity, and the `generators` or `swaps` of each factor. Ascending."""
        if tokens == "elements":
            return list(range(self.order))
        found = {0}
        for place, factor in enumerate(self.factors):
            for digit in factor.swaps() if tokens == "swaps" else factor.generators():
                found.add(self.number([digit if i == place else 0 for i in range(len(self.factors))]))
        return sorted(found)

    def spell(self, element: int) -> str:
        """Digits as they are spelled, with a star between them."""
        digits = zip(self.factors, self.digits(element), strict=True)
        return "*".join(factor.spell(digit) for factor, digit in digits)


@lru_cache(maxsize=64)
def group_of(name: str) -> Group:
    """The group of a name such as `S5`, `A5`, `Z60` or `A4xZ5`; UserError for another name or too many elements."""
    parts = [_FACTOR.fullmatch(part) for part in name.split("x")]
    if not all(parts):
        raise UserError(f"group={name!r} is unknown; allowed: S, A or Z with a number, as S5, A5, Z60, or A4xZ5")
    group = Group(tuple(Factor(part[1], int(part[2])) for part in parts if part))
    if not 2 <= group.order <= MAX_ORDER:
        raise UserError(f"group={name!r} must have from 2 to {MAX_ORDER} elements: at most S6, A6 or Z{MAX_ORDER}")
    return group


def _num_inversions(permutation: Sequence[int]) -> int:
    return sum(a > b for a, b in itertools.combinations(permutation, 2))


def _cycle(num_points: int, points: Sequence[int]) -> tuple[int, ...]:
    """The permutation that takes each of `points` to the next, and the last to the first."""
    step = dict(zip(points, [*points[1:], points[0]], strict=True))
    return tuple(step.get(point, point) for point in range(num_points))


def _cycles(permutation: Sequence[int]) -> Iterator[str]:
    """The cycles of two points or more."""
    left = set(range(len(permutation)))
    while left:
        start = point = min(left)
        cycle = []
        while point in left:
            left.remove(point)
            cycle.append(point)
            point = permutation[point]
        if permutation[start] != start:
            yield f"({''.join(map(str, cycle))})"

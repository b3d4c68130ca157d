"""How many of a state's bits matter: states rounded to a few bits per element, with levels fixed on other data.

Each tensor of the cache has 2**bits levels, and every value goes to the nearest. The levels of a tensor are those that
lose least (mean square) on states of other examples, so they are a part of the reader and not of the state: they carry
no fact. They lie where the values lie: states of few values are kept exactly, and an outlier takes a level, not all.

Levels are found by Lloyd's method (Lloyd, 1982, "Least squares quantization in PCM"; Max, 1960, "Quantizing for minimum
distortion"), at most `MOST_FITTED` of them; more divide each space between two of these evenly.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map

from hybrids.errors import check_number
from hybrids.model.measure import tensors
from hybrids.ops.precision import at_least_float32
from hybrids.types import Cache

BITS = (16, 12, 8, 6, 5, 4, 3, 2, 1)
"""What is tried, largest first."""

METHOD = 2
"""Of rounding, as kept beside what was measured. 1: evenly spaced levels, symmetric around 0, a clip for their end."""

MOST_FITTED = 256
"""Levels that are fitted to the values of a tensor: more would need more values than a small state has."""

_ROUNDS = 100
"""Of Lloyd's method at most: the loss hardly falls after these."""


@dataclass(frozen=True)
class Quantiser:
    """Rounds a cache; `levels` has one entry per tensor of it, in order, None for what is not rounded (integers)."""

    bits: int
    levels: tuple[Tensor | None, ...]

    def __call__(self, cache: Cache) -> Cache:
        levels = iter(self.levels)
        return tree_map(lambda x: self._round(x, next(levels)) if isinstance(x, Tensor) else x, cache)

    def count(self, cache: Cache) -> int:
        """Bits of a cache once it is rounded, over the whole batch: what is not rounded keeps those it is stored in."""
        each = zip(tensors(cache), self.levels, strict=True)
        return sum(x.numel() * (8 * x.element_size() if levels is None else self.bits) for x, levels in each)

    def _round(self, x: Tensor, levels: Float[Tensor, " L"] | None) -> Tensor:
        return x if levels is None or x.numel() == 0 else round_to(x, levels, self.bits)


def fit(cache: Cache, bits: int) -> Quantiser:
    """Levels for states like those of `cache`, which must come from examples that are not used later."""
    check_number("bits", bits, 1)
    return Quantiser(bits, tuple(_fit_tensor(x, bits) for x in tensors(cache)))


def round_to(x: Float[Tensor, "..."], levels: Float[Tensor, " L"], bits: int) -> Float[Tensor, "..."]:
    """The nearest level: one of `levels`, ascending and distinct, or where 2**bits are more, one of those that divide
    each space between two of them into as many equal parts as that allows; computed in float32 or wider."""
    assert 0 < len(levels) <= 2**bits
    wide = at_least_float32(x).contiguous()
    levels = levels.to(wide)
    if len(levels) == 1:
        return levels.to(x.dtype).expand(x.shape).clone()
    parts = (2**bits - 1) // (len(levels) - 1)
    below = (torch.searchsorted(levels, wide) - 1).clamp(0, len(levels) - 2)
    low, space = levels[below], levels.diff()[below]
    share = ((wide - low) / space * parts).round().clamp(0, parts) / parts
    return torch.where(share == 1, levels[below + 1], low + share * space).to(x.dtype)


def fit_levels(values: Float[Tensor, " N"], bits: int) -> Float[Tensor, " L"]:
    """Levels for `round_to`, ascending and distinct, that lose little (mean square) of `values`; in float64.

    The best of four: the ends of the range alone, and what Lloyd's method makes of three starts. Even in value finds
    evenly spaced values; even in rank among distinct values gives each a level where they are few, and an outlier no
    more than one; the cube root of the density is the best for many levels (Panter and Dite, 1951).
    """
    ordered = values.double().sort().values
    num = min(2**bits, MOST_FITTED)
    share = torch.linspace(0, 1, num, dtype=torch.float64)
    ends = ordered[[0, -1]]
    starts = (ends[0] + share * (ends[1] - ends[0]), _at(ordered.unique_consecutive(), share), _dense(ordered, num))
    fitted = [ends.unique(), *(_settle(ordered, start.unique()) for start in starts)]
    return min(fitted, key=lambda levels: float((round_to(ordered, levels, bits) - ordered).square().mean()))


def _fit_tensor(x: Tensor, bits: int) -> Float[Tensor, " L"] | None:
    values = x.detach().flatten().cpu()
    if not x.is_floating_point() or not bool(values.isfinite().any()):
        return None
    return fit_levels(values[values.isfinite()], bits).to(x.device, at_least_float32(x).dtype)


def _at(ordered: Float[Tensor, " N"], share: Float[Tensor, " L"]) -> Float[Tensor, " L"]:
    """The values that come after such a share of all."""
    return ordered[(share * (len(ordered) - 1)).round().long()]


def _dense(ordered: Float[Tensor, " N"], num: int) -> Float[Tensor, " L"]:
    """Levels as dense as the cube root of the density of the values, as their quantiles tell it."""
    borders = _at(ordered, torch.linspace(0, 1, 4 * num + 1, dtype=torch.float64)).unique()
    weights = borders.diff() ** (2 / 3)  # of a width that holds a set share of the values: width x density ** (1 / 3)
    weights = weights.clamp(max=64 * weights.median()) if len(weights) else weights  # gaps before outliers hold none
    reached = np.append(0, weights.cumsum(0))
    return torch.from_numpy(np.interp((np.arange(num) + 0.5) / num * reached[-1], reached, borders))


def _settle(ordered: Float[Tensor, " N"], levels: Float[Tensor, " L"]) -> Float[Tensor, " L"]:
    """Lloyd's method: every level the mean of the values that are nearest to it, until none moves."""
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    for _ in range(_ROUNDS):
        ends = torch.searchsorted(ordered, (levels[1:] + levels[:-1]) / 2)
        ends = torch.cat([ends.new_zeros(1), ends, ends.new_tensor([len(ordered)])])
        counts = ends.diff()
        means = torch.where(counts > 0, sums[ends].diff() / counts.clamp(min=1), levels)
        if torch.equal(means, levels):
            break
        levels = means
    return levels.unique()

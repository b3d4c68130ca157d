"""How many of a state's bits matter: states rounded to a few bits per element, with steps fixed on other data.

Each tensor of the cache has 2**bits levels, evenly spaced and symmetric around 0 (mid-rise): x -> step (floor(x / step)
+ 1/2), clipped at the outer levels. The step of a tensor is the one of `CLIPS` that loses least (mean square) on states
of other examples, so it is a part of the reader and not of the state: it carries no fact.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map

from hybrids.errors import check_number
from hybrids.model.measure import tensors
from hybrids.ops.precision import at_least_float32
from hybrids.types import Cache

BITS = (16, 12, 8, 6, 5, 4, 3, 2, 1)
"""What is tried, largest first."""

CLIPS = tuple(2.0 ** (-k / 2) for k in range(12))
"""Outer level, as a share of the largest magnitude seen."""


@dataclass(frozen=True)
class Quantiser:
    """Rounds a cache; `steps` has one entry per tensor of it, in order, 0 for what is not rounded (integers)."""

    bits: int
    steps: tuple[float, ...]

    def __call__(self, cache: Cache) -> Cache:
        steps = iter(self.steps)
        return tree_map(lambda x: self._round(x, next(steps)) if isinstance(x, Tensor) else x, cache)

    def count(self, cache: Cache) -> int:
        """Bits of a cache once it is rounded, over the whole batch: what is not rounded keeps those it is stored in."""
        each = zip(tensors(cache), self.steps, strict=True)
        return sum(x.numel() * (self.bits if step else 8 * x.element_size()) for x, step in each)

    def _round(self, x: Tensor, step: float) -> Tensor:
        return x if step == 0 or x.numel() == 0 else round_evenly(x, step, self.bits)


def fit(cache: Cache, bits: int) -> Quantiser:
    """Steps for states like those of `cache`, which must come from examples that are not used later."""
    check_number("bits", bits, 1)
    return Quantiser(bits, tuple(_best_step(x, bits) for x in tensors(cache)))


def round_evenly(x: Float[Tensor, "..."], step: float, bits: int) -> Float[Tensor, "..."]:
    """The nearest of 2**bits levels at odd multiples of step / 2; computed in float32 or wider."""
    half = 2 ** (bits - 1)
    wide = at_least_float32(x)
    return ((wide / step).floor().clamp(-half, half - 1) + 0.5).mul(step).to(x.dtype)


def _best_step(x: Tensor, bits: int) -> float:
    if not x.is_floating_point() or x.numel() == 0 or not bool(x.any()):
        return 0.0
    largest = float(x.abs().amax())
    steps = (clip * largest / 2 ** (bits - 1) for clip in CLIPS)
    return min(steps, key=lambda step: float((round_evenly(x, step, bits) - x).square().mean()))

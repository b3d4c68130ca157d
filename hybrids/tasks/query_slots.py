"""What the tasks of associative recall share: where queries fall, what values hold, what stands between them."""

import math
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybrids.errors import UserError
from hybrids.rng import Draws
from hybrids.tasks.sizes import powers_of_two


@lru_cache(maxsize=64)
def slot_weights(num_slots: int, power: float, device: torch.device) -> Float[Tensor, " S"]:
    """i**(power - 1) for slot i from 1, computed on the host: a device's own `pow` would not be reproducible.

    Near power 0 queries crowd into the first slots, at 1 they are uniform. Raises UserError for another power.
    """
    if not 0 < power <= 10:
        raise UserError(f"power={power} must be above 0 and at most 10; 1 asks uniformly")
    weights = [(i + 1) ** (power - 1) for i in range(num_slots)]
    return torch.tensor(weights, dtype=torch.float64, device=device)


def bits_of_values(num: int, num_symbols: int, *, distinct: bool) -> float:
    """Entropy of `num` values of `num_symbols`, independent and uniform, or drawn without replacement."""
    if not distinct:
        return num * math.log2(num_symbols)
    return math.fsum(math.log2(num_symbols - i) for i in range(num))


def draw_values(draws: Draws, num: int, num_symbols: int, *, distinct: bool) -> Int[Tensor, "B num"]:
    """Of [0, num_symbols): independent and uniform, or without replacement."""
    draw = draws.distinct if distinct else draws.integers
    return draw("values", num, num_symbols)


def draw_fillers(draws: Draws, length: int, vocab_size: int, *, is_random: bool) -> Int[Tensor, "B T"]:
    """Uniform over the vocabulary, or 0: what stands where nothing is written."""
    if is_random:
        return draws.integers("fillers", length, vocab_size)
    return torch.zeros(len(draws.rows), length, dtype=torch.int64, device=draws.rows.device)


def grid_of_pairs(length: int, num_pairs: int, num_keys: int) -> dict[str, tuple[int, ...]]:
    """Powers of two from half to eight times of both, the pairs as far as there are keys."""
    most = min(8 * num_pairs, num_keys)
    return {
        "length": powers_of_two(length // 2, 8 * length),
        "num_pairs": powers_of_two((num_pairs + 1) // 2, most),
    }

"""How many different values independent uniform draws take."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor


def occupancy(num_draws: int, num_values: int) -> Iterator[Float[Tensor, " R"]]:
    """For t = 0 ... num_draws, the probabilities that t uniform draws take r = 0, 1, ... of `num_values` values.

    R - 1 is the smaller of both numbers, for every t. The next draw is new with probability 1 - r / num_values.

    Source: Feller, An Introduction to Probability Theory and Its Applications, volume 1, section IV.2.
    """
    size = min(num_draws, num_values) + 1
    share = torch.arange(size, dtype=torch.float64) / num_values
    row = torch.zeros(size, dtype=torch.float64)
    row[0] = 1
    yield row
    for _ in range(num_draws):
        new = row * (1 - share)
        row = row * share
        row[1:] += new[:-1]
        yield row

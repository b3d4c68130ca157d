"""Recalled bits with their uncertainty, and the law that they never exceed the bits of the state.

r is convex in the error rate, so the rate of a sample makes it too large on average (Jensen): with few errors seen, a
state would seem to hold more than it does. `estimate` therefore corrects the bias by the bootstrap, and `check_law`
uses no estimate at all but a limit that holds whatever the errors of one example have to do with each other. So does
the 95 % interval, which the bootstrap cannot give: of a sample without errors it would have no width.

Examples, not answers, are drawn anew: the answers of one example share a state.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.errors import UserError
from hybrids.tasks.mean_interval import mean_interval

Formula = Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]
"""Error rates to recalled bits, falling: a task's `recalled_bits`."""


INTERVAL = "simplex"
"""Name of the way in which `estimate` finds its interval, for records."""


class Estimate(NamedTuple):
    """Recalled bits of one model on one task."""

    bits: float
    """Corrected for bias, and never above what the error rate of the sample gives."""
    low: float
    high: float
    """95 % interval, of the limits that `mean_interval` has for the error."""
    error: float
    surely: float
    """Lower 99.9 % limit, which needs no assumption but that examples are independent."""


def estimate(errors: Float[Tensor, " N"], formula: Formula, *, num_resamples: int = 1000, seed: int = 0) -> Estimate:
    """Recalled bits from the share of wrong answers in each of N independent examples."""
    if len(errors) < 2:
        raise UserError(f"{len(errors)} examples are too few for an interval; at least 2")
    errors = errors.double()
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(errors), (num_resamples, len(errors)), generator=generator)
    resampled = formula(errors.cpu()[draws].mean(dim=1))
    plain = float(formula(errors.mean()))
    limits = torch.tensor(mean_interval(errors, seed=seed), dtype=torch.float64)
    high, low = formula(limits).tolist()
    bias = max(float(resampled.mean()) - plain, 0.0)
    return Estimate(
        bits=max(plain - bias, 0.0),
        low=low,
        high=high,
        error=float(errors.mean()),
        surely=float(formula(torch.tensor(upper_limit(errors), dtype=torch.float64))),
    )


def upper_limit(errors: Float[Tensor, " N"], *, risk: float = 1e-3) -> float:
    """What the mean error exceeds with probability `risk` at most: an empirical Bernstein bound, at most 1.

    mean + sqrt(2 var ln(2/risk) / N) + 7 ln(2/risk) / (3 (N - 1)), for independent values in [0, 1].
    Source: Maurer and Pontil, arXiv:0907.3740, theorem 4.
    """
    num, log = len(errors), math.log(2 / risk)
    spread = math.sqrt(2 * float(errors.double().var()) * log / num)
    return min(1.0, float(errors.double().mean()) + spread + 7 * log / (3 * (num - 1)))


class LawBroken(UserError):
    """More bits were recalled than the state holds: the task leaks its answers, or the state is under-counted."""


def check_law(surely: float, state_bits: float) -> None:
    """Raise LawBroken where what was surely recalled exceeds the state."""
    if surely > state_bits:
        raise LawBroken(
            f"at least {surely:,.1f} bits were recalled from a state of {state_bits:,.0f} bits: "
            "the answers leak past the state, or the state is under-counted"
        )

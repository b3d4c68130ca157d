"""Capacity: the largest number of facts K* that a kind of model learns to give back with accuracy 0.9.

Each (learning rate, seed) is trained once, on examples whose number of facts is log-uniform, and K* is read off its
curve of accuracy against K, where that falls below the threshold last: it may dip at few facts, which give training
fewer answers to learn from, but a state that gives back 12 holds 1 as well. The rate is chosen on the first seed; the
interval is over the other seeds, so that the choice does not flatter it. A seed that never learned any number of facts
is counted apart and never averaged in: it says how hard training is, not how much a state holds. What could have become
larger by other rates, more steps or more facts is a lower bound, with the reasons.

Nothing here trains: `find_capacity` is handed a function that does.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from hybrids.errors import UserError, check_number

THRESHOLD = 0.9
"""Accuracy at which a number of facts counts as recalled."""

WINDOW = 0.5
"""A learning rate is inside the window if its capacity is at least this share of the best one's."""


class Trial(NamedTuple):
    """One training run."""

    rate: float
    seed: int
    curve: Mapping[int, float]
    """Test accuracy by number of facts."""
    steps: int
    is_settled: bool
    """Whether the accuracy had stopped rising when training ended."""
    run: str

    @property
    def capacity(self) -> float:
        return read_capacity(self.curve)

    @property
    def is_open(self) -> bool:
        """Whether the largest number of facts asked for was recalled, so that the capacity may lie beyond."""
        return self.curve[max(self.curve)] >= THRESHOLD

    @property
    def dips(self) -> tuple[int, ...]:
        """Numbers of facts below the capacity that are recalled worse than the threshold."""
        return tuple(k for k, accuracy in sorted(self.curve.items()) if k < self.capacity and accuracy < THRESHOLD)


@dataclass(frozen=True)
class Capacity:
    """What the trials say together."""

    trials: tuple[Trial, ...]
    rate: float
    """The learning rate chosen on the first seed."""
    facts: float | None
    """Median of K* over the other seeds that learned; of the first seed where there are no others; None: none did."""
    interval: tuple[float, float] | None
    """Range over those seeds; None for fewer than two."""
    num_seeds: int
    """Seeds trained at the chosen rate, but for the one that it was chosen on."""
    num_never_learned: int
    window: tuple[float, ...]
    """Neighbouring rates around the chosen one whose capacity on the first seed is within `WINDOW` of it."""
    reasons: tuple[str, ...]
    """Why the capacity is a lower bound; empty where nothing says so."""

    @property
    def coverage(self) -> float | None:
        """Probability that the range of n seeds covers the median over all seeds: 1 - 2**(1 - n), for any law."""
        learned = self.num_seeds - self.num_never_learned
        return None if self.interval is None else 1 - 2.0 ** (1 - learned)

    @property
    def window_decades(self) -> float:
        """Width of the window on the axis of log10 of the rate."""
        return math.log10(max(self.window) / min(self.window)) if self.window else 0.0


def facts_grid(largest: int) -> tuple[int, ...]:
    """1, 2, 3, 4, 6, 8, 12 ... `largest`: half octaves; drawing them equally often makes K log-uniform."""
    check_number("max_facts", largest, 1)
    steps = (round(2 ** (k / 2)) if k % 2 == 0 else 3 * 2 ** (k // 2) // 2 for k in range(2 * largest.bit_length() + 2))
    return tuple(sorted({k for k in steps if 1 <= k < largest} | {largest}))


def read_capacity(curve: Mapping[int, float], threshold: float = THRESHOLD) -> float:
    """Where the curve last falls below the threshold, between two numbers of facts on a logarithmic axis.

    0 where it is never above; the largest number asked for where that one is.
    """
    points = sorted(curve.items(), reverse=True)
    if points[0][1] >= threshold:
        return float(points[0][0])
    for (many, low), (few, high) in pairwise(points):
        if high >= threshold:
            return few * (many / few) ** ((high - threshold) / (high - low))
    return 0.0


def find_capacity(train: Callable[[float, int], Trial], rates: Sequence[float], seeds: Sequence[int]) -> Capacity:
    """Train every rate on the first seed, the best one on the others. UserError without rates or seeds."""
    if not rates or not seeds:
        raise UserError(f"rates={list(rates)}, seeds={list(seeds)}: give at least one of each")
    rates = sorted(set(rates))
    first = [train(rate, seeds[0]) for rate in rates]
    best = max(range(len(rates)), key=lambda i: (first[i].capacity, sum(first[i].curve.values())))
    others = [train(rates[best], seed) for seed in seeds[1:]]
    learned = [trial.capacity for trial in (others or [first[best]]) if trial.capacity > 0]
    return Capacity(
        trials=(*first, *others),
        rate=rates[best],
        facts=median(learned) if learned else None,
        interval=(min(learned), max(learned)) if others and len(learned) > 1 else None,
        num_seeds=len(others),
        num_never_learned=sum(trial.capacity == 0 for trial in others),
        window=_window(first, best),
        reasons=tuple(_reasons(first, best, others)),
    )


def _window(trials: Sequence[Trial], best: int) -> tuple[float, ...]:
    """The rates next to each other, around the best one, that do well enough; in ascending order."""
    enough = [trial.capacity >= WINDOW * trials[best].capacity > 0 for trial in trials]
    if not enough[best]:
        return ()
    low = high = best
    while low > 0 and enough[low - 1]:
        low -= 1
    while high + 1 < len(trials) and enough[high + 1]:
        high += 1
    return tuple(trial.rate for trial in trials[low : high + 1])


def _reasons(first: Sequence[Trial], best: int, others: Sequence[Trial]) -> list[str]:
    """Why more rates, steps or facts could have given a larger capacity."""
    rates = [trial.rate for trial in first]
    used = [first[best], *others]
    reasons = []
    if len(rates) < 3:
        reasons.append(f"only {len(rates)} learning rate{'s' if len(rates) > 1 else ''} tried")
    elif best in (0, len(rates) - 1):
        reasons.append(
            f"the best learning rate, {rates[best]:g}, is the {'smallest' if best == 0 else 'largest'} tried"
        )
    unsettled = [trial for trial in used if not trial.is_settled]
    if unsettled:
        reasons.append(f"{len(unsettled)} of {len(used)} runs were still improving after {unsettled[0].steps:,} steps")
    if any(trial.is_open for trial in used):
        reasons.append(f"the most facts asked for, {max(first[best].curve)}, were recalled")
    return reasons


def is_settled(accuracy: Mapping[int, float], *, gain: float = 0.01) -> bool:
    """Whether the best validation accuracy of the last quarter of training is within `gain` of the best before it."""
    steps = sorted(accuracy)
    late = [step for step in steps if step > 0.75 * steps[-1]]
    before = [accuracy[step] for step in steps if step not in late]
    return bool(before) and max(accuracy[step] for step in late) - max(before) < gain


def bisect(recalls: Callable[[int], bool], largest: int, *, start: int) -> int:
    """The largest number of facts that `recalls`, in 1 ... `largest`, if more facts are never easier; 0 for none.

    Looks around `start` first: doubling away from it, then halving the gap.
    """
    known, refuted = 0, largest + 1
    probe = max(1, min(start, largest))
    while known == 0 or refuted == largest + 1:
        if recalls(probe):
            known = probe
            if probe == largest:
                return largest
            probe = min(2 * probe, largest) if refuted == largest + 1 else probe
        else:
            refuted = probe
            if probe == 1:
                return 0
            probe = max(probe // 2, 1) if known == 0 else probe
    while refuted - known > 1:
        middle = (known + refuted) // 2
        known, refuted = (middle, refuted) if recalls(middle) else (known, middle)
    return known

"""What a run recalls through its state as stored and as rounded, and what follows from it."""

from collections.abc import Iterator
from dataclasses import dataclass

from hybrids.triangle.intervals import Estimate
from hybrids.triangle.quantise import METHOD
from hybrids.triangle.recall import EffectiveBits, Recall, smallest_sufficient

KEPT = 0.99
"""Share of the recalled bits that a rounded state must keep to be enough."""

OUTDATED = "to evenly spaced levels, as earlier hybrids did, which needs more bits where states take few values"
"""What is said of a state that was rounded by the first method."""


@dataclass(frozen=True)
class Rounded:
    """Recall of one run at the context of training, through its state as stored and as rounded."""

    stored: Recall
    curve: tuple[EffectiveBits, ...]
    """Most bits first."""
    context: int
    num_examples: int
    method: int = METHOD
    """Of rounding, as numbered in `hybrids.triangle.quantise`."""

    @property
    def is_learned(self) -> bool:
        """Whether anything was recalled beyond doubt; what keeps 99 % of nothing says nothing."""
        return self.stored.recalled.surely > 0

    @property
    def smallest(self) -> EffectiveBits | None:
        """The smallest rounded state that keeps `KEPT`; None where none does, or nothing was recalled."""
        if not self.is_learned:
            return None
        return smallest_sufficient(self.curve, self.stored.recalled.bits, kept=KEPT)

    @property
    def is_outdated(self) -> bool:
        """Whether it was rounded by the first method."""
        return self.method != METHOD

    @property
    def is_at_most(self) -> bool:
        """Whether the fewest bits tried are enough, so that fewer might be."""
        fewest = min(entry.bits for entry in self.curve)
        return self.smallest is not None and self.smallest.bits == fewest > 1

    @property
    def utilisation(self) -> float | None:
        """Recalled bits over effective bits, both through the smallest state that is enough."""
        return None if self.smallest is None else self.smallest.recalled.bits / self.smallest.total

    @property
    def bits_stored(self) -> float:
        """Of one element, on average."""
        return self.stored.state_bits / self.stored.state_elements

    @property
    def states(self) -> Iterator[tuple[str, float, int, Estimate]]:
        """Name, bits per element, bits in all and recall of every state, the stored one first."""
        yield "stored", self.bits_stored, self.stored.state_bits, self.stored.recalled
        for entry in self.curve:
            yield "rounded", float(entry.bits), entry.total, entry.recalled

    def share_kept(self, recalled: Estimate) -> float | None:
        """Of the bits recalled through the state as stored."""
        return recalled.bits / self.stored.recalled.bits if self.is_learned else None

    @property
    def alarms(self) -> list[str]:
        """A sentence for every state through which more was recalled, beyond doubt, than it holds."""
        return [
            f"surely more than {found.surely:,.1f} bits recalled through {total:,} bits ({bits:g} per element)"
            for _, bits, total, found in self.states
            if found.surely > total
        ]

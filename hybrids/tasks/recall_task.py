"""Tasks that ask for what was stored: chance and recalled bits follow from the numbers of facts and symbols."""

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from hybrids.tasks.recalled_bits import recalled_bits
from hybrids.tasks.sized_task import SizedTask


class Stored(NamedTuple):
    """What an exact answerer has stored when the query arrives, and in how many answers it shows."""

    facts: int | None
    """As `Task.facts`."""
    num_symbols: int
    """V: each answer is one of so many."""
    bits: float | None
    """As `Task.bits`."""
    num_answers: int | None = None
    """K: answers that hold these bits; None for as many as facts."""
    chance: float | None = None
    """As `Task.chance_accuracy`; None for 1 / V."""
    share: float = 1.0
    """Of all that is asked, the part that holds these bits: all errors may be there."""

    @classmethod
    def uniform(cls, facts: int, num_symbols: int) -> "Stored":
        """Facts that are independent and uniform."""
        return cls(facts, num_symbols, facts * math.log2(num_symbols))


class RecallTask(SizedTask):
    """A task whose constructor sets `stored`; by Fano's inequality this bounds what a model with errors e has stored.

    recalled_bits: bits - K (h(e) + e log2(V - 1)), and 0 from e = 1 - 1/V on (`hybrids.tasks.recalled_bits`).
    """

    stored: Stored

    @property
    def chance_accuracy(self) -> float:
        return 1 / self.stored.num_symbols if self.stored.chance is None else self.stored.chance

    @property
    def facts(self) -> int | None:
        return self.stored.facts

    @property
    def bits(self) -> float | None:
        return self.stored.bits

    def recalled_bits(self, errors: Float[Tensor, "..."]) -> Float[Tensor, "..."] | None:
        facts, num_symbols, bits, num_answers, _, share = self.stored
        num_facts = facts if num_answers is None else num_answers
        if bits is None or num_facts is None:
            return None
        errors = (errors / share).clamp(max=1)
        return recalled_bits(errors, bits=bits, num_facts=num_facts, num_symbols=num_symbols)

"""What a search for a capacity is told."""

import math
from dataclasses import dataclass, field

from hybrids import registry
from hybrids.errors import UserError, check_number
from hybrids.task import VariesFacts
from hybrids.training.run import Run


@dataclass(kw_only=True)
class SearchSettings:
    """What the search itself is told; everything else is a setting of its runs.

    The best of `rates` on the first of `seeds` seeds is used for the others. Examples have 1 ... `max_facts` facts.
    No run starts after `budget` minutes; `confirm` then trains at single numbers of facts around K*.
    """

    rates: list[float] = field(default_factory=lambda: [1e-3, 3e-3, 1e-2])
    seeds: int = 4
    max_facts: int = 64
    steps: int | None = None
    min_utilisation: float = 1e-3
    budget: float | None = None
    confirm: bool = False

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("max_facts", 1), ("steps", 1), ("min_utilisation", 0), ("budget", 0)):
            check_number(name, getattr(self, name), least)
        if not self.rates or not all(0 < rate < math.inf for rate in self.rates):
            what = "all must be positive" if self.rates else "give at least one"
            raise UserError(f"rates={','.join(f'{rate:g}' for rate in self.rates)}: {what}")


def check_varies_facts(run: Run) -> VariesFacts:
    """The class of the task of a run; UserError where its number of facts cannot be varied."""
    cls = run.task.cls
    if isinstance(cls, VariesFacts):
        return cls
    able = [name for name in registry.names("task") if isinstance(registry.get("task", name).cls, VariesFacts)]
    raise UserError(f"task={registry.name_of(cls)} cannot vary its number of facts; allowed: {', '.join(able)}")

"""How effective bits are measured."""

from dataclasses import dataclass, field

from hybrids.errors import UserError, check_number
from hybrids.triangle.quantise import BITS

MOST_BITS = 24
"""Of one element: rounding is computed in float32, which tells no more levels apart."""


@dataclass(kw_only=True)
class RoundingSettings:
    """How to measure: `levels` are bits per element to try, `backend` is as in `evaluate_grid`."""

    levels: list[int] = field(default_factory=lambda: list(BITS))
    num_examples: int = 512
    batch_size: int = 64
    accelerator: str = "cpu"
    backend: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if not self.levels or not all(1 <= bits <= MOST_BITS for bits in self.levels):
            what = f"each is a number of bits per element, 1 to {MOST_BITS}; give at least one"
            raise UserError(f"levels={','.join(map(str, self.levels))}: {what}")
        for name, least in (("num_examples", 2), ("batch_size", 1)):
            check_number(name, getattr(self, name), least)

"""The flip-flop language: bits that are written, ignored, and read again."""

import torch
from jaxtyping import Int
from torch import Tensor

from hybrids.errors import UserError, check_number
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.prefixes import prefix_slice, prefix_values
from hybrids.tasks.recall_task import RecallTask, Stored
from hybrids.tasks.sizes import FAR, multiples

SPELLED = ("w", "r", "i", "0", "1")
WRITE, READ, IGNORE, ZERO = range(4)


@register("task", "flip_flop", source="arXiv:2306.00946 (flip-flop language modeling)")
class FlipFlop(RecallTask):
    """FFL(p): instructions, each followed by a bit. The bit after `r` is that of the last `w`, and is asked at `r`:

        w 1 i 0 i 1 r 1 w 0 i 1 r 0         answers 1 0, at each `r`

    The first instruction is `w`, the last `r`; every other one is `i` (ignore) with probability p = `ignore_percent` /
    100, else `w` or `r`, as likely each. Bits after `w` and `i` are uniform, and all draws are independent. The bit
    after `r` is shown. `length` is the number of tokens, even.

    Slices: `ignore_percent`, and of each answer `distance`, the instructions since the last `w`, rounded up to a power
    of two.

    Chance: 1/2.
    Bits: 1, the bit last written, which is uniform whatever the instructions are.

    Source: arXiv:2306.00946: trained with `ignore_percent=80` at 512 tokens, tested there, on sparse instructions
    (98) and on dense ones (10), which are the default grid. Differs: the default is short; the loss is on the bits
    after `r` alone, which are the ones that can be known.
    """

    constant_slices = ("ignore_percent",)

    def __init__(self, *, length: int = 64, ignore_percent: int = 80) -> None:
        check_number("length", length, 4, MAX_HIGH)
        check_number("ignore_percent", ignore_percent, 0, 100)
        if length % 2:
            raise UserError(f"length={length} must be even: instructions and bits")
        self.length, self.ignore_percent = length, ignore_percent
        self.vocab_size, self.num_targets = len(SPELLED), length // 2 - 1
        self.stored = Stored.uniform(facts=1, num_symbols=2)
        self.varying_slices = {"distance": prefix_values(1, self.num_targets)}
        lengths = tuple(size // 2 * 2 for size in multiples(length, FAR))
        self.grid = {"length": lengths, "ignore_percent": (10, 80, 98)}

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        draws, num = Draws.of(index, seed=seed, stream=split), self.length // 2
        drawn, ignored = draws.integers("instructions", num, 200), 2 * self.ignore_percent
        kinds = torch.where(drawn < ignored, IGNORE, (drawn >= 100 + self.ignore_percent).long())  # else 0 w, 1 r
        kinds[:, 0], kinds[:, -1] = WRITE, READ
        places = torch.arange(num, device=index.device).expand_as(kinds)
        written_at = torch.where(kinds == WRITE, places, 0).cummax(dim=1).values
        drawn_bits = draws.integers("bits", num, 2) + ZERO
        stored = drawn_bits.gather(1, written_at)
        is_read = kinds == READ
        tokens = torch.stack([kinds, torch.where(is_read, stored, drawn_bits)], dim=2).flatten(1)
        since = places[:, 1:] - written_at[:, 1:] + (~is_read[:, 1:]).long()  # at least 1, where nothing is asked too
        distance = prefix_slice(since)
        return self.make_batch(tokens, 2 * places[:1, 1:], stored[:, 1:], valid=is_read[:, 1:], distance=distance)

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """Walk over the instructions; what is shown after a read is not looked at."""
        answers, stored = {}, ZERO
        for place in range(0, len(row), 2):
            answers[place] = stored
            if row[place] == WRITE and place + 1 < len(row):
                stored = row[place + 1]
        return [answers[place] for place in places]

    def spell(self, token: int) -> str:
        return SPELLED[token]

    def at_context(self, context: int) -> Task:
        """As many instructions as fit."""
        return self.replace(length=context // 2 * 2)

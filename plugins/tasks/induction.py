"""Induction heads: a special token, again at the end, asks for what stood after it the first time."""

import torch
from jaxtyping import Int
from torch import Tensor

from hybrids.errors import check_number
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.recall_task import RecallTask, Stored
from hybrids.tasks.sizes import multiples

SPECIAL = 0


@register("task", "induction", source="arXiv:2312.00752, section 4.1.2 and appendix E.1")
class Induction(RecallTask):
    """Random symbols, among them once the special token, which comes again at the end:

        s4 s1 [KEY] s9 s9 s0 s4 [KEY]
                                ^       read here: s9

    All symbols are uniform over `num_symbols` and independent. The first `[KEY]` is at a uniform place of the first
    length - 2, so that a symbol follows it before the last token.

    Tokens: 0 `[KEY]`, then the symbols. Length: `length`, `[KEY]` at the end included.

    Chance: 1 / num_symbols.
    Bits: log2(num_symbols). The question is known beforehand, so the one symbol after `[KEY]` is all that has to be
    kept, from there on.

    Source: Gu and Dao: Mamba, trained at length 256 with a vocabulary of 16 and tested at lengths 64 to 2**20; the
    task is that of arXiv:2212.14052 (H3), which took the idea from arXiv:2209.11895. Differs: the default is shorter;
    that the vocabulary of 16 includes `[KEY]` is our reading.
    """

    constant_slices = ("length",)

    def __init__(self, *, length: int = 64, num_symbols: int = 15) -> None:
        check_number("length", length, 3, MAX_HIGH)
        check_number("num_symbols", num_symbols, 2, MAX_HIGH - 1)
        self.length, self.num_symbols = length, num_symbols
        self.vocab_size, self.num_targets, self.facts_end = num_symbols + 1, 1, length - 1
        self.stored = Stored.uniform(facts=1, num_symbols=num_symbols)
        self.grid = {"length": multiples(length, (1, 2, 4, 8, 16))}

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        draws = Draws.of(index, seed=seed, stream=split)
        tokens = draws.integers("symbols", self.length, self.num_symbols).add_(1)
        place = draws.integers("place", 1, self.length - 2)
        tokens.scatter_(1, place, SPECIAL)
        tokens[:, -1] = SPECIAL
        positions = torch.full_like(place, self.length - 1)
        return self.make_batch(tokens, positions, tokens.gather(1, place + 1))

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """What follows the first occurrence of the token at the place."""
        return [row[row.index(row[place]) + 1] for place in places]

    def spell(self, token: int) -> str:
        """`[KEY]`, and `s3` for symbol 3."""
        return "[KEY]" if token == SPECIAL else f"s{token - 1}"

    def at_context(self, context: int) -> Task:
        return self.replace(length=context)

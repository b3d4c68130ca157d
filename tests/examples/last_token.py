"""Give back the last token: the simplest task."""

import torch
from jaxtyping import Int
from torch import Tensor

from hybrids.errors import check_number
from hybrids.registry import register
from hybrids.rng import Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.recall_task import RecallTask, Stored
from hybrids.tasks.sizes import multiples


@register("task", "last_token", source="the example of docs/extend.md")
class LastToken(RecallTask):
    """Uniform tokens; the answer, read at the last position, is the last token itself.

    Chance: 1 / vocab_size. Bits: log2(vocab_size), the one token that has to be kept.
    """

    constant_slices = ("length",)

    def __init__(self, *, vocab_size: int = 64, length: int = 32) -> None:
        check_number("vocab_size", vocab_size, 2)
        check_number("length", length, 1)
        self.vocab_size, self.length, self.num_targets = vocab_size, length, 1
        self.stored = Stored.uniform(facts=1, num_symbols=vocab_size)
        self.grid = {"length": multiples(length, (1, 2, 4))}

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        tokens = Draws.of(index, seed=seed, stream=split).integers("tokens", self.length, self.vocab_size)
        return self.make_batch(tokens, torch.full_like(tokens[:, -1:], self.length - 1), tokens[:, -1:])

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        return [row[place] for place in places]

    def spell(self, token: int) -> str:
        return str(token)

    def at_context(self, context: int) -> Task:
        return self.replace(length=context)

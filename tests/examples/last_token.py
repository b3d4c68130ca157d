"""Give back the last token: the simplest task."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybrids.errors import UserError
from hybrids.registry import register
from hybrids.rng import Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.recalled_bits import recalled_bits


@register("task", "last_token", source="the example of the README")
class LastToken(Task):
    """Uniform tokens; the answer, read at the last position, is the last token itself.

    Chance: 1 / vocab_size. Bits: log2(vocab_size), the one token that has to be kept.
    """

    def __init__(self, *, vocab_size: int = 64, length: int = 32) -> None:
        if vocab_size < 2 or length < 1:
            raise UserError(f"vocab_size={vocab_size}, length={length}: at least 2 and 1")
        self.vocab_size, self.length, self.num_targets = vocab_size, length, 1

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        tokens = Draws.of(index, seed=seed, stream=split).integers("tokens", self.length, self.vocab_size)
        positions = torch.full_like(tokens[:, :1], self.length - 1)
        slices = {"length": positions[:, 0] + 1}
        return Batch(tokens, positions, tokens[:, -1:], torch.ones_like(positions, dtype=torch.bool), slices)

    def solve(self, tokens: Int[Tensor, "B T"], positions: Int[Tensor, "B P"]) -> Int[Tensor, "B P"]:
        return torch.tensor([[row[p] for p in at] for row, at in zip(tokens.tolist(), positions.tolist(), strict=True)])

    def spell(self, token: int) -> str:
        return str(token)

    @property
    def chance_accuracy(self) -> float:
        return 1 / self.vocab_size

    @property
    def slice_values(self) -> dict[str, tuple[int, ...]]:
        return {"length": (self.length,)}

    @property
    def facts(self) -> int:
        return 1

    @property
    def bits(self) -> float:
        return math.log2(self.vocab_size)

    def recalled_bits(self, errors: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return recalled_bits(errors, bits=self.bits, num_facts=1, num_symbols=self.vocab_size)

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        return {"length": (self.length, 2 * self.length, 4 * self.length)}

    def resize(self, **sizes: int) -> "LastToken":
        return self.replace(**sizes)

    def at_context(self, context: int) -> "LastToken":
        return self.replace(length=context)

"""Selective copying: symbols scattered among noise, to be given back in order."""

import torch
from jaxtyping import Int
from torch import Tensor

from hybrids.errors import check_number
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.recall_task import RecallTask, Stored
from hybrids.tasks.sizes import multiples

NOISE, COPY, NUM_SPECIAL = 0, 1, 2


@register("task", "selective_copying", source="arXiv:2312.00752, section 4.1.1 and appendix E.1")
class SelectiveCopying(RecallTask):
    """Symbols at random places among noise, then one request for each:

        . s3 . . s0 . . . s7 . [COPY] [COPY] [COPY]
                               ^      ^      ^        read here: s3, s0, s7

    `num_tokens` symbols are uniform over `num_symbols` and independent. They stand in order at `num_tokens` of the
    first num_noise + num_tokens places, every choice of places being as likely. Answers are read at the `[COPY]`
    tokens, and never shown.

    Tokens: 0 noise, 1 `[COPY]`, then the symbols. Length: num_noise + 2 num_tokens.

    Chance: 1 / num_symbols.
    Bits: num_tokens log2(num_symbols): the symbols in order. Their places need not be kept.

    Source: Gu and Dao: Mamba, with 4,096 places, 16 symbols to remember and a vocabulary of 16; and the public
    generator of state-spaces/s4, whose law this is (`torch_copying_data` with variable=True). Differs: the default
    is shorter, and `[COPY]` is token 1 instead of the last one.
    """

    constant_slices = ("num_noise",)

    def __init__(self, *, num_tokens: int = 16, num_noise: int = 48, num_symbols: int = 14) -> None:
        check_number("num_noise", num_noise, 0)
        check_number("num_tokens", num_tokens, 1, MAX_HIGH - num_noise, f"{num_noise=}")
        check_number("num_symbols", num_symbols, 2, MAX_HIGH - NUM_SPECIAL)
        self.num_tokens, self.num_noise, self.num_symbols = num_tokens, num_noise, num_symbols
        self.vocab_size = num_symbols + NUM_SPECIAL
        self.length = num_noise + 2 * num_tokens
        self.num_targets, self.facts_end = num_tokens, num_noise + num_tokens
        self.stored = Stored.uniform(num_tokens, num_symbols)
        self.grid = {"num_tokens": multiples(num_tokens, (1, 2, 4)), "num_noise": multiples(num_noise, (1, 2, 4))}

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        draws = Draws.of(index, seed=seed, stream=split)
        symbols = draws.integers("symbols", self.num_tokens, self.num_symbols).add_(NUM_SPECIAL)
        end = self.length - self.num_tokens
        places = draws.distinct("places", self.num_tokens, end).sort(dim=1).values
        tokens = symbols.new_full((len(index), self.length), NOISE).scatter_(1, places, symbols)
        tokens[:, end:] = COPY
        return self.make_batch(tokens, torch.arange(end, self.length, device=index.device), symbols)

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """The k-th symbol at the k-th `[COPY]`."""
        first = row.index(COPY)
        symbols = [token for token in row[:first] if token != NOISE]
        return [symbols[place - first] for place in places]

    def spell(self, token: int) -> str:
        """`.` for noise, `[COPY]`, and `s3` for symbol 3."""
        return (".", "[COPY]")[token] if token < NUM_SPECIAL else f"s{token - NUM_SPECIAL}"

    def at_context(self, context: int) -> Task:
        """Symbols in proportion, rounded down; noise takes the rest."""
        check_number("context", context, 2, why="a symbol and [COPY]")
        num_tokens = max(1, self.num_tokens * context // self.length)
        return self.replace(num_tokens=num_tokens, num_noise=context - 2 * num_tokens)

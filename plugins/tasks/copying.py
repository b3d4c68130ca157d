"""Copying: symbols, a delay, and then the same symbols again."""

import torch
from jaxtyping import Int
from torch import Tensor

from hybrids.errors import check_number
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.recall_task import RecallTask, Stored
from hybrids.tasks.sizes import multiples

BLANK, COPY, NUM_SPECIAL = 0, 1, 2


@register("task", "copying", source="arXiv:1511.06464, section 5.1")
class Copying(RecallTask):
    """Symbols, blanks, the request to copy, and as many blanks to answer at:

        s3 s0 s7 . . . . . [COPY] . . .
                                  ^ ^ ^   read here: s3, s0, s7

    `num_tokens` symbols are uniform over `num_symbols` and independent; `delay` blanks follow. The model sees none of
    its answers: position k after `[COPY]` is a blank, at which the k-th symbol is read. With `shows_answers=true` the
    symbols stand in place of these blanks (teacher forcing), and each is read one position earlier, from `[COPY]` on.

    Tokens: 0 the blank, 1 `[COPY]`, then the symbols. Length: 2 num_tokens + delay + 1.

    Chance: 1 / num_symbols.
    Bits: num_tokens log2(num_symbols). All that comes after the last symbol is known beforehand, so the answers are a
    function of the state there. Shown answers add nothing: given those before it, each answer still has its
    log2(num_symbols) bits, and by the chain rule they add up.

    Overlap: there are num_symbols**num_tokens sequences. At the default, 10 symbols of 8 as published, a test example
    is among 100,000 of training with probability 9e-5.

    Source: Arjovsky, Shah, Bengio: Unitary evolution recurrent neural networks, with 10 symbols of 8 and delays of
    hundreds. Differs: the default delay is short, and nothing is asked before `[COPY]`, where the original wants
    blanks. Shown answers are the form of arXiv:2402.01032 (Jelassi and others), which has no delay.
    """

    facts_slice = "num_tokens"
    constant_slices = ("num_tokens",)

    def __init__(
        self, *, num_tokens: int = 10, delay: int = 11, num_symbols: int = 8, shows_answers: bool = False
    ) -> None:
        check_number("num_tokens", num_tokens, 1)
        check_number("delay", delay, 0)
        check_number("num_symbols", num_symbols, 2, MAX_HIGH - NUM_SPECIAL)
        self.num_tokens, self.delay, self.num_symbols = num_tokens, delay, num_symbols
        self.shows_answers = shows_answers
        self.vocab_size = num_symbols + NUM_SPECIAL
        self.length = 2 * num_tokens + delay + 1
        self.num_targets, self.facts_end = num_tokens, num_tokens + delay
        self.stored = Stored.uniform(num_tokens, num_symbols)
        self.grid = {"num_tokens": multiples(num_tokens, (1, 2, 4)), "delay": multiples(delay, (1, 2, 4))}

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        draws = Draws.of(index, seed=seed, stream=split)
        symbols = draws.integers("symbols", self.num_tokens, self.num_symbols).add_(NUM_SPECIAL)
        tokens = symbols.new_full((len(index), self.length), BLANK)
        tokens[:, : self.num_tokens] = symbols
        asked = self.length - self.num_tokens
        tokens[:, asked - 1] = COPY
        if self.shows_answers:
            tokens[:, asked:] = symbols
        first = asked - 1 if self.shows_answers else asked
        positions = torch.arange(first, first + self.num_tokens, device=index.device)
        return self.make_batch(tokens, positions, symbols)

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """What stands as far from the start as the position from where the answers begin."""
        first = row.index(COPY) + (not self.shows_answers)
        return [row[place - first] for place in places]

    def spell(self, token: int) -> str:
        """`.` for a blank, `[COPY]`, and `s3` for symbol 3."""
        return (".", "[COPY]")[token] if token < NUM_SPECIAL else f"s{token - NUM_SPECIAL}"

    def at_context(self, context: int) -> Task:
        """Symbols in proportion, rounded down; the delay takes the rest."""
        check_number("context", context, 3, why="a symbol, [COPY], an answer")
        num_tokens = max(1, self.num_tokens * context // self.length)
        return self.replace(num_tokens=num_tokens, delay=context - 1 - 2 * num_tokens)

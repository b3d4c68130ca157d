"""Permutation composition: two permutations, and the second followed by the first as the answer."""

import math
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from hybrids.errors import check_number
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.recall_task import RecallTask, Stored
from hybrids.tasks.sizes import DOUBLING, multiples


@register("task", "permutation_composition", source="arXiv:2602.01763, definition A.2 (PerCom)")
class PermutationComposition(RecallTask):
    """PerCom: permutations sigma and tau of n = num_entries points, then sigma(tau(0)) ... sigma(tau(n-1)).

        sigma(0) ... sigma(n-1) tau(0) ... tau(n-1) _ ... _     for example, n = 3:  2 0 1 t1 t0 t2 _ _ _,
                                                                answers 0 2 1, one at each `_`

    Both permutations are uniform and independent. Value v of sigma is token v; value v of tau, a point at which sigma
    is asked, is token max_entries + v, spelled `t1`; the last token, `_`, is a blank.

    Settings: `num_entries` n; `max_entries`, the largest n of the vocabulary, of 2 * max_entries + 1 tokens;
    `answers`: `end` reads answer i at the i-th of n blanks that follow the permutations (length 3n); `online` reads it
    at tau(i), as soon as it can be known (length 2n, and one look-up instead of two). No slices: all answers of an
    example count alike.

    Chance: 1/n.
    Bits: log2(n!), exactly, in both forms. `end`: blanks carry nothing, so the state before them determines the
    composition, which is a uniform permutation; and the composition is such a state. `online`: tau may ask for
    anything, so the state before it determines sigma.

    Source: arXiv:2602.01763, definition A.2; the bits are the threshold of its theorem A.6.
    Differs: blanks in place of the answers so far, which would let a model exclude values that are taken; values of
    tau have tokens of their own, so that it is recognised at any size; points count from 0.
    """

    choices: ClassVar = {"answers": ("end", "online")}

    def __init__(self, *, num_entries: int = 16, max_entries: int = 128, answers: str = "end") -> None:
        check_number("max_entries", max_entries, 2, MAX_HIGH)
        check_number("num_entries", num_entries, 2, max_entries, f"{max_entries=}")
        self.num_entries, self.max_entries, self.answers = num_entries, max_entries, answers
        self.check_choices()
        self.vocab_size, self.num_targets = 2 * max_entries + 1, num_entries
        self.length = (3 if answers == "end" else 2) * num_entries
        self.facts_end = self.length - num_entries
        # Facts are the entries that come before the query: of both tables, or of sigma where tau is the query.
        bits = math.lgamma(num_entries + 1) / math.log(2)
        self.stored = Stored(self.facts_end, num_entries, bits, num_answers=num_entries)
        self.grid = {"num_entries": multiples(num_entries, DOUBLING, low=2, high=max_entries)}

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        n, draws = self.num_entries, Draws.of(index, seed=seed, stream=split)
        sigma, tau = draws.distinct("sigma", n, n), draws.distinct("tau", n, n)
        blanks = torch.full_like(tau, 2 * self.max_entries)[:, : self.length - 2 * n]
        tokens = torch.cat([sigma, tau + self.max_entries, blanks], dim=1)
        positions = torch.arange(self.length - n, self.length, device=index.device)
        return self.make_batch(tokens, positions, sigma.gather(1, tau))

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """Follow every point through both tables, read by their tokens."""
        values = range(self.max_entries)
        sigma = [token for token in row if token in values]
        return [sigma[token - self.max_entries] for token in row if token - self.max_entries in values]

    def spell(self, token: int) -> str:
        if token == 2 * self.max_entries:
            return "_"
        return str(token) if token < self.max_entries else f"t{token - self.max_entries}"

    def at_context(self, context: int) -> Task:
        """As many points as fit with their answers."""
        return self.replace(num_entries=context * self.num_entries // self.length)

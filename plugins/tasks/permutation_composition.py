"""Permutation composition: two permutations, and the second followed by the first as the answer."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybrids.errors import UserError
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.recalled_bits import recalled_bits


@register("task", "permutation_composition", source="arXiv:2602.01763, definition A.2 (PerCom)")
class PermutationComposition(Task):
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

    def __init__(self, *, num_entries: int = 16, max_entries: int = 128, answers: str = "end") -> None:
        if not 2 <= max_entries <= MAX_HIGH:
            raise UserError(f"max_entries={max_entries} must be from 2 to {MAX_HIGH}")
        if not 2 <= num_entries <= max_entries:
            raise UserError(f"num_entries={num_entries} must be from 2 to {max_entries} (max_entries={max_entries})")
        if answers not in ("end", "online"):
            raise UserError(f"answers={answers} must be end or online")
        self.num_entries, self.max_entries, self.answers = num_entries, max_entries, answers
        self.vocab_size, self.num_targets = 2 * max_entries + 1, num_entries
        self.length = (3 if answers == "end" else 2) * num_entries
        self.facts_end = self.length - num_entries

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        n, draws = self.num_entries, Draws.of(index, seed=seed, stream=split)
        sigma, tau = draws.distinct("sigma", n, n), draws.distinct("tau", n, n)
        blanks = torch.full_like(tau, 2 * self.max_entries)[:, : self.length - 2 * n]
        tokens = torch.cat([sigma, tau + self.max_entries, blanks], dim=1)
        positions = torch.arange(self.length - n, self.length, device=index.device).repeat(len(index), 1)
        return Batch(tokens, positions, sigma.gather(1, tau), torch.ones_like(tau, dtype=torch.bool), {})

    def solve(self, tokens: Int[Tensor, "B T"], positions: Int[Tensor, "B P"]) -> Int[Tensor, "B P"]:
        """Follow every point through both tables, read by their tokens."""
        answers, values = [], range(self.max_entries)
        for row in tokens.tolist():
            sigma = dict(enumerate(token for token in row if token in values))
            tau = [token - self.max_entries for token in row if token - self.max_entries in values]
            answers.append([sigma[point] for point in tau])
        return torch.tensor(answers).view_as(positions)

    def spell(self, token: int) -> str:
        if token == 2 * self.max_entries:
            return "_"
        return str(token) if token < self.max_entries else f"t{token - self.max_entries}"

    @property
    def chance_accuracy(self) -> float:
        return 1 / self.num_entries

    @property
    def slice_values(self) -> dict[str, tuple[int, ...]]:
        return {}

    @property
    def facts(self) -> int:
        """Entries of the tables that come before the query: of both, or of sigma where tau is the query."""
        return self.num_entries * (2 if self.answers == "end" else 1)

    @property
    def bits(self) -> float:
        return math.lgamma(self.num_entries + 1) / math.log(2)

    def recalled_bits(self, errors: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """log2(n!) - n (h(e) + e log2(n - 1)), Fano's inequality over the answers; 0 from e = 1 - 1/n on."""
        return recalled_bits(errors, bits=self.bits, num_facts=self.num_entries, num_symbols=self.num_entries)

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """From half to eight times the points, by doubling, as far as the vocabulary goes."""
        sizes = (self.num_entries * 2**k // 2 for k in range(5))
        return {"num_entries": tuple(n for n in sizes if 2 <= n <= self.max_entries)}

    def resize(self, **sizes: int) -> Task:
        return self.replace(**sizes)

    def at_context(self, context: int) -> Task:
        """As many points as fit with their answers."""
        return self.replace(num_entries=context * self.num_entries // self.length)

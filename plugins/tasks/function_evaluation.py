"""Function evaluation: the values of a function in order, then an argument."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybrids.errors import UserError
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.recalled_bits import recalled_bits


@register("task", "function_evaluation", source="arXiv:2602.01763, definition A.1 (Eva)")
class FunctionEvaluation(Task):
    """Eva: the table of a function f on n = num_entries points, one token per entry, then a point x; answer f(x).

        f(0) f(1) ... f(n-1) x          for example, n = 4:    2 0 0 3 x3, answer 3

    Values are uniform over 0 ... n-1 and independent, x is uniform and independent of them. Value v is token v, and
    point x is token max_entries + x, spelled `x3`. The answer is read at the last position. Length: n + 1.

    Settings: `num_entries` n; `max_entries`, the largest n of the vocabulary, of 2 * max_entries tokens;
    `query_order`: `suffix` (x last) or `prefix` (x first). Slices: `quarter`, the part of the table (1 to 4) asked.

    Chance: 1/n.
    Bits: n log2 n, exactly: when x arrives, a state that answers every x determines the table, and the table is such
    a state. None with `prefix`: who knows x keeps one entry.

    Source: arXiv:2602.01763, definition A.1; the bits are the threshold of its theorem A.3.
    Differs: points have tokens of their own, so that the query is recognised at any size; they count from 0.
    """

    def __init__(self, *, num_entries: int = 32, max_entries: int = 256, query_order: str = "suffix") -> None:
        if not 2 <= max_entries <= MAX_HIGH:
            raise UserError(f"max_entries={max_entries} must be from 2 to {MAX_HIGH}")
        if not 2 <= num_entries <= max_entries:
            raise UserError(f"num_entries={num_entries} must be from 2 to {max_entries} (max_entries={max_entries})")
        if query_order not in ("suffix", "prefix"):
            raise UserError(f"query_order={query_order} must be suffix or prefix")
        self.num_entries, self.max_entries, self.query_order = num_entries, max_entries, query_order
        self.vocab_size, self.length, self.num_targets = 2 * max_entries, num_entries + 1, 1
        self.facts_end = num_entries if query_order == "suffix" else None

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        n, draws = self.num_entries, Draws.of(index, seed=seed, stream=split)
        table, point = draws.integers("table", n, n), draws.integers("point", 1, n)
        parts = [table, point + self.max_entries]
        tokens = torch.cat(parts if self.query_order == "suffix" else parts[::-1], dim=1)
        positions = torch.full_like(point, self.length - 1)
        slices = {"quarter": 4 * point[:, 0] // n + 1}
        return Batch(tokens, positions, table.gather(1, point), torch.ones_like(point, dtype=torch.bool), slices)

    def solve(self, tokens: Int[Tensor, "B T"], positions: Int[Tensor, "B P"]) -> Int[Tensor, "B P"]:
        """Look the one token that is a point up among all others."""
        answers = []
        for row in tokens.tolist():
            values = [token for token in row if token < self.max_entries]
            point = next(token for token in row if token >= self.max_entries) - self.max_entries
            answers.append(values[point])
        return torch.tensor(answers).view_as(positions)

    def spell(self, token: int) -> str:
        return str(token) if token < self.max_entries else f"x{token - self.max_entries}"

    @property
    def chance_accuracy(self) -> float:
        return 1 / self.num_entries

    @property
    def slice_values(self) -> dict[str, tuple[int, ...]]:
        return {"quarter": tuple(sorted({4 * point // self.num_entries + 1 for point in range(self.num_entries)}))}

    @property
    def facts(self) -> int:
        """Entries of the table."""
        return self.num_entries

    @property
    def bits(self) -> float | None:
        return self.num_entries * math.log2(self.num_entries) if self.query_order == "suffix" else None

    def recalled_bits(self, errors: Float[Tensor, "..."]) -> Float[Tensor, "..."] | None:
        """n (log2 n - h(e) - e log2(n - 1)), Fano's inequality over the entries; 0 from e = 1 - 1/n on."""
        if self.bits is None:
            return None
        return recalled_bits(errors, bits=self.bits, num_facts=self.num_entries, num_symbols=self.num_entries)

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """From half to eight times the entries, by doubling, as far as the vocabulary goes."""
        sizes = (self.num_entries * 2**k // 2 for k in range(5))
        return {"num_entries": tuple(n for n in sizes if 2 <= n <= self.max_entries)}

    def resize(self, **sizes: int) -> Task:
        return self.replace(**sizes)

    def at_context(self, context: int) -> Task:
        """As many entries as fit with the query."""
        return self.replace(num_entries=context - 1)

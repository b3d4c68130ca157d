"""Function evaluation: the values of a function in order, then an argument."""

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


@register("task", "function_evaluation", source="arXiv:2602.01763, definition A.1 (Eva)")
class FunctionEvaluation(RecallTask):
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

    choices: ClassVar = {"query_order": ("suffix", "prefix")}

    def __init__(self, *, num_entries: int = 32, max_entries: int = 256, query_order: str = "suffix") -> None:
        check_number("max_entries", max_entries, 2, MAX_HIGH)
        check_number("num_entries", num_entries, 2, max_entries, f"{max_entries=}")
        self.num_entries, self.max_entries, self.query_order = num_entries, max_entries, query_order
        self.check_choices()
        self.vocab_size, self.length, self.num_targets = 2 * max_entries, num_entries + 1, 1
        self.facts_end = num_entries if query_order == "suffix" else None
        bits = num_entries * math.log2(num_entries) if query_order == "suffix" else None
        self.stored = Stored(num_entries, num_entries, bits)
        self.varying_slices = {"quarter": tuple(sorted({4 * x // num_entries + 1 for x in range(num_entries)}))}
        self.grid = {"num_entries": multiples(num_entries, DOUBLING, low=2, high=max_entries)}

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        n, draws = self.num_entries, Draws.of(index, seed=seed, stream=split)
        table, point = draws.integers("table", n, n), draws.integers("point", 1, n)
        parts = [table, point + self.max_entries]
        tokens = torch.cat(parts if self.query_order == "suffix" else parts[::-1], dim=1)
        positions = torch.full_like(point, self.length - 1)
        return self.make_batch(tokens, positions, table.gather(1, point), quarter=4 * point[:, 0] // n + 1)

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """Look the one token that is a point up among all others."""
        values = [token for token in row if token < self.max_entries]
        (point,) = (token - self.max_entries for token in row if token >= self.max_entries)
        return [values[point]]

    def spell(self, token: int) -> str:
        return str(token) if token < self.max_entries else f"x{token - self.max_entries}"

    def at_context(self, context: int) -> Task:
        """As many entries as fit with the query."""
        return self.replace(num_entries=context - 1)

"""Function composition: tables that are applied one after another, from a start value given after all of them."""

import itertools
import math
import operator
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybrids.errors import UserError, check_number
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.occupancy import occupancy
from hybrids.tasks.recalled_bits import recalled_bits
from hybrids.tasks.sized_task import SizedTask
from hybrids.tasks.sizes import DOUBLING, multiples


@register("task", "function_composition", source="arXiv:2602.01763, definition 2.5 (L-FuncComp)")
class FunctionComposition(SizedTask):
    """L-FuncComp, in the paper's order: the outermost table first, the start value z_0 and the tuple w last.

        z_L ... z_2 z_1 z_0 w            i_1 = z_1(z_0), i_{l+1} = z_{l+1}(w_l, i_l); the answer is i_L

    With m = start_size, n_l = fan_outs[l-1], L = len(fan_outs) + 1, N_0 = m and N_l = m n_1 ... n_l: z_l has N_{l-1}
    entries, values in 0 ... N_{l-1} - 1, one token per entry; entry w_l N_{l-1} + i_l of z_{l+1} is z_{l+1}(w_l, i_l).
    All entries, z_0 and w are uniform and independent. For example L = 2, m = 2, n_1 = 2, with spaces for clarity:

        3 0 2 1  1 0  0  w1              i_1 = z_1(0) = 1, and the answer is z_2(1, 1) = 1: entry 1 * 2 + 1

    Nothing separates the parts. Value v is token v; then come the tokens of w: with `query=one_token` one for each
    tuple (`w1,0`), with `query=spelled` one for each w_l (`w1`), and L - 1 of them in a prompt. The answer is read at
    the last position. Length: 2 + N_0 + ... + N_{L-1} (lemma B.1), or L + N_0 + ... + N_{L-1} spelled.

    Settings: `start_size` m, `fan_outs`, `query`; `order`: `paper`, or `reversed`, the control that gives z_0 and w
    first and then z_1 ... z_L, so that a reader composes as it goes; `max_start_size`, the largest m of the
    vocabulary; `max_length`, above which sizes are refused. Slices: `quarter`, the part of z_L (1 to 4) asked.

    Chance: 1/N_{L-1}.
    Bits: E n_{L-1} log2 N_{L-1}, where E is the mean number of values that i_{L-1} can take once the inner tables are
    known. When z_0 and w arrive, they may ask for any of the E n_{L-1} entries of z_L that the inner tables reach; so
    given these tables, which are independent of z_L, the answers hold exactly that much, and a state that has all
    answers at least that much. (Which values coincide is a little more, not counted here.) While z_L has just been
    read, every entry may still be asked: then an exact answerer holds all of `outer_table_bits`. None with
    `order=reversed`: who knows z_0 and w keeps one value.

    Source: arXiv:2602.01763, definition 2.5 and appendix B.1. Differs: sizes need not be the hard ones of B.1, which no
    machine can run; tokens of w differ from those of values; all count from 0.
    """

    choices: ClassVar = {"order": ("paper", "reversed"), "query": ("one_token", "spelled")}

    def __init__(
        self,
        *,
        start_size: int = 4,
        fan_outs: list[int] = [2],  # noqa: B006 (copied below)
        order: str = "paper",
        query: str = "one_token",
        max_start_size: int = 32,
        max_length: int = 2048,
    ) -> None:
        self.start_size, self.fan_outs, self.order, self.query = start_size, list(fan_outs), order, query
        self.max_start_size, self.max_length = max_start_size, max_length
        self.check_choices()
        if not fan_outs or min(fan_outs) < 1:
            raise UserError(f"fan_outs={self.fan_outs} must be one number or more, all at least 1")
        growth = list(itertools.accumulate(fan_outs, operator.mul, initial=1))
        self._num_choices, num_tuples = (len(fan_outs), max(fan_outs)) if query == "spelled" else (1, growth[-1])
        self.num_values = max_start_size * growth[-1]
        self.vocab_size, self.num_targets = self.num_values + num_tuples, 1
        self.length = 1 + self._num_choices + start_size * sum(growth)
        self.table_sizes = [start_size * factor for factor in growth]
        self.facts_end = sum(self.table_sizes) if order == "paper" else None
        self._check_sizes(growth)
        size = self.table_sizes[-1]
        self.varying_slices = {"quarter": tuple(sorted({4 * entry // size + 1 for entry in range(size)}))}
        self.grid = {"start_size": multiples(start_size, DOUBLING, low=2, high=max_start_size)}

    def _check_sizes(self, growth: list[int]) -> None:
        given, largest, num_query = self.start_size, self.max_start_size, 1 + self._num_choices
        check_number("start_size", given, 2, largest, f"max_start_size={largest}")
        if self.length > self.max_length:
            fits, shortest = (self.max_length - num_query) // sum(growth), num_query + 2 * sum(growth)
            hint = f"start_size={fits} is the largest that fits" if fits >= 2 else f"start_size=2 makes {shortest}"
            raise UserError(
                f"start_size={given} with fan_outs={self.fan_outs} makes {self.length} tokens, "
                f"over max_length={self.max_length}: {hint}"
            )
        if self.vocab_size > MAX_HIGH:
            most = (MAX_HIGH - self.vocab_size + self.num_values) // growth[-1]
            raise UserError(f"max_start_size={largest} must be at most {most} (fan_outs={self.fan_outs})")

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        draws, sizes = Draws.of(index, seed=seed, stream=split), self.table_sizes
        tables = [draws.integers(f"z{level}", size, size) for level, size in enumerate(sizes, 1)]
        start = draws.integers("z0", 1, self.start_size)
        choices = [draws.integers(f"w{level}", 1, fan_out) for level, fan_out in enumerate(self.fan_outs, 1)]
        asked, reached = start, tables[0].gather(1, start)
        for size, choice, table in zip(sizes[:-1], choices, tables[1:], strict=True):
            asked = choice * size + reached
            reached = table.gather(1, asked)
        query = [start, *self._write_choices(choices)]
        parts = [*query, *tables] if self.order == "reversed" else [*tables[::-1], *query]
        positions = torch.full_like(start, self.length - 1)
        return self.make_batch(torch.cat(parts, dim=1), positions, reached, quarter=4 * asked[:, 0] // sizes[-1] + 1)

    def _write_choices(self, choices: list[Int[Tensor, "B 1"]]) -> list[Int[Tensor, "B 1"]]:
        """Tokens of w: one for each number, or one for all, numbered in the order of the tuples."""
        if self.query == "spelled":
            return [choice + self.num_values for choice in choices]
        rank = choices[0]
        for fan_out, choice in zip(self.fan_outs[1:], choices[1:], strict=True):
            rank = rank * fan_out + choice
        return [rank + self.num_values]

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """Read the prompt with dictionaries of pairs (w_l, i_l)."""
        first = next(place for place, token in enumerate(row) if token >= self.num_values) - 1  # z_0, before w
        query, end = row[first : first + 1 + self._num_choices], first + 1 + self._num_choices
        tables = iter(row[end:] if self.order == "reversed" else row[:first])
        lengths = self.table_sizes if self.order == "reversed" else self.table_sizes[::-1]
        read = [list(itertools.islice(tables, length)) for length in lengths]
        inner, *outer = read if self.order == "reversed" else read[::-1]
        value = inner[query[0]]
        for fan_out, choice, table in zip(self.fan_outs, self._read_choices(query[1:]), outer, strict=True):
            pairs = itertools.product(range(fan_out), range(len(table) // fan_out))
            value = dict(zip(pairs, table, strict=True))[choice, value]
        return [value]

    def _read_choices(self, tokens: list[int]) -> tuple[int, ...]:
        """w of its tokens."""
        if self.query == "spelled":
            return tuple(token - self.num_values for token in tokens)
        tuples = itertools.product(*(range(fan_out) for fan_out in self.fan_outs))
        return next(itertools.islice(tuples, tokens[0] - self.num_values, None))

    def spell(self, token: int) -> str:
        """`3` for a value, `w1,0` for a tuple, `w1` for a number of a spelled one."""
        if token < self.num_values:
            return str(token)
        if self.query == "spelled":
            return f"w{token - self.num_values}"
        return "w" + ",".join(map(str, self._read_choices([token])))

    @property
    def chance_accuracy(self) -> float:
        return 1 / self.table_sizes[-1]

    @property
    def facts(self) -> int:
        """Entries of all tables."""
        return sum(self.table_sizes)

    @property
    def outer_table_bits(self) -> float:
        """Bits of z_L: what an exact answerer holds while z_L is all that it has read (order=paper)."""
        return self.table_sizes[-1] * math.log2(self.table_sizes[-1])

    @property
    def mean_entries_reached(self) -> float:
        """Entries of z_L that some z_0 and w ask for, on average over the inner tables."""
        asked = torch.zeros(self.start_size + 1, dtype=torch.float64)
        asked[-1] = 1  # how many entries of z_1: all
        for size, fan_out in zip(self.table_sizes[:-1], self.fan_outs, strict=True):
            reached = sum(weight * row for weight, row in zip(asked, occupancy(size, size), strict=True))
            asked = torch.zeros(size * fan_out + 1, dtype=torch.float64)
            asked[::fan_out] = reached
        return float(asked @ torch.arange(len(asked), dtype=torch.float64))

    @property
    def bits(self) -> float | None:
        return self.mean_entries_reached * math.log2(self.table_sizes[-1]) if self.order == "paper" else None

    def recalled_bits(self, errors: Float[Tensor, "..."]) -> Float[Tensor, "..."] | None:
        """K (log2 N - h(x) - x log2(N - 1)) with K entries reached, N = N_{L-1} and x = e N / K; 0 from x = 1 - 1/N on.

        Of the N queries at least one asks for each entry that is reached, so the mean error over these entries is at
        most e N / K. Fano's inequality bounds each by a concave function of its error, and so their sum by K times the
        function at that mean; and this is concave in K and e together, so that means over inner tables may stand in it.
        """
        if self.order == "reversed":
            return None
        size, reached = self.table_sizes[-1], self.mean_entries_reached
        scaled = (errors * (size / reached)).clamp(max=1)
        return reached * recalled_bits(scaled, bits=math.log2(size), num_facts=1, num_symbols=size)

    def at_context(self, context: int) -> Task:
        """The largest `start_size` that fits, with the same fan-outs."""
        entries_per_start = sum(self.table_sizes) // self.start_size
        return self.replace(start_size=(context - 1 - self._num_choices) // entries_per_start)

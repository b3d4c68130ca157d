"""Multi-query associative recall with keys of two tokens, neither of which alone decides the value."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybrids.errors import UserError, check_number
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.query_slots import bits_of_values, draw_fillers, draw_values, slot_weights
from hybrids.tasks.recall_task import RecallTask, Stored
from hybrids.tasks.sizes import powers_of_two


@register("task", "mqar_two_token_keys", source="HazyResearch/zoology, compositional MQAR; arXiv:2312.04927")
class CompositionalAssociativeRecall(RecallTask):
    """Associative recall with keys of two tokens; the answer is read at the second token of a query.

        a1 b2 v7 a3 b2 v1 a1 b5 v4   . . . a1 b5 . . . . a1 b2 . a3 b2 .       a1 b5 is asked: v4

    With g = ceil(sqrt(n)) for n pairs, an example draws g first halves and g second halves without replacement, and
    its keys are n different cells of that g x g grid, in an order that is uniform over all choices and orders. A
    square n takes the whole grid: each half stands in g keys, so neither half alone tells which key is meant.
    Otherwise a half may stand in one key only. Token 0 is filler; with W = V//3, first halves are tokens 1 ... W - 1,
    second halves W ... 2W - 1, values 2W ... V - 1, drawn without replacement. What follows the context is cut into
    three-token slots (one or two tokens may be left at the end). The n queries take n of them, drawn one after
    another with weight proportional to i**(power - 1) for slot i from 1: near 0 they crowd behind the context, at 1
    they are uniform. A query is the first two tokens of its slot; its value is the answer and is never shown. Every
    other token is uniform over the vocabulary, or 0 with `random_fillers=False`.

    Settings: `length` (T), `num_pairs` (n = P), `vocab_size` (V), `power`, `random_fillers`; `distinct_values=False`
    draws values independently. The order of P is that of the pairs in the context.

    Chance: 1/M for M = V - 2W values. As in `mqar`, pairs that are shown early are asked early: the first one
    first in 32 % of the default examples, where a random order has 1 in 9.
    Bits: the keys are given and fillers do not matter, so an exact answerer has stored the values of all keys:
    log2(M!/(M-n)!), or n*log2(M) with `distinct_values=False`.

    Source: zoology's compositional MQAR. Differs: there n is a square and `length` even.
    """

    facts_slice = "num_pairs"
    constant_slices = ("num_pairs", "length")

    def __init__(
        self,
        *,
        vocab_size: int = 8192,
        length: int = 64,
        num_pairs: int = 9,
        power: float = 0.01,
        random_fillers: bool = True,
        distinct_values: bool = True,
    ) -> None:
        self.vocab_size, self.length, self.num_pairs, self.power = vocab_size, length, num_pairs, power
        self.random_fillers, self.distinct_values = random_fillers, distinct_values
        self._check_sizes()
        self.num_targets = num_pairs
        self.num_values = vocab_size - 2 * (vocab_size // 3)
        self._num_halves = _grid_side(num_pairs)
        bits = bits_of_values(num_pairs, self.num_values, distinct=distinct_values)
        self.stored = Stored(num_pairs, self.num_values, bits)
        sides = range(_grid_side((num_pairs + 1) // 2), math.isqrt(8 * num_pairs) + 1)
        self.grid = {
            "length": powers_of_two(length // 2, 8 * length),
            "num_pairs": tuple(side**2 for side in sides),
        }
        self._slot_weights(torch.device("cpu"))  # refuses a power

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        draws, n, third = Draws.of(index, seed=seed, stream=split), self.num_pairs, self.vocab_size // 3
        first, second = self._draw_keys(draws)
        values = draw_values(draws, n, self.num_values, distinct=self.distinct_values) + 2 * third
        queries = 3 * draws.weighted_distinct("slots", n, self._slot_weights(index.device)) + 3 * n
        tokens = draw_fillers(draws, self.length, self.vocab_size, is_random=self.random_fillers)
        tokens[:, : 3 * n] = torch.stack([first, second, values], dim=2).flatten(1)
        tokens.scatter_(1, queries, first).scatter_(1, queries + 1, second)
        return self.make_batch(tokens, queries + 1, values)

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """A dictionary of the context, asked for the two tokens that end at each place."""
        bound = {(row[3 * i], row[3 * i + 1]): row[3 * i + 2] for i in range(self.num_pairs)}
        return [bound.get((row[place - 1], row[place]), 0) for place in places]

    def spell(self, token: int) -> str:
        """`a1`, `b2`, `v7`, and `.` for token 0."""
        third = self.vocab_size // 3
        part, number = (2, token - 2 * third) if token >= 2 * third else divmod(token, third)
        return "." if token == 0 else f"{'abv'[part]}{number}"

    def at_context(self, context: int) -> Task:
        """Pairs in proportion (rounded down, at least 1)."""
        return self.replace(length=context, num_pairs=max(1, self.num_pairs * context // self.length))

    def _draw_keys(self, draws: Draws) -> tuple[Int[Tensor, "B P"], Int[Tensor, "B P"]]:
        side, third = self._num_halves, self.vocab_size // 3
        first = draws.distinct("first halves", side, third - 1) + 1
        second = draws.distinct("second halves", side, third) + third
        cells = draws.distinct("cells", self.num_pairs, side * side)
        return first.gather(1, cells // side), second.gather(1, cells % side)

    def _slot_weights(self, device: torch.device) -> Float[Tensor, " S"]:
        return slot_weights(self.length // 3 - self.num_pairs, self.power, device)

    def _check_sizes(self) -> None:
        """UserError unless the pairs and queries fit into `length`, and keys and values into the vocabulary."""
        n, length = self.num_pairs, self.length
        check_number("num_pairs", n, 1)
        check_number("length", length, 6)
        if 6 * n > length:
            most = f"at most {length // 6} do, or use length={6 * n} or more"
            raise UserError(f"num_pairs={n} do not fit into length={length}: {most}")
        least = max(3 * (_grid_side(n) + 1), 3 * n - 2 if self.distinct_values else 0)
        check_number("vocab_size", self.vocab_size, least, MAX_HIGH, f"num_pairs={n}")


def _grid_side(num_pairs: int) -> int:
    """Side of the smallest square grid with so many cells."""
    return math.isqrt(num_pairs - 1) + 1

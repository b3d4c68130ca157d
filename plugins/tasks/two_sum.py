"""2-Sum: which numbers cancel an earlier one."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hybrids.errors import check_number
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.occupancy import occupancy
from hybrids.tasks.recalled_bits import recalled_bits
from hybrids.tasks.sized_task import SizedTask
from hybrids.tasks.sizes import multiples


@register("task", "two_sum", source="arXiv:2602.01763, definition 2.6 (2-Sum)")
class TwoSum(SizedTask):
    """2-Sum: uniform and independent numbers x_1 ... x_T modulo M; at each from the second on, whether it cancels one
    before it: y_i is [YES] iff x_i + x_j = 0 modulo M for some j < i.

        for example M = 5, T = 6:   4 2 3 0 3 1        y_2 ... y_6 = [NO] [YES] [NO] [YES] [YES]

    Number v is token v; answers are [NO] = max_modulus and [YES] = max_modulus + 1, never shown. y_i is read at x_i.

    Settings: `length` T (n + 1 in the paper), `modulus` M, `max_modulus`, the largest M of the vocabulary, of
    max_modulus + 2 tokens. After k numbers, [YES] has probability 1 - (1 - 1/M)^k: 37 % of the answers where M is
    about T, next to none where M is about T^2. `balanced` therefore asks once per example, at a uniformly drawn i from
    2 on, with [YES] and [NO] equally likely: x_1 ... x_T are uniform, then for [YES] a uniformly drawn j < i gets
    x_j = -x_i, and for [NO] all x_j with j < i are uniform over the other M - 1 numbers instead.
    Slices: none, or with `balanced` the `answer` (0 or 1), whose mean accuracy is the balanced accuracy.

    Chance: the majority at each place, the mean of max(q, 1 - q) over q = (1 - 1/M)^k, k = 1 ... T - 1: 67 % at M = T,
    where [NO] everywhere has 63 %. 1/2 with `balanced`.
    Bits: each x_i asks for one of M numbers whether it is among those before it, and may ask for any; so the state
    before x_i determines the set of these, and the set is such a state. Its entropy is H(R) + E log2 (M choose R) for
    R different numbers; `bits` is the mean over the T - 1 queries, since the error is known as a mean over them.
    None with `balanced`, whose query is not independent of the numbers before it. No `facts_end`: every number is
    both a fact and a query.

    Source: arXiv:2602.01763, definition 2.6; its theorem A.9 takes M = n^2. Differs: `balanced`.
    """

    def __init__(self, *, length: int = 32, modulus: int = 32, max_modulus: int = 256, balanced: bool = False) -> None:
        check_number("length", length, 2)
        check_number("max_modulus", max_modulus, 2, MAX_HIGH)
        check_number("modulus", modulus, 2, max_modulus, f"{max_modulus=}")
        self.length, self.modulus, self.max_modulus, self.balanced = length, modulus, max_modulus, balanced
        self.vocab_size, self.num_targets = max_modulus + 2, 1 if balanced else length - 1
        self.varying_slices = {"answer": (0, 1)} if balanced else {}
        lengths = multiples(length, (0.5, 1, 2, 4), low=2)
        self.grid = {"length": lengths, "modulus": multiples(modulus, (0.5, 1, 2, 4), low=2, high=max_modulus)}

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        draws = Draws.of(index, seed=seed, stream=split)
        numbers = draws.integers("numbers", self.length, self.modulus)
        if self.balanced:
            return self._ask_once(draws, numbers)
        positions = torch.arange(1, self.length, device=index.device)
        targets = has_partner(numbers, self.modulus)[:, 1:].to(torch.int64) + self.max_modulus
        return self.make_batch(numbers, positions, targets)

    def _ask_once(self, draws: Draws, numbers: Int[Tensor, "B T"]) -> Batch:
        position = draws.integers("position", 1, self.length - 1) + 1
        answer = draws.integers("answer", 1, 2)
        partner = -numbers.gather(1, position) % self.modulus
        chosen = (draws.bits("chosen", 1) * position) >> 32
        others = draws.integers("others", self.length, self.modulus - 1)
        others += others >= partner
        replaced = torch.arange(self.length, device=numbers.device) < position * (1 - answer)
        planted = numbers.scatter(1, chosen, torch.where(answer == 1, partner, numbers.gather(1, chosen)))
        tokens = torch.where(replaced, others, planted)
        return self.make_batch(tokens, position, answer + self.max_modulus, answer=answer[:, 0])

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """Add every pair."""
        return [self.max_modulus + any((row[i] + x) % self.modulus == 0 for x in row[:i]) for i in places]

    def spell(self, token: int) -> str:
        return str(token) if token < self.max_modulus else ("[NO]", "[YES]")[token - self.max_modulus]

    @property
    def chance_accuracy(self) -> float:
        if self.balanced:
            return 0.5
        no = [(1 - 1 / self.modulus) ** k for k in range(1, self.length)]
        return math.fsum(max(q, 1 - q) for q in no) / len(no)

    @property
    def facts(self) -> int:
        """Numbers before the last query."""
        return self.length - 1

    @property
    def bits(self) -> float | None:
        if self.balanced:
            return None
        _, *rows = (set_entropy(row, self.modulus) for row in occupancy(self.length - 1, self.modulus))
        return math.fsum(rows) / len(rows)

    def recalled_bits(self, errors: Float[Tensor, "..."]) -> Float[Tensor, "..."] | None:
        """bits - M h(e), Fano's inequality over the M numbers that a query may ask for; 0 from e = 1/2 on."""
        if self.bits is None:
            return None
        return recalled_bits(errors, bits=self.bits, num_facts=self.modulus, num_symbols=2)

    def at_context(self, context: int) -> Task:
        """The modulus grows in proportion (rounded down), which keeps the share of [YES]."""
        return self.replace(length=context, modulus=self.modulus * context // self.length)


def has_partner(numbers: Int[Tensor, "B T"], modulus: int) -> Bool[Tensor, "B T"]:
    """Whether an earlier number of the row cancels this one: in sorted (number, place), by the range of its partner."""
    size = numbers.shape[1]
    place = torch.arange(size, device=numbers.device)
    ordered = (numbers * size + place).sort(dim=1).values
    partner = (-numbers % modulus) * size
    return torch.searchsorted(ordered, partner + place) > torch.searchsorted(ordered, partner)


def set_entropy(num_different: Float[Tensor, " R"], num_values: int) -> float:
    """Bits of a set of numbers whose size has these probabilities, all sets of a size being equally likely."""
    size = torch.arange(len(num_different), dtype=torch.float64)
    total = torch.tensor(num_values + 1.0, dtype=torch.float64)
    log_sets = total.lgamma() - (size + 1).lgamma() - (total - size).lgamma()
    return float((torch.special.entr(num_different) + num_different * log_sets).sum()) / math.log(2)

"""State-based recall: a table, a program whose variables hold keys of it, and the value at the key that one holds."""

import torch
from jaxtyping import Int
from torch import Tensor

from hybrids.errors import check_number
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.recall_task import RecallTask, Stored
from hybrids.tasks.sizes import DOUBLING, multiples
from hybrids.tasks.variable_programs import (
    FIRST_VARIABLE,
    check_program,
    draw_program,
    program_length,
    run_program,
    spell_program_token,
    write_program,
)


@register("task", "state_based_recall", source="arXiv:2604.03444, appendix C")
class StateBasedRecall(RecallTask):
    """m pairs of keys and values, a program over k variables that hold keys, and the value at the key of one of them:

        k3 v7 k1 v2 [SET] x0 k1 . [SET] x1 k3 . [SWAP] x0 x1 k3 [GET] x0        answer v7, for x0 holds k3

    The m = `num_pairs` keys are drawn without replacement from `max_pairs`, the values are uniform and independent. The
    program is that of the task without a table: an assignment of each variable in turn, then n = `num_instructions`,
    independently an assignment with probability `assign_percent` / 100, else a swap of a uniform pair; a key that is
    assigned is uniform over the table. `[GET]` asks for a uniform variable, at the last position. In `reveal_percent`
    of 100 examples each swap is followed by a reveal, the key that its first variable holds now: it is asked at the
    token before, and then shown; otherwise `.` stands there. Length: 2 m + 4 (k + n) + 2.

    Slices: `num_pairs`, `num_instructions`, and of each answer `reveals`: 1 where it is a key that is then shown, 2 for
    the value at the end of an example with reveals, 0 for that of an example without.

    Chance: 1 / max_pairs for a reveal, 1 / num_values for a value, averaged over the answers.
    Bits: m log2(num_values). The program is independent of the values, and the key that it ends with is uniform over
    the table, so the state after the table answers for every key. With reveals, all errors may be in the values: these
    are at least one in n + 1 answers of an example.

    Source: arXiv:2604.03444, whose text says 5 variables, m = n, and 20 % of examples without intermediate reveals.
    Ours are: the form of program and table, 10 assignments in 100 instructions, and that a reveal is the key.
    """

    facts_slice = "num_pairs"
    constant_slices = ("num_pairs", "num_instructions")

    def __init__(
        self,
        *,
        num_pairs: int = 8,
        num_instructions: int = 8,
        num_variables: int = 5,
        num_values: int = 64,
        max_pairs: int = 256,
        assign_percent: int = 10,
        reveal_percent: int = 80,
    ) -> None:
        self.num_pairs, self.num_instructions, self.num_variables = num_pairs, num_instructions, num_variables
        self.num_values, self.max_pairs = num_values, max_pairs
        self.assign_percent, self.reveal_percent = assign_percent, reveal_percent
        check_number("max_pairs", max_pairs, 1, MAX_HIGH // 2)
        check_number("num_pairs", num_pairs, 1, max_pairs, f"{max_pairs=}")
        check_number("num_values", num_values, 2, MAX_HIGH // 4)
        check_program(
            num_instructions=num_instructions,
            num_variables=num_variables,
            assign_percent=assign_percent,
            reveal_percent=reveal_percent,
        )
        self.first_key = FIRST_VARIABLE + num_variables
        self.first_value = self.first_key + max_pairs
        self.vocab_size = self.first_value + num_values
        self.table_length, self.num_targets = 2 * num_pairs, num_instructions + 1
        self.facts_end = self.table_length
        self.length = self.table_length + program_length(num_variables, num_instructions)
        self.stored = self._store()
        self.varying_slices = {"reveals": (0, 1, 2) if reveal_percent else (0,)}
        self.grid = {name: multiples(getattr(self, name), DOUBLING, low=1) for name in self.constant_slices}
        self.grid["num_pairs"] = tuple(size for size in self.grid["num_pairs"] if size <= max_pairs)

    def _store(self) -> Stored:
        stored = Stored.uniform(self.num_pairs, self.num_values)
        reveals = self.reveal_percent / 100 * (1 - self.assign_percent / 100) * self.num_instructions
        chance = (reveals / self.max_pairs + 1 / self.num_values) / (reveals + 1)
        return stored._replace(chance=chance, share=1 / self.num_targets if reveals else 1.0)

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        draws = Draws.of(index, seed=seed, stream=split)
        keys = draws.distinct("keys", self.num_pairs, self.max_pairs) + self.first_key
        values = draws.integers("values", self.num_pairs, self.num_values) + self.first_value
        program = draw_program(
            draws,
            num_variables=self.num_variables,
            num_instructions=self.num_instructions,
            num_symbols=self.num_pairs,
            assign_percent=self.assign_percent,
        )
        shows = draws.integers("reveals", 1, 100) < self.reveal_percent
        written = write_program(program, keys, shows, num_variables=self.num_variables, start=self.table_length)
        tokens = torch.cat([torch.stack([keys, values], dim=2).flatten(1), written.tokens], dim=1)
        targets = torch.cat([written.revealed, values.gather(1, program.answer)], dim=1)
        valid = torch.cat([written.is_asked, torch.ones_like(shows)], dim=1)
        reveals = torch.cat([written.is_asked.long(), 2 * shows.long()], dim=1)
        return self.make_batch(tokens, written.positions, targets, valid=valid, reveals=reveals)

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """A dictionary, and one instruction after another; the last answer is looked up."""
        table = dict(zip(row[: self.table_length : 2], row[1 : self.table_length : 2], strict=True))
        held = run_program(row, self.table_length)
        found = [held[place - self.table_length] for place in places]
        return [*found[:-1], table.get(found[-1], 0)]

    def spell(self, token: int) -> str:
        """`[SET]`, `.`, `x2` for a variable, `k3` for a key, `v3` for a value."""
        if token >= self.first_value:
            return f"v{token - self.first_value}"
        return spell_program_token(token, self.num_variables) or f"k{token - self.first_key}"

    def at_context(self, context: int) -> Task:
        """Pairs and instructions in proportion, as many as fit."""
        free, used = context - program_length(self.num_variables, 0), 2 * self.num_pairs + 4 * self.num_instructions
        return self.replace(
            num_pairs=self.num_pairs * free // used, num_instructions=self.num_instructions * free // used
        )

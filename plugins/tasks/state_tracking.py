"""State tracking: a program over a few variables, and what one of them holds at the end."""

import torch
from jaxtyping import Int
from torch import Tensor

from hybrids.errors import check_number
from hybrids.registry import register
from hybrids.rng import MAX_HIGH, Draws
from hybrids.task import Batch, Split, Task
from hybrids.tasks.prefixes import prefix_slice, prefix_values
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


@register("task", "state_tracking", source="arXiv:2604.03444, appendix C")
class StateTracking(RecallTask):
    """A program of assignments and swaps over k variables; at its end one of them is asked. For k = 2, n = 3:

        [SET] x0 v4 . [SET] x1 v2 . [SWAP] x1 x0 v4 [SET] x0 v1 . [SWAP] x0 x1 v4 [GET] x1        answer v1

    The program begins with an assignment of each variable in turn. Then n = `num_instructions` follow, independently:
    with probability `assign_percent` / 100 an assignment of a uniform value to a uniform variable, else a swap of a
    uniform pair. `[GET]` asks for a uniform variable, at the last position. In `reveal_percent` of 100 examples each
    swap is followed by a reveal, the value that its first variable holds now: it is asked at the token before, and then
    shown. Otherwise, and after assignments, `.` stands there. So tokens of one example are 4 (k + n) + 2.

    Settings: `num_instructions`, `num_variables` k, `num_values`, `assign_percent`, `reveal_percent`. Slice `executed`:
    instructions after the first k at an answer, rounded up to a power of two.

    Chance: 1 / num_values.
    Bits: k log2(num_values). Whatever the program, what the variables hold is independent and uniform, and any of them
    may be asked, at the end and by the next swap.

    Source: arXiv:2604.03444, whose text says 5 variables, swaps and assignments, and n from 8 to 64. Ours are: four
    tokens to an instruction, values that need not differ, 5 of them, 10 assignments in 100 instructions, reveals (here
    none by default), and a question at the end alone.
    """

    constant_slices = ("num_instructions",)

    def __init__(
        self,
        *,
        num_instructions: int = 8,
        num_variables: int = 5,
        num_values: int = 5,
        assign_percent: int = 10,
        reveal_percent: int = 0,
    ) -> None:
        self.num_instructions, self.num_variables, self.num_values = num_instructions, num_variables, num_values
        self.assign_percent, self.reveal_percent = assign_percent, reveal_percent
        check_program(
            num_instructions=num_instructions,
            num_variables=num_variables,
            assign_percent=assign_percent,
            reveal_percent=reveal_percent,
        )
        check_number("num_values", num_values, 2, MAX_HIGH // 2)
        self.first_value = FIRST_VARIABLE + num_variables
        self.vocab_size = self.first_value + num_values
        self.length, self.num_targets = program_length(num_variables, num_instructions), num_instructions + 1
        self.facts_end = None if reveal_percent else self.length - 2
        self.stored = Stored.uniform(num_variables, num_values)
        self.varying_slices = {"executed": prefix_values(1, num_instructions)}
        self.grid = {"num_instructions": multiples(num_instructions, DOUBLING, low=1)}

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        draws = Draws.of(index, seed=seed, stream=split)
        program = draw_program(
            draws,
            num_variables=self.num_variables,
            num_instructions=self.num_instructions,
            num_symbols=self.num_values,
            assign_percent=self.assign_percent,
        )
        names = torch.arange(self.first_value, self.vocab_size, device=index.device).expand(len(index), -1)
        shows = draws.integers("reveals", 1, 100) < self.reveal_percent
        written = write_program(program, names, shows, num_variables=self.num_variables)
        targets = torch.cat([written.revealed, names.gather(1, program.answer)], dim=1)
        valid = torch.cat([written.is_asked, torch.ones_like(shows)], dim=1)
        executed = torch.arange(1, self.num_targets + 1, device=index.device).clamp(max=self.num_instructions)
        executed = prefix_slice(executed).expand_as(targets)
        return self.make_batch(written.tokens, written.positions, targets, valid=valid, executed=executed)

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """One instruction after another."""
        answers = run_program(row, 0)
        return [answers[place] for place in places]

    def spell(self, token: int) -> str:
        """`[SET]`, `.`, `x2` for a variable, `v3` for a value."""
        return spell_program_token(token, self.num_variables) or f"v{token - self.first_value}"

    def at_context(self, context: int) -> Task:
        """As many instructions as fit."""
        return self.replace(num_instructions=(context - program_length(self.num_variables, 0)) // 4)

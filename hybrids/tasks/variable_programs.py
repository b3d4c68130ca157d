"""Programs over a few variables: assignments and swaps, what each variable holds after them, how they are written.

A symbol is what variables hold: a number of its own, or what the task makes of it. An instruction has four tokens:

    [SET] x0 s .        x0 holds s from now on
    [SWAP] x0 x3 s      x0 and x3 exchange what they hold; s, which x0 holds now, is a reveal, or `.` stands there

A program begins with [SET] for each variable in turn, and ends with `[GET] x`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hybrids.errors import check_number
from hybrids.rng import MAX_HIGH, Draws
from hybrids.tasks.prefixes import prefix_scan

SPECIALS = ("[SET]", "[SWAP]", "[GET]", ".")
SET, SWAP, GET, BLANK = range(len(SPECIALS))
FIRST_VARIABLE = len(SPECIALS)
"""Token of the first variable; the tokens of symbols come after those of the variables."""
WIDTH = 4
"""Tokens of an instruction."""


class Program(NamedTuple):
    """Drawn programs of I instructions, the first of which set the V variables."""

    is_swap: Bool[Tensor, "B I"]
    variables: Int[Tensor, "B I"]
    """The first operand."""
    operands: Int[Tensor, "B I"]
    """The second one: a variable of a swap, a symbol of an assignment."""
    held: Int[Tensor, "B I"]
    """The symbol that the first operand holds after the instruction."""
    query: Int[Tensor, "B 1"]
    """The variable asked for at the end."""
    answer: Int[Tensor, "B 1"]
    """The symbol that it holds."""


class Written(NamedTuple):
    """Programs in tokens, and where they ask: at the last operand of n instructions, and at the end."""

    tokens: Int[Tensor, "B T"]
    positions: Int[Tensor, " P"]
    revealed: Int[Tensor, "B n"]
    """Tokens of what the first operand holds after each instruction that follows the first V."""
    is_asked: Bool[Tensor, "B n"]
    """Whether it is revealed."""


def check_program(*, num_instructions: int, num_variables: int, assign_percent: int, reveal_percent: int) -> None:
    """UserError for a setting of a program that is out of bounds."""
    check_number("num_instructions", num_instructions, 1, MAX_HIGH // 8)
    check_number("num_variables", num_variables, 2, 1000)
    check_number("assign_percent", assign_percent, 0, 100)
    check_number("reveal_percent", reveal_percent, 0, 100)


def program_length(num_variables: int, num_instructions: int) -> int:
    """Tokens of a program with so many instructions after the first assignments."""
    return WIDTH * (num_variables + num_instructions) + 2


def draw_program(
    draws: Draws, *, num_variables: int, num_instructions: int, num_symbols: int, assign_percent: int
) -> Program:
    """Instructions are independent: assignments of a uniform symbol with this probability, or swaps of a uniform pair.

    A program is a product of maps: each says of every variable which one it takes its symbol from, or which symbol it
    is given (num_variables + symbol), and a scan multiplies them.
    """
    k, total = num_variables, num_variables + num_instructions
    chosen = draws.integers("variables", total, k)
    is_first = torch.arange(total, device=chosen.device) < k
    variables = torch.where(is_first, torch.arange(total, device=chosen.device), chosen)
    others = (variables + 1 + draws.integers("others", total, k - 1)) % k
    is_swap = (draws.integers("kinds", total, 100) >= assign_percent) & ~is_first
    symbols = draws.integers("symbols", total, num_symbols)
    maps = torch.arange(k, device=chosen.device).expand(*variables.shape, k).contiguous()
    maps.scatter_(2, others[..., None], torch.where(is_swap, variables, others)[..., None])
    maps.scatter_(2, variables[..., None], torch.where(is_swap, others, symbols + k)[..., None])
    # Until it is set, a variable has a negative number here, which nothing reads.
    states = prefix_scan(maps, lambda f, g: torch.where(g < k, f.gather(2, g.clamp(max=k - 1)), g)) - k
    query = draws.integers("query", 1, k)
    held = states.gather(2, variables[..., None])[..., 0]
    operands = torch.where(is_swap, others, symbols)
    return Program(is_swap, variables, operands, held, query, states[:, -1].gather(1, query))


def write_program(
    program: Program, names: Int[Tensor, "B S"], shows: Bool[Tensor, "B 1"], *, num_variables: int, start: int = 0
) -> Written:
    """Programs that begin at position `start`, with one instruction or more after the first V.

    `names` are the tokens of the symbols, and `shows` says which examples have reveals.
    """
    is_swap, variables, operands, held, query, _ = program
    revealed = names.gather(1, held)
    named = names.gather(1, torch.where(is_swap, 0, operands))
    words = [
        torch.where(is_swap, SWAP, SET),
        variables + FIRST_VARIABLE,
        torch.where(is_swap, operands + FIRST_VARIABLE, named),
        torch.where(is_swap & shows, revealed, BLANK),
    ]
    asked = torch.cat([torch.full_like(query, GET), query + FIRST_VARIABLE], dim=1)
    tokens = torch.cat([torch.stack(words, dim=2).flatten(1), asked], dim=1)
    ends = torch.arange(num_variables, variables.shape[1], device=query.device) * WIDTH + WIDTH - 2
    positions = torch.cat([ends, torch.full_like(ends[:1], tokens.shape[1] - 1)]) + start
    return Written(tokens, positions, revealed[:, num_variables:], (is_swap & shows)[:, num_variables:])


def run_program(row: list[int], start: int) -> list[int]:
    """For each position from `start` on, the token that the variable named last is left with; one step at a time.

    What is revealed is not read. Positions that are no place of a question give -1.
    """
    held: dict[int, int] = {}
    found = []
    for place in range(start, len(row)):
        step, operands = (place - start) % WIDTH, row[place - (place - start) % WIDTH + 1 : place + 1]
        if step == WIDTH - 2 and row[place - 2] == SET:
            held[operands[0]] = operands[1]
        elif step == WIDTH - 2 and row[place - 2] == SWAP:
            first, second = operands
            held[first], held[second] = held[second], held[first]
        asks = step == WIDTH - 2 or (step == 1 and row[place - 1] == GET)
        found.append(held.get(operands[0], -1) if asks else -1)
    return found


def spell_program_token(token: int, num_variables: int) -> str | None:
    """`[SET]`, `.`, `x2`; None for the token of a symbol."""
    if token < FIRST_VARIABLE:
        return SPECIALS[token]
    return f"x{token - FIRST_VARIABLE}" if token < FIRST_VARIABLE + num_variables else None

"""Random expressions and their values, for whole batches.

Signs are numbered 0 `+`, 1 `-`, 2 `*`, 3 `(`, 4 `)`, 5 `=`, and sign k is token p + k for the modulus p.

An expression with brackets is written from left to right by a stack of what is still to come: an expression of m
tokens (the item m), an operator, or a closing bracket. Each step takes an item and writes a token:

    m = 1   a number                      m >= 5   `(`, then an expression of l, an operator, one of m - 3 - l, `)`
    m = 2   `-`, then a number            `)`      itself
    m = 3   `(`, then a number and `)`    operator itself
    m = 4   `(`, then `-`, a number, `)`
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hybrids.rng import Draws
from hybrids.tasks.prefixes import prefix_scan

PLUS, MINUS, TIMES, OPEN, CLOSE, EQUALS = range(6)
_END, _CLOSE, _OPERATOR = 0, -1, -2
"""Items that are no expression: nothing is left, a closing bracket, an operator."""


class Expressions(NamedTuple):
    """Expressions, each followed by anything, and their values modulo p."""

    tokens: Int[Tensor, "B N"]
    values: Int[Tensor, "B 1"]


def draw_flat(
    draws: Draws, num_terms: Int[Tensor, "B 1"], most_terms: int, modulus: int, *, num_operators: int, is_usual: bool
) -> Expressions:
    """Numbers with operators between them; multiplication first (`is_usual`), or from left to right."""
    numbers = draws.integers("numbers", most_terms, modulus)
    operators = draws.integers("operators", most_terms - 1, num_operators)
    tokens = numbers.new_empty(len(numbers), 2 * most_terms - 1)
    tokens[:, ::2], tokens[:, 1::2] = numbers, operators + modulus
    before = torch.cat([torch.full_like(num_terms, PLUS), operators], dim=1)  # the operator of each number
    is_term = torch.arange(most_terms, device=numbers.device) < num_terms
    evaluate = _multiply_first if is_usual else _left_to_right
    return Expressions(tokens, evaluate(numbers, before, is_term, modulus))


def _multiply_first(
    numbers: Int[Tensor, "B N"], before: Int[Tensor, "B N"], is_term: Bool[Tensor, "B N"], modulus: int
) -> Int[Tensor, "B 1"]:
    """The sum over products; a scan of (whether a product begins, the product so far) makes the products."""
    signed = torch.where(before == MINUS, -numbers, numbers)
    begins = (before != TIMES).long()

    def extend(earlier: Tensor, later: Tensor) -> Tensor:
        product = torch.where(later[..., 0] == 1, later[..., 1], earlier[..., 1] * later[..., 1] % modulus)
        return torch.stack([earlier[..., 0] | later[..., 0], product], dim=-1)

    products = prefix_scan(torch.stack([begins, signed], dim=-1), extend)[..., 1]
    goes_on = torch.zeros_like(is_term)
    goes_on[:, :-1] = (begins[:, 1:] == 0) & is_term[:, 1:]
    return (products * (is_term & ~goes_on)).sum(dim=1, keepdim=True) % modulus


def _left_to_right(
    numbers: Int[Tensor, "B N"], before: Int[Tensor, "B N"], is_term: Bool[Tensor, "B N"], modulus: int
) -> Int[Tensor, "B 1"]:
    """Each number with its operator is a map x -> a x + b; a scan composes them."""
    is_times = before == TIMES
    factors = torch.where(is_times, numbers, 1)
    added = torch.where(is_times, 0, torch.where(before == MINUS, -numbers, numbers))

    def follow(earlier: Tensor, later: Tensor) -> Tensor:
        factor = earlier[..., 0] * later[..., 0]
        return torch.stack([factor, earlier[..., 1] * later[..., 0] + later[..., 1]], dim=-1) % modulus

    maps = prefix_scan(torch.stack([factors, added], dim=-1), follow)
    last = is_term.sum(dim=1, keepdim=True) - 1
    return maps[..., 1].gather(1, last) % modulus


def draw_bracketed(
    draws: Draws, lengths: Int[Tensor, "B 1"], most_tokens: int, modulus: int, *, num_operators: int
) -> Expressions:
    """Expressions of `lengths` tokens with brackets around everything; the split of each is uniform."""
    items = _draw_items(draws, lengths, most_tokens)
    numbers = draws.integers("numbers", most_tokens, modulus)
    operators = draws.integers("operators", most_tokens, num_operators)
    signs = torch.where(items == _OPERATOR, operators, torch.where(items == _CLOSE, CLOSE, OPEN))
    signs = torch.where(items == 2, MINUS, signs)
    tokens = torch.where(items == 1, numbers, signs + modulus)
    is_negated = torch.zeros_like(items, dtype=torch.bool)
    is_negated[:, 1:] = items[:, :-1] == 2
    return Expressions(tokens, _evaluate(items, torch.where(is_negated, -numbers, numbers), operators, modulus))


def _draw_items(draws: Draws, lengths: Int[Tensor, "B 1"], most_tokens: int) -> Int[Tensor, "B N"]:
    """The item that writes each token; _END behind the end."""
    words = draws.bits("splits", most_tokens)
    stack = torch.zeros(len(words), most_tokens + 5, dtype=torch.int64, device=words.device)
    stack[:, 1:2] = lengths
    top, above = torch.ones_like(lengths), torch.arange(4, device=words.device)
    items = []
    for word in words.split(1, dim=1):
        item = stack.gather(1, top)
        left = 1 + (word * (item - 4).clamp(min=1) >> 32)
        first = torch.where(item >= 3, _CLOSE, (item == 2).long())
        second = torch.where(item >= 5, item - 3 - left, item - 2)
        stack.scatter_(1, top + above, torch.cat([first, second, torch.full_like(left, _OPERATOR), left], dim=1))
        top = top + 2 * (item >= 5) + (item >= 3).long() - ((item == 1) | (item < _END)).long()
        items.append(item)
    return torch.cat(items, dim=1)


def _evaluate(
    items: Int[Tensor, "B N"], numbers: Int[Tensor, "B N"], operators: Int[Tensor, "B N"], modulus: int
) -> Int[Tensor, "B 1"]:
    """One token after another, with the value so far and the operator to come of every open bracket."""
    opens, closes = items >= 3, items == _CLOSE
    depths = (opens.long() - closes.long()).cumsum(dim=1)
    so_far = torch.zeros(len(items), items.shape[1] // 2 + 2, dtype=torch.int64, device=items.device)
    pending = torch.full_like(so_far, PLUS)
    columns = (x.split(1, dim=1) for x in (items, opens, closes, depths, numbers, operators))
    for item, is_open, is_close, depth, number, operator in zip(*columns, strict=True):
        value, sign = so_far.gather(1, depth), pending.gather(1, depth)
        operand = torch.where(is_close, so_far.gather(1, depth + 1), number)
        result = torch.where(sign == TIMES, value * operand, value + torch.where(sign == MINUS, -operand, operand))
        value = torch.where(is_close | (item == 1), result % modulus, torch.where(is_open, 0, value))
        so_far.scatter_(1, depth, value)
        pending.scatter_(1, depth, torch.where(item == _OPERATOR, operator, torch.where(is_open, PLUS, sign)))
    return so_far[:, :1]

"""Texts of varying length in columns: what is written, what a model is asked for, and packing both."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hybrids_plugins.tasks.is_tree.forests import scatter_where


class Trace(NamedTuple):
    """Tokens in M columns, of which those that are `written` follow one another."""

    tokens: Int[Tensor, "B M"]
    written: Bool[Tensor, "B M"]
    returned: Bool[Tensor, " M"]
    """Which columns a tool writes, not the model."""


class Packed(NamedTuple):
    """Traces without gaps, and which of their tokens the model writes."""

    tokens: Int[Tensor, "B L"]
    places: Int[Tensor, "B P"]
    """Of the tokens that the model writes, ascending."""
    targets: Int[Tensor, "B P"]
    valid: Bool[Tensor, "B P"]


def always(tokens: Int[Tensor, "B M"]) -> Trace:
    """Tokens that the model always writes."""
    return Trace(tokens, torch.ones_like(tokens, dtype=torch.bool), torch.zeros_like(tokens[0], dtype=torch.bool))


def join(parts: Sequence[Trace]) -> Trace:
    """One after another."""
    tokens, written, returned = zip(*parts, strict=True)
    return Trace(torch.cat(tokens, dim=1), torch.cat(written, dim=1), torch.cat(returned))


def pack(trace: Trace, *, length: int, num_targets: int) -> Packed:
    """Right-padded with 0 to L and P, which no trace exceeds."""
    asked = trace.written & ~trace.returned
    place, number = trace.written.cumsum(1) - 1, asked.cumsum(1) - 1
    blank = place.new_zeros(len(place), num_targets)
    return Packed(
        scatter_where(place.new_zeros(len(place), length), place, trace.tokens, trace.written),
        scatter_where(blank, number, place, asked),
        scatter_where(blank, number, trace.tokens, asked),
        torch.arange(num_targets, device=place.device) <= number[:, -1:],
    )


def cut(tokens: list[int], asked: list[int]) -> tuple[list[int], list[int], list[list[int]]]:
    """What comes before the first token asked for, the rest up to the last one, and the runs in it not asked for."""
    start, end = asked.index(1), len(asked) - asked[::-1].index(1)
    runs: list[list[int]] = []
    for place in range(start, end):
        if asked[place - 1] and not asked[place]:
            runs.append([])
        if not asked[place]:
            runs[-1].append(tokens[place])
    return tokens[:start], tokens[start:end], runs

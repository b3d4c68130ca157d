"""The stack of blocks that a pattern describes."""

import math
from collections.abc import Mapping
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from hybrids.errors import UserError
from hybrids.model.block import Block, Choice, Letter
from hybrids.pattern import Layer, Pattern
from hybrids.types import Cache

P = TypeVar("P")


def check_letters(pattern: Pattern, letters: Mapping[str, Letter]) -> None:
    """UserError where a letter of the pattern stands for nothing."""
    unbound = [letter for letter in pattern.letters if letter not in letters]
    if unbound:
        raise UserError(
            f"pattern={pattern.compact()} uses the letter {unbound[0]}, which stands for nothing; "
            f"bound letters: {', '.join(sorted(letters))}; bind it with +mixer@mixers.{unbound[0]}=<mixer>"
        )


class Backbone(nn.Module):
    """The blocks of a pattern, one after the other.

    `letters` says what each letter of the pattern stands for. Raises UserError for a letter that is not in it.
    """

    def __init__(self, d_model: int, pattern: Pattern, letters: Mapping[str, Letter]) -> None:
        super().__init__()
        check_letters(pattern, letters)
        self.d_model = d_model
        self.pattern = pattern
        self.blocks = nn.ModuleList(_build_block(d_model, layer, letters) for layer in pattern.layers)

    def forward(self, x: Float[Tensor, "B T D"], cache: Cache | None = None) -> tuple[Float[Tensor, "B T D"], Cache]:
        """Outputs, and the cache after them; `cache=None` is the start of a sequence."""
        new_cache = []
        for i, block in enumerate(self.blocks):
            x, states = block(x, None if cache is None else cache[i])
            new_cache.append(states)
        return x, tuple(new_cache)

    def init_state(self, batch_size: int) -> Cache:
        """Cache at the start of a sequence."""
        return tuple(block.init_states(batch_size) for block in self._blocks())

    def state_elements(self, context: int) -> int:
        """Elements that one sequence carries after `context` tokens, all layers."""
        return sum(block.state_elements(context) for block in self._blocks())

    def step_flops(self, context: int) -> int:
        """FLOPs of one decode step after `context` tokens, embedding, final norm and head not included."""
        return sum(block.step_flops(context) for block in self._blocks())

    @property
    def period(self) -> int:
        """Tokens after which the blocks of all mixers end together."""
        return math.lcm(*(block.period for block in self._blocks()))

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]


def _build_block(d_model: int, layer: Layer, letters: Mapping[str, Letter]) -> Block:
    bound = [letters[letter] for letter in layer.letters]
    mixers = [
        _build(f"mixers.{name}", letter.mixer, d_model)
        for name, letter in zip(layer.letters, bound, strict=True)
        if letter.mixer is not None
    ]
    if len(bound) > 1 and len(mixers) < len(bound):
        raise UserError(f"layer {layer} joins a letter that is bound to no mixer; allowed: letters with a mixer")
    channel = bound[0].channel
    if any(letter.channel != channel for letter in bound):
        raise UserError(f"the letters of layer {layer} have different channel mixers; allowed: one for all of them")
    if not mixers and channel is None:
        raise UserError(f"layer {layer} has neither a mixer nor a channel mixer; bind the letter to one of them")
    built = None if channel is None else _build(f"channel mixer of {layer}", channel, d_model)
    return Block(d_model, mixers, built, join=layer.join)


def _build(place: str, choice: Choice[P], d_model: int) -> P:
    """A mixer or channel mixer; what is wrong with its settings is said with the place they belong to."""
    try:
        return choice.build(d_model)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error

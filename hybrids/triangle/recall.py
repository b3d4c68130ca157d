"""What a model gives back through the state that it carries from the facts to the queries."""

from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybrids.errors import UserError
from hybrids.model.measure import state_bits, state_elements
from hybrids.model.model import Model, gather_positions
from hybrids.task import Split, Task
from hybrids.triangle import quantise
from hybrids.triangle.intervals import Estimate, estimate
from hybrids.types import Cache

Change = Callable[[Cache], Cache]
"""What happens to the state between the last fact and the first query."""


class Recall(NamedTuple):
    """Recalled bits of a model on a task, beside the state that they were read from; one sequence."""

    recalled: Estimate
    offered: float
    """Bits that an exact answerer would have stored."""
    state_bits: int
    """Bits of the state after the last fact, at the dtype stored."""
    state_elements: int

    @property
    def utilisation(self) -> float:
        """Recalled bits over state bits; 0 for a stack without a state."""
        return self.recalled.bits / self.state_bits if self.state_bits else 0.0

    @property
    def law_broken(self) -> bool:
        """Whether more was surely recalled than the state holds."""
        return self.recalled.surely > self.state_bits


class EffectiveBits(NamedTuple):
    """Recall with the state rounded to `bits` per element."""

    bits: int
    total: int
    """Of the whole state; an integer in it is not rounded and counts as stored."""
    recalled: Estimate


@torch.inference_mode()
def measure_recall(
    model: Model, task: Task, *, seed: int, num_examples: int, batch_size: int, change: Change | None = None
) -> Recall:
    """Recall on the first test examples, read through the state after the last fact, at its stored dtype.

    Raises UserError for a task without bits, or whose queries do not all follow its facts.
    """
    offered = check_has_bits(task)
    wrong, cache = recall_errors(
        model, task, seed=seed, num_examples=num_examples, batch_size=batch_size, change=change
    )
    rows = min(batch_size, num_examples)
    recalled = estimate(wrong, lambda errors: bits_of(task, errors))
    return Recall(recalled, offered, state_bits(cache) // rows, state_elements(cache) // rows)


@torch.inference_mode()
def recall_errors(
    model: Model, task: Task, *, seed: int, num_examples: int, batch_size: int, change: Change | None = None
) -> tuple[Float[Tensor, " N"], Cache]:
    """The share of wrong answers in each of the first test examples, read through the state after the last fact.

    Beside it the cache of the first `batch_size` of them at that place.
    """
    index = torch.arange(num_examples, device=model.embedding.weight.device)
    parts = [_answer(model, task, part, seed, Split.TEST, change) for part in index.split(batch_size)]
    return torch.cat([errors for errors, _ in parts]), parts[0][1]


@torch.inference_mode()
def effective_bits(
    model: Model, task: Task, *, seed: int, num_examples: int, batch_size: int, levels: Iterable[int] = quantise.BITS
) -> list[EffectiveBits]:
    """Recall with the state rounded to each number of bits per element in `levels`, as given.

    The levels of each tensor come from validation examples.
    """
    check_has_bits(task)
    index = torch.arange(min(batch_size, num_examples), device=model.embedding.weight.device)
    _, other = _answer(model, task, index, seed, Split.VAL, None)
    curve = []
    for bits in levels:
        rounding = quantise.fit(other, bits)
        recall = measure_recall(
            model, task, seed=seed, num_examples=num_examples, batch_size=batch_size, change=rounding
        )
        curve.append(EffectiveBits(bits, rounding.count(other) // len(index), recall.recalled))
    return curve


def smallest_sufficient(curve: Sequence[EffectiveBits], recalled: float, *, kept: float = 0.99) -> EffectiveBits | None:
    """The smallest state of the curve that keeps a share `kept` of `recalled`, as every larger one does.

    None where the largest does not. One that keeps it while a larger one does not has it by chance.
    """
    by_size = sorted(curve, key=lambda entry: entry.total, reverse=True)
    enough = list(takewhile(lambda entry: entry.recalled.bits >= kept * recalled, by_size))
    return enough[-1] if enough else None


def check_has_bits(task: Task) -> float:
    """The bits that a task offers; UserError where recall cannot be measured in bits."""
    name = type(task).__name__
    if task.bits is None:
        raise UserError(
            f"task {name} has no bits with these settings: its answers need not be stored, or hold no set number"
        )
    if task.facts_end is None:
        raise UserError(
            f"task {name} has no point where all facts were shown and no query was: no state to read through"
        )
    return task.bits


def bits_of(task: Task, errors: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Recalled bits at mean error rates, of a task that has bits."""
    recalled = task.recalled_bits(errors)
    assert recalled is not None
    return recalled


def _answer(
    model: Model, task: Task, index: Int[Tensor, " B"], seed: int, split: Split, change: Change | None
) -> tuple[Float[Tensor, " B"], Cache]:
    """The share of wrong answers in each example, and the cache after its facts."""
    batch = task.sample(index, seed=seed, split=split)
    end = task.facts_end
    assert end is not None
    _, cache = model.backbone(model.embed(batch.tokens[:, :end]))
    x, _ = model.backbone(model.embed(batch.tokens[:, end:]), cache if change is None else change(cache))
    assert bool((batch.positions >= end)[batch.valid].all()), f"{type(task).__name__} asks before facts_end={end}"
    x = gather_positions(x, (batch.positions - end).clamp(min=0))
    wrong = (model.head(model.norm(x)).argmax(-1) != batch.targets) & batch.valid
    return wrong.sum(dim=1).double() / batch.valid.sum(dim=1), cache

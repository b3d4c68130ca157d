"""Where a trained model stands in the triangle, at the context of training and beyond."""

from collections.abc import Sequence
from typing import NotRequired

from typing_extensions import TypedDict  # pydantic, which reads records, refuses that of Python 3.11

from hybrids.errors import UserError
from hybrids.model.measure import measure_step
from hybrids.model.model import Model
from hybrids.task import Task
from hybrids.triangle.coordinates import Coordinates, Measured, locate, whole_blocks
from hybrids.triangle.intervals import INTERVAL, check_law
from hybrids.triangle.recall import Recall, measure_recall

FACTORS = (1, 2, 4)
"""Contexts, as multiples of that of training."""


class Place(TypedDict):
    """Where a model stands in the triangle at one context; one sequence, backbone only.

    What needs the task's bits is null where it has none at that context, or where none were measured.
    """

    context: int  # n, tokens seen
    state_bits: int  # s(n)
    step_flops: int  # f(n)
    step_bytes: int
    efficiency: float  # 1 - log2(f(2n) / f(n)); for layers that work in blocks, n is the end of one here and below
    compactness: float  # 1 - log2(s(2n) / s(n))
    recall: float | None  # recalled_bits / offered_bits
    no_recall: NotRequired[str | None]  # why there is none; absent before version 0.2
    offered_bits: float | None  # what an exact answerer has stored
    recalled_bits: float | None  # r(n), corrected for bias
    recalled_low: float | None  # 95 % interval over the examples
    recalled_high: float | None
    interval: NotRequired[str | None]  # how it was found; absent before: by the bootstrap, too narrow with few errors
    num_examples: NotRequired[int | None]  # that it is over
    surely: float | None  # lower 99.9 % limit
    facts_end: NotRequired[int | None]  # tokens up to the last fact
    facts_state_bits: int | None  # of the state after the last fact and before any query, through which r was measured
    utilisation: float | None  # recalled_bits / facts_state_bits
    law_broken: bool  # surely > facts_state_bits: a leak, or a miscount


def measure_places(
    model: Model, task: Task, *, seed: int, num_examples: int, batch_size: int, factors: Sequence[int] = FACTORS
) -> list[Place]:
    """The model at `factors` times the length of the task, facts in proportion; recall is None where it cannot be had.

    Recall needs bits and a place between facts and queries, of the task at that context, which is of one size where it
    was trained on a mixture; batches shrink as contexts grow. Below 2 examples, state and cost alone are measured.
    """
    contexts = [factor * task.length for factor in factors]
    ends = {context: whole_blocks(context, model.backbone.period) for context in contexts}
    sizes = {}
    for context in sorted({*contexts, *ends.values(), *(2 * end for end in ends.values())}):
        cost = measure_step(model.backbone, model.backbone.d_model, context)
        sizes[context] = Measured(context, cost.state_bits, cost.flops, cost.bytes_read)
    places = []
    for factor, context in zip(factors, contexts, strict=True):
        batch = max(1, batch_size // factor)
        recall = _recall(model, task, factor, seed=seed, num_examples=num_examples, batch_size=batch)
        found = (recall.recalled.bits, recall.offered) if recall else (None, None)
        coordinates = locate(sizes[ends[context]], sizes[2 * ends[context]], *found)
        place = _place(sizes[context], coordinates, recall)
        other = _at_factor(task, factor)
        if recall is None:
            place["no_recall"] = _why_no_recall(other, num_examples)
        elif other is not None:
            place["facts_end"], place["num_examples"] = other.facts_end, num_examples
        places.append(place)
    return places


def _recall(model: Model, task: Task, factor: int, *, seed: int, num_examples: int, batch_size: int) -> Recall | None:
    other = recalling(task, factor, num_examples)
    if other is None:
        return None
    return measure_recall(model, other, seed=seed, num_examples=num_examples, batch_size=batch_size)


def recalling(task: Task, factor: int, num_examples: int) -> Task | None:
    """The task at so many times its length, where recall can be measured there on so many examples; else None."""
    other = _at_factor(task, factor) if num_examples > 1 else None  # one example has no interval
    return None if other is None or other.bits is None or other.facts_end is None else other


def _why_no_recall(task: Task | None, num_examples: int) -> str:
    if task is None:
        return "the task has no examples of this context"
    if task.bits is None:
        return "the task does not say how many bits its facts have"
    if task.facts_end is None:
        return "the task asks before its last fact"
    return f"data.num_recall_examples={num_examples} is below 2"


def _at_factor(task: Task, factor: int) -> Task | None:
    """The task at so many times its length; None where it has no such size, or only with another vocabulary."""
    if factor == 1 and task.bits is not None:  # a mixture has no bits, its largest size may have
        return task
    try:
        other = task.at_context(factor * task.length)
    except UserError:
        return None
    return other if other.vocab_size == task.vocab_size else None


def _place(at: Measured, coordinates: Coordinates, recall: Recall | None) -> Place:
    found = None if recall is None else recall.recalled
    return Place(
        context=at.context,
        state_bits=at.state_bits,
        step_flops=at.step_flops,
        step_bytes=at.step_bytes,
        efficiency=coordinates.efficiency,
        compactness=coordinates.compactness,
        recall=coordinates.recall,
        offered_bits=recall and recall.offered,
        recalled_bits=found and found.bits,
        recalled_low=found and found.low,
        recalled_high=found and found.high,
        interval=found and INTERVAL,
        surely=found and found.surely,
        facts_state_bits=recall and recall.state_bits,
        utilisation=recall and recall.utilisation,
        law_broken=recall is not None and recall.law_broken,
    )


def check_places(places: Sequence[Place]) -> None:
    """Raise LawBroken for the first place at which more bits were recalled than the state held."""
    for place in places:
        if place["surely"] is not None and place["facts_state_bits"] is not None:
            check_law(place["surely"], place["facts_state_bits"])

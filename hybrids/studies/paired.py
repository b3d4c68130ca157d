"""Two trained runs beside each other: every number of both, and how sure the difference is.

Runs with one task and one data seed are asked the same test examples, and are compared example by example: what makes
an example hard for both then cancels. Intervals are over examples; what another seed of training would do is not in
them.
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor
from torch.nn.functional import cross_entropy

from hybrids.model.decode import decode
from hybrids.model.model import Model, gather_positions
from hybrids.task import DecodedTask, Split, Task
from hybrids.tasks.mean_interval import difference_interval
from hybrids.training.evaluate import model_in_use
from hybrids.training.process import keep_freed_memory
from hybrids.training.progress import tracked
from hybrids.training.record import Result, RunFolder
from hybrids.training.run import Run
from hybrids.training.settings import TrainerSettings
from hybrids.triangle.intervals import estimate
from hybrids.triangle.place import FACTORS, Place, recalling
from hybrids.triangle.recall import bits_of, recall_errors


class Number(NamedTuple):
    """One measure of two runs; None where a run does not have it."""

    measure: str
    first: float | None
    second: float | None
    interval: tuple[float, float] | None = None
    """95 %, of the second less the first; None where nothing was sampled, or one run has no such number."""
    num_examples: int | None = None
    """Of the second run that the interval is over; None without one."""

    @property
    def difference(self) -> float | None:
        return None if self.first is None or self.second is None else self.second - self.first


class Pair(NamedTuple):
    """Two runs compared."""

    numbers: list[Number]
    is_paired: bool
    """Whether both were asked the same examples."""


class _Answers(NamedTuple):
    """What a model makes of each of N test examples."""

    correct: Bool[Tensor, "N P"]
    valid: Bool[Tensor, "N P"]
    loss: Float[Tensor, " N"]
    """Summed over the answers of an example, in nats."""
    slices: Mapping[str, Int[Tensor, "N #P"]]
    decoded: Float[Tensor, " M"] | None
    """Of a decoded task: 1 right, 0 wrong, 0.5 undecided, for the first examples."""
    wrong_through_state: Mapping[int, tuple[Task, Float[Tensor, " K"]]]
    """Context -> the task there, and the share of wrong answers in each example (recall.py)."""


def compare(
    first: tuple[Run, RunFolder],
    second: tuple[Run, RunFolder],
    *,
    num_examples: int | None = None,
    accelerator: str = "cpu",
) -> Pair:
    """The last good checkpoints of both runs on their first test examples.

    `num_examples` is by default the number that both were tested on, the smaller of the two.
    Raises UserError for a run that has not finished or whose checkpoint cannot be used.
    """
    TrainerSettings(accelerator=accelerator).check_devices()
    results = [folder.require_result() for _, folder in (first, second)]
    tasks = [run.task.build() for run, _ in (first, second)]
    num = num_examples or min(run.data.num_test_examples for run, _ in (first, second))
    keep_freed_memory()
    answers = []
    for (run, folder), task in tracked(list(zip((first, second), tasks, strict=True)), "measuring"):
        with model_in_use(run.on(accelerator), folder, task) as model:
            answers.append(_ask(model, task, run, num))
    is_paired = _is_same(*tasks) and first[0].data.seed == second[0].data.seed
    numbers = [*_scores(*answers, is_paired=is_paired), *_recall(*answers, is_paired=is_paired), *_counted(*results)]
    return Pair(numbers, is_paired)


def _is_same(first: Task, second: Task) -> bool:
    return type(first) is type(second) and first.settings() == second.settings()


@torch.inference_mode()
def _ask(model: Model, task: Task, run: Run, num_examples: int) -> _Answers:
    size, seed = run.data.eval_batch_size, run.data.seed
    parts = [
        _answer(model, task, index, seed)
        for index in torch.arange(num_examples, device=model.embedding.weight.device).split(size)
    ]
    correct, valid, loss, slices = zip(*parts, strict=True)
    through_state, num = {}, run.data.num_recall_examples
    for factor in FACTORS:
        if (other := recalling(task, factor, num)) is not None:
            wrong, _ = recall_errors(model, other, seed=seed, num_examples=num, batch_size=max(1, size // factor))
            through_state[factor * task.length] = other, wrong
    return _Answers(
        torch.cat(correct),
        torch.cat(valid),
        torch.cat(loss),
        {key: torch.cat([part[key] for part in slices]) for key in task.slice_values},
        _decode(model, task, run),
        through_state,
    )


def _answer(
    model: Model, task: Task, index: Int[Tensor, " B"], seed: int
) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    batch = task.sample(index, seed=seed, split=Split.TEST)
    x, _ = model.backbone(model.embed(batch.tokens))
    x = model.norm(gather_positions(x, batch.positions)).flatten(0, 1)
    parts = []
    for rows, targets in zip(x.split(_ROWS), batch.targets.flatten().split(_ROWS), strict=True):
        logits = model.head(rows).float()
        parts.append((logits.argmax(-1) == targets, cross_entropy(logits, targets, reduction="none")))
    correct, loss = (torch.cat(part).view_as(batch.valid) * batch.valid for part in zip(*parts, strict=True))
    slices = {key: values.view(len(index), -1) for key, values in batch.slices.items()}
    return correct, batch.valid, loss.double().sum(1), slices


_ROWS = 4096
"""Logits held at once: those of all answers of a batch would fill the memory."""


def _decode(model: Model, task: Task, run: Run) -> Tensor | None:
    if not isinstance(task, DecodedTask) or run.data.num_decoded_examples == 0:
        return None
    episodes = task.episodes(torch.arange(run.data.num_decoded_examples), seed=run.data.seed, split=Split.TEST)
    decoded = decode(model, task, episodes, batch_size=run.data.eval_batch_size)
    return torch.tensor([0.5 if one.is_right is None else float(one.is_right) for one in decoded]).double()


def _scores(first: _Answers, second: _Answers, *, is_paired: bool) -> Iterator[Number]:
    """Of the answers: accuracy, exact match, loss, accuracy by slice, and what was decoded."""
    if first.decoded is not None and second.decoded is not None:
        yield _mean("decoded accuracy", first.decoded, second.decoded, is_paired=is_paired)
    both = first, second
    yield _accuracy("test accuracy", *both, *(one.valid for one in both), is_paired=is_paired)
    for key in (key for key in first.slices if key in second.slices):
        asked = [one.slices[key].expand_as(one.valid)[one.valid] for one in both]
        values = {value for answers in asked for value in answers.unique().tolist()}
        for value in sorted(values) if len(values) > 1 else ():
            chosen = [(one.slices[key] == value) & one.valid for one in both]
            yield _accuracy(f"  {key}={value}", *both, *chosen, is_paired=is_paired)
    exact = [(one.correct == one.valid).all(1).double() for one in both]
    yield _mean("test exact match", *exact, is_paired=is_paired)
    here, there = (one.loss / one.valid.sum(1).double().mean() for one in both)
    limits = _student(here, there, is_paired=is_paired)
    yield Number("test loss (nats)", float(here.mean()), float(there.mean()), limits, len(there))


def _accuracy(
    measure: str, first: _Answers, second: _Answers, here: Tensor, there: Tensor, *, is_paired: bool
) -> Number:
    """Right answers over asked ones, of the chosen answers; the interval takes how many are asked as given."""
    sums = [((one.correct & of).sum(1).double(), of.sum(1).double()) for one, of in ((first, here), (second, there))]
    chosen = [(right[asked > 0], asked[asked > 0]) for right, asked in sums]
    one, other = (float(right.sum() / asked.sum()) if len(right) else None for right, asked in chosen)
    if one is None or other is None:
        return Number(measure, one, other)
    shares = [right / asked.mean() for right, asked in chosen]  # their mean is the accuracy
    most = max(float(asked.max() / asked.mean()) for _, asked in chosen)
    low, high = difference_interval(shares[0] / most, shares[1] / most, is_paired=is_paired)
    return Number(measure, one, other, (low * most, high * most), len(shares[1]))


def _mean(measure: str, first: Tensor, second: Tensor, *, is_paired: bool) -> Number:
    is_paired = is_paired and len(first) == len(second)
    limits = difference_interval(first, second, is_paired=is_paired)
    return Number(measure, float(first.mean()), float(second.mean()), limits, len(second))


def _student(first: Tensor, second: Tensor, *, is_paired: bool) -> tuple[float, float]:
    """Student's interval of the difference of two means, which need no bounds; Welch's where examples differ."""
    if not is_paired:
        found = stats.ttest_ind(second.cpu(), first.cpu(), equal_var=False).confidence_interval()
        return float(found.low), float(found.high)
    apart = second - first
    width = float(apart.std() / math.sqrt(len(apart)) * stats.t.ppf(0.975, len(apart) - 1))
    return float(apart.mean()) - width, float(apart.mean()) + width


def _recall(first: _Answers, second: _Answers, *, is_paired: bool) -> Iterator[Number]:
    """Recalled bits at each context that both tasks have."""
    for context in (context for context in first.wrong_through_state if context in second.wrong_through_state):
        (task, wrong), (other, others) = (one.wrong_through_state[context] for one in (first, second))
        number = Number(f"recalled bits at {context:,} tokens", _recalled(task, wrong), _recalled(other, others))
        if _is_same(task, other):  # bits of one kind, which fall with the errors alike
            paired = is_paired and len(wrong) == len(others)
            limits = difference_interval(wrong, others, partial(bits_of, task), is_paired=paired)
            number = number._replace(interval=limits, num_examples=len(others))
        yield number


def _recalled(task: Task, wrong: Tensor) -> float:
    return estimate(wrong, partial(bits_of, task)).bits


_PLACE = {
    "efficiency": "Efficiency at {:,} tokens",
    "compactness": "Compactness at {:,} tokens",
    "state_bits": "state bits at {:,} tokens",
    "step_flops": "step FLOPs at {:,} tokens",
}
_COUNTED = {
    "step_bytes": "bytes read by one step",
    "chance_accuracy": "chance",
    "steps": "training steps",
    "examples": "training examples",
    "seconds": "training seconds",
}


def _counted(first: Result, second: Result) -> Iterator[Number]:
    """What was not sampled: sizes, costs, chance and the training itself."""
    places = [{place["context"]: place for place in one.get("triangle", [])} for one in (first, second)]
    for context in sorted({*places[0], *places[1]}):
        for name, title in _PLACE.items():
            here, there = (_of(one.get(context), name) for one in places)
            yield Number(title.format(context), here, there)
    for name, title in {"total": "parameters", "backbone": "  of the backbone"}.items():
        yield Number(title, first["parameters"][name], second["parameters"][name])
    for name, title in _COUNTED.items():
        yield Number(title, first[name], second[name])


def _of(place: Place | None, name: str) -> float | None:
    return None if place is None else place[name]

"""The stages of a curriculum: at which sizes the examples of each step of training are made.

Both are functions of the step alone, and the index of an example is step x batch size + its place in the batch. So the
examples are the same for any number of ranks and loader workers, and after a resume. A stage that begins once an
accuracy is reached, as some published ones do, would depend on the path of the training instead.

All examples of a step have one size, so their batch has one shape, on all ranks. Where a stage has several sizes, the
step draws one, uniformly, with the stateless numbers of `hybrids.rng`.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from hybrids.errors import UserError, suggest
from hybrids.model.block import Choice
from hybrids.rng import Draws
from hybrids.task import Split, Task
from hybrids.training.memory import check_length
from hybrids.training.record import StageRecord
from hybrids.training.run import Run


class Stage(NamedTuple):
    """A part of training."""

    start: int
    """Its first step, from 0."""
    sizes: Sequence[Mapping[str, int]]
    """From which a step draws."""
    tasks: Sequence[Task]
    """The task at each of them."""


class Curriculum:
    """The stages of a run; by default one, in which a step has nothing to draw.

    `seed` is that of the data: who trains other weights on the same data gives them the same sizes.
    """

    def __init__(self, stages: Sequence[Stage], *, seed: int) -> None:
        self.stages, self.seed = stages, seed
        self._starts = [stage.start for stage in stages]

    @classmethod
    def of(cls, run: Run, task: Task) -> "Curriculum":
        """The curriculum of a run and its task; UserError where they do not go together."""
        settings, data = run.curriculum, run.data
        for name in settings.sizes:
            if name not in task.sizes:
                raise UserError(f"curriculum.sizes.{name} is no size of this task; {suggest(name, task.sizes)}")
        steps, max_steps = settings.steps, run.trainer.max_steps
        if steps and steps[-1] >= max_steps:
            raise UserError(f"curriculum.steps={steps} must all be below trainer.max_steps={max_steps}")
        own = {name: getattr(task, name) for name in settings.sizes}
        stages: list[list[dict[str, int]]] = settings.stages(own)
        if own not in stages[-1]:
            wanted = f"the sizes of the task ({_spell([own])}), at which it is validated"
            raise UserError(f"the last stage of curriculum.sizes must have {wanted}; or leave that stage out")
        made: dict[tuple[int, ...], Task] = {tuple(own.values()): task}
        for number, stage in enumerate(stages, start=1):
            for sizes in stage:
                if tuple(sizes.values()) not in made:
                    where = f"stage {number} of the curriculum ({_spell([sizes])})"
                    made[tuple(sizes.values())] = _resize(run, task, sizes, where)
        _check_compiles(run, {one.length for one in made.values()})
        tasks = [[made[tuple(sizes.values())] for sizes in stage] for stage in stages]
        return cls([Stage(*parts) for parts in zip((0, *steps), stages, tasks, strict=True)], seed=data.seed)

    @classmethod
    def without_stages(cls, task: Task) -> "Curriculum":
        """All of training at the sizes of the task."""
        return cls([Stage(0, [{}], [task])], seed=0)

    def task_at(self, step: int) -> Task:
        """The task that makes the examples of a step."""
        return self._stage_at(step).tasks[self._draw(step)]

    def logged_at(self, step: int) -> dict[str, float]:
        """The stage of a step, counted from 1, and the sizes that it varies; nothing where training has one size."""
        if not self.varies:
            return {}
        sizes = self._stage_at(step).sizes[self._draw(step)]
        number = bisect_right(self._starts, step)
        return {"stage": float(number), **{name: float(value) for name, value in sizes.items()}}

    @property
    def tasks(self) -> list[Task]:
        """The task at every size that training has."""
        return list({id(task): task for stage in self.stages for task in stage.tasks}.values())

    @property
    def varies(self) -> bool:
        """Whether steps differ in size."""
        return len(self.tasks) > 1

    @property
    def last_start(self) -> int:
        """The first step of the last stage."""
        return self._starts[-1]

    @property
    def length(self) -> int:
        """Tokens of the longest example."""
        return max(task.length for task in self.tasks)

    def record(self) -> list[StageRecord]:
        """The stages as a result keeps them; none where training has one size."""
        if not self.varies:
            return []
        return [
            StageRecord(
                start=stage.start,
                sizes=[dict(sizes) for sizes in stage.sizes],
                length=max(task.length for task in stage.tasks),
            )
            for stage in self.stages
        ]

    def _stage_at(self, step: int) -> Stage:
        return self.stages[bisect_right(self._starts, step) - 1]

    def _draw(self, step: int) -> int:
        """Which of the sizes of its stage a step has."""
        count = len(self._stage_at(step).sizes)
        if count == 1:
            return 0
        draws = Draws.of(torch.tensor([step]), seed=self.seed, stream=Split.TRAIN)
        return int(draws.integers("size of a step", 1, count))


def describe_stages(stages: Sequence[StageRecord]) -> str:
    """As in `num_pairs=1; from step 200 num_pairs=2,4; from step 600 num_pairs=8`."""
    spelt = [(stage["start"], _spell(stage["sizes"])) for stage in stages]
    return "; ".join(f"from step {start:,} {sizes}" if start else sizes for start, sizes in spelt)


def _resize(run: Run, task: Task, sizes: Mapping[str, int], where: str) -> Task:
    """The task at these sizes; UserError where they do not fit together, or change its vocabulary."""
    try:
        settings = {**run.task.settings, **sizes}
        check_length(Choice(run.task.cls, settings), run.data.batch_size, "data.batch_size")
        resized = task.resize(**sizes)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    if resized.vocab_size != task.vocab_size:
        differ = f"its vocabulary is {resized.vocab_size} there and {task.vocab_size} at the sizes of the task"
        raise UserError(f"{where}: {differ}; allowed: sizes with one vocabulary, which the weights are made for")
    return resized


def _check_compiles(run: Run, lengths: set[int]) -> None:
    """UserError where the compiler would give up, as it does after some graphs of one function."""
    if not run.trainer.compile:
        return
    most = torch._dynamo.config.recompile_limit  # whose import takes a second
    if len(lengths) > most:
        raise UserError(
            f"trainer.compile=true compiles a step for each length, and the curriculum has {len(lengths)} lengths; "
            f"allowed: at most {most}, or trainer.compile=false"
        )


def _spell(sizes: Sequence[Mapping[str, int]]) -> str:
    """The values of each size, a row of whole numbers as `3-40`; of several sizes those in one place go together."""
    return " ".join(f"{name}={_spell_values([chosen[name] for chosen in sizes])}" for name in sizes[0])


def _spell_values(values: list[int]) -> str:
    if len(set(values)) == 1:
        return str(values[0])
    is_row = len(values) > 2 and values == list(range(values[0], values[-1] + 1))
    return f"{values[0]}-{values[-1]}" if is_row else ",".join(map(str, values))

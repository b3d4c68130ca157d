"""hybrids from Python: build a stack, look at a batch, measure, train, open what was trained.

Settings are those of the command line, spelt as there: `hy.build("LLLA", "mixer@mixers.L=gla", "task.num_pairs=4")`.
`plugins` are files of plugins (docs/extend.md); once imported, they stay known for as long as Python runs.
What a caller can mend is a `UserError`, with the sentence that the command would end with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hybrids import registry
from hybrids.config.build import open_run
from hybrids.config.compose import compose, spell_overrides
from hybrids.config.explain import explain, user_errors
from hybrids.config.quoting import spell_files
from hybrids.config.schema import store_schemas
from hybrids.errors import UserError, check_choice, check_number
from hybrids.model import decode as decoding
from hybrids.model.measure import measure_step
from hybrids.model.model import Model
from hybrids.plugin_files import load_files, take_files
from hybrids.report.page.collect import collect
from hybrids.report.terminal.runs import summarise
from hybrids.task import Batch, DecodedTask, Split, Task
from hybrids.training.metrics import read_rows
from hybrids.training.record import Result, RunFolder
from hybrids.training.run import Run
from hybrids.triangle.coordinates import Measured, locate, whole_blocks

Files = str | Path | Sequence[str | Path]
"""One path, or several."""


class Measurement(NamedTuple):
    """What one sequence costs and carries in the backbone after `context` tokens; the head is left out."""

    context: int
    parameters: int
    state_bits: int
    step_flops: int
    step_bytes: int
    """Every parameter and every element of the state, read once."""
    efficiency: float
    """1 - log2 of how many times a step costs more at twice the context."""
    compactness: float
    """1 - log2 of how many times the state is larger at twice the context."""


@dataclass(frozen=True)
class TrainedRun:
    """A run folder with a checkpoint."""

    folder: RunFolder
    settings: Run

    @property
    def path(self) -> Path:
        return self.folder.path

    @cached_property
    def task(self) -> Task:
        return self.settings.task.build()

    @cached_property
    def model(self) -> Model:
        """With the weights of the last good checkpoint, on the CPU and ready to be evaluated."""
        from hybrids.training.evaluate import load_model

        return load_model(self.settings.on("cpu"), self.folder, self.task).model.eval()

    @cached_property
    def result(self) -> Result | None:
        """The record in result.json; None while the run has not finished."""
        return self.folder.read_result()

    @property
    def metrics(self) -> list[dict[str, float]]:
        """metrics.csv, a row for each step that has any: pandas.DataFrame(run.metrics) is a table."""
        return [{"step": step, **row} for step, row in sorted(read_rows(self.folder.metrics_file).items())]


def build(
    pattern: str,
    *settings: str,
    task: str | None = None,
    d_model: int | None = None,
    seed: int = 0,
    plugins: Files = (),
) -> tuple[Model, Task]:
    """A stack with its initial weights, and the task whose vocabulary it reads; `settings` as on the command line.

    What is None is as without it there: the default task, the default width.
    """
    from hybrids.training.train import build_model

    run = _describe(pattern, settings, plugins, task=task, d_model=d_model, seed=seed)
    built = run.task.build()
    return build_model(run, built), built


def sample(task: Task, num_examples: int = 8, *, first: int = 0, seed: int = 0, split: str = "train") -> Batch:
    """The examples `first`, `first` + 1, ... of a split; the same on every machine."""
    check_number("num_examples", num_examples, 1)
    check_number("first", first, 0)
    check_choice("split", split, [one.name.lower() for one in Split])
    return task.sample(torch.arange(first, first + num_examples), seed=seed, split=Split[split.upper()])


def measure(model: Model, context: int = 1024) -> Measurement:
    """State and cost of the backbone of a model, counted on real states and a real step."""
    check_number("context", context, 1)
    backbone = model.backbone
    at = measure_step(backbone, backbone.d_model, context)
    end = whole_blocks(context, backbone.period)  # of layers that work in blocks
    once, twice = (_measured(model, n) for n in (end, 2 * end))
    return Measurement(
        context,
        sum(parameter.numel() for parameter in backbone.parameters()),
        at.state_bits,
        at.flops,
        at.bytes_read,
        *locate(once, twice)[:2],
    )


def train(
    pattern: str,
    *settings: str,
    task: str | None = None,
    d_model: int | None = None,
    seed: int = 0,
    runs_dir: str | Path = "runs",
    plugins: Files = (),
) -> TrainedRun:
    """Train a run to its end, or go on with it, or open it where it has finished, as the command `train` does.

    Logs to files alone, unless `settings` choose another logger.
    """
    from hybrids.training.process import silence_foreign_messages
    from hybrids.training.train import train as train_run

    quiet = [] if any(text.startswith("logger=") for text in settings) else ["logger=csv"]
    given = [*quiet, *settings]
    run = _describe(pattern, given, plugins, task=task, d_model=d_model, seed=seed, runs_dir=runs_dir)
    silence_foreign_messages()
    train_run(run)
    return TrainedRun(run.folder, run)


def load(path: str | Path, *, plugins: Files = ()) -> TrainedRun:
    """A run from its folder, finished or not.

    UserError where it is none, was changed, or was made with a plugin file that is not given.
    """
    load_files(_paths(plugins))
    store_schemas()
    run, folder = open_run(Path(path))
    return TrainedRun(folder, run)


def runs(folder: str | Path = "runs") -> list[dict[str, Any]]:
    """The finished runs in a folder (a sweep's, too), a row for each: pandas.DataFrame(hy.runs()) is a table.

    E, C, R and bits are those at the context of training; None where there are none.
    """
    store_schemas()
    return [summarise(run) for run in collect(Path(folder)).runs]


def decode(model: Model, task: Task, num_examples: int = 4, *, seed: int = 0) -> list[decoding.Decoded]:
    """What the model writes by itself after the first test prompts, and whether its answers are right."""
    if not isinstance(task, DecodedTask):
        able = [name for name in registry.names("task") if issubclass(registry.get("task", name).cls, DecodedTask)]
        name = registry.name_of(type(task))
        raise UserError(f"task {name} is not decoded: its answers are read at given positions; allowed: {able}")
    check_number("num_examples", num_examples, 1)
    episodes = task.episodes(torch.arange(num_examples), seed=seed, split=Split.TEST)
    return decoding.decode(model, task, episodes)


def _paths(plugins: Files) -> list[str]:
    return [str(path) for path in ([plugins] if isinstance(plugins, str | Path) else plugins)]


def _describe(pattern: str, settings: Sequence[str], plugins: Files, **named: Any) -> Run:
    """The run that these settings describe; those that are named go before."""
    for text in settings:
        if not isinstance(text, str) or "=" not in text:
            raise UserError(f"{text!r} is no setting; write it as on the command line, such as 'model.d_model=64'")
    groups = {"task": "task", "d_model": "model.d_model"}
    spelt = [f"{groups.get(name, name)}={value}" for name, value in named.items() if value is not None]
    files = [spell_files(paths)] if (paths := _paths(plugins)) else []
    overrides = spell_overrides([f"pattern={pattern}", *spelt, *files, *settings])
    load_files(take_files(overrides)[0])
    store_schemas()
    try:
        return compose(overrides)
    except user_errors() as error:
        raise UserError(explain(error)) from None


def _measured(model: Model, context: int) -> Measured:
    cost = measure_step(model.backbone, model.backbone.d_model, context)
    return Measured(context, cost.state_bits, cost.flops, cost.bytes_read)

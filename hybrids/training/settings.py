"""The settings of a run and of an evaluation: what each may be and its default, checked where they are made."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from hybrids.errors import UserError, check_choice, check_number, check_positive


@dataclass(kw_only=True)
class ModelSettings:
    """Width of the model; with tied embeddings the head is the embedding matrix."""

    d_model: int = 64
    tie_embeddings: bool = True

    def __post_init__(self) -> None:
        check_number("model.d_model", self.d_model, 1)


@dataclass(kw_only=True)
class TrainerSettings:
    """How long and on what to train. Validation and a checkpoint come every `val_every` steps.

    `target` ends the run once the validation accuracy reaches it; null trains for all `max_steps`.
    `devices` are those of one machine, `num_nodes` the machines, all of which see the same `runs_dir`.
    `threads` is the number of CPU threads of one process; null leaves PyTorch's. `tf32` lets a GPU multiply float32
    with 10 bits of mantissa, as most Triton kernels do in any case, so that without it they are not used for float32.
    """

    max_steps: int = 1000
    target: float | None = 0.995
    val_every: int = 100
    log_every: int = 20
    precision: str = "32-true"
    tf32: bool = False
    compile: bool = False
    accelerator: str = "cpu"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    threads: int | None = None
    progress_bar: bool = True
    profiler: str | None = None

    PRECISIONS = ("32-true", "bf16-mixed")

    def __post_init__(self) -> None:
        for name in ("max_steps", "val_every", "log_every", "devices", "num_nodes", "threads"):
            check_number(f"trainer.{name}", getattr(self, name), 1)
        if self.target is not None and not 0 < self.target <= 1:
            raise UserError(f"trainer.target={self.target} must lie in (0, 1], or be null")
        check_choice("trainer.precision", self.precision, self.PRECISIONS)
        check_choice("trainer.accelerator", self.accelerator, ("cpu", "gpu"))
        check_choice("trainer.strategy", self.strategy, ("auto", "ddp"))
        check_choice("trainer.profiler", self.profiler, (None, "simple", "advanced", "pytorch"))

    def check_devices(self) -> None:
        """Raise UserError where this machine lacks the devices; a run may be evaluated without those it trained on."""
        if self.accelerator == "gpu" and torch.cuda.device_count() < self.devices:
            raise UserError(
                f"trainer.accelerator=gpu with devices={self.devices}: this machine has {torch.cuda.device_count()} "
                "usable CUDA devices; allowed: that many at most, or trainer=cpu"
            )


@dataclass(kw_only=True)
class OptimSettings:
    """Optimiser and schedule. `min_lr_ratio` is the last learning rate over `lr`; `schedule=constant` keeps it 1."""

    lr: float = 6e-3
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    warmup_steps: int = 50
    schedule: str = "cosine"
    min_lr_ratio: float = 0.1
    grad_clip: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "grad_clip"):
            check_positive(f"optim.{name}", getattr(self, name))
        for name in ("weight_decay", "warmup_steps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"optim.{name}={getattr(self, name)} must not be negative")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"optim.{name}={getattr(self, name)} must lie in [0, 1)")
        check_number("optim.min_lr_ratio", self.min_lr_ratio, 0, 1)
        check_choice("optim.schedule", self.schedule, ("cosine", "constant"))


@dataclass(kw_only=True)
class DataSettings:
    """Sizes and seed of the data. Batch sizes are global: the ranks of a run share them.

    `num_train_examples` is null for an endless stream; with a number, so many examples are repeated in order, under a
    curriculum so many of each size.
    Of a task that is decoded, the first `num_decoded_examples` of the test stream are; 0 decodes none.
    Recalled bits are measured on the first `num_recall_examples` of it, at each of three contexts; below 2 none are.
    """

    seed: int = 0
    batch_size: int = 64
    num_workers: int = 0
    num_train_examples: int | None = None
    num_val_examples: int = 1024
    num_test_examples: int = 2048
    num_decoded_examples: int = 256
    num_recall_examples: int = 512
    eval_batch_size: int = 256

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_val_examples", "num_test_examples", "eval_batch_size"):
            check_number(f"data.{name}", getattr(self, name), 1)
        check_number("data.num_train_examples", self.num_train_examples, 1, why="null: an endless stream")
        for name in ("seed", "num_workers", "num_decoded_examples", "num_recall_examples"):
            check_number(f"data.{name}", getattr(self, name), 0)

    def check_ranks(self, world_size: int) -> None:
        """Raise UserError where the ranks would not get equal shares."""
        for name in ("batch_size", "num_val_examples", "num_test_examples", "eval_batch_size"):
            if getattr(self, name) % world_size:
                raise UserError(
                    f"data.{name}={getattr(self, name)} is not divisible by {world_size} ranks; "
                    f"allowed: a multiple of {world_size}, or another number of devices"
                )


@dataclass(kw_only=True)
class CurriculumSettings:
    """Sizes of the examples of training, in stages. By default there is one stage, at the sizes of the task.

    `sizes` maps a size of the task to its value in each stage: a whole number, `3-40` for all from 3 to 40, or a list
    of these. Where it has several values, every step draws one; several values of several sizes are drawn together,
    the first with the first. `steps` are the steps with which the second and each further stage begins. The last stage
    may be left out of `sizes`: it is the task at its own sizes, which the last stage must have among its own.
    """

    sizes: dict[str, list[Any]] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)

    MAX_VALUES = 1000
    """Of one size in one stage."""

    def __post_init__(self) -> None:
        if self.steps and not self.sizes:
            raise UserError(f"curriculum.steps={self.steps} needs the sizes: give curriculum.sizes.<size>=[<values>]")
        if self.steps and (min(self.steps) < 1 or any(a >= b for a, b in pairwise(self.steps))):
            raise UserError(f"curriculum.steps={self.steps} must ascend from 1 on: each is where a stage begins")
        allowed = (len(self.steps), len(self.steps) + 1)
        for name, values in self.sizes.items():
            given = f"curriculum.sizes.{name}={values}"
            if not values:
                raise UserError(f"{given} is empty; give at least one value, or leave it out")
            if len(values) not in allowed:
                counts = " or ".join(str(count) for count in allowed if count)
                why = f"curriculum.steps={self.steps} begins {len(self.steps)} more after the first"
                raise UserError(
                    f"{given} has {len(values)} stages; allowed: {counts} ({why}; the last may be left out)"
                )
        if len({len(values) for values in self.sizes.values()}) > 1:
            counts = ", ".join(f"{len(values)} of {name}" for name, values in self.sizes.items())
            raise UserError(f"curriculum.sizes has stages of different number: {counts}; give every size in each")
        self._listed = [self._stage(number) for number in range(len(next(iter(self.sizes.values()), ())))]

    @property
    def lists_last(self) -> bool:
        """Whether `sizes` has the last stage too."""
        return len(self._listed) > len(self.steps)

    def stages(self, own: Mapping[str, Any]) -> list[list[dict[str, int]]]:
        """The sizes from which the steps of each stage draw, also of a last one that was left out.

        `own` are settings of the task, its sizes among them.
        """
        return self._listed if self.lists_last else [*self._listed, [{name: own[name] for name in self.sizes}]]

    def identity(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """What of a curriculum can change a number, whatever its spelling; nothing for the task at its own sizes."""
        stages = self.stages(own)
        is_varied = any(value != own[name] for stage in stages for chosen in stage for name, value in chosen.items())
        return {"stages": stages, "steps": list(self.steps)} if is_varied else {}

    def _stage(self, number: int) -> list[dict[str, int]]:
        values = {name: self._expand(name, stages[number]) for name, stages in self.sizes.items()}
        count = max(map(len, values.values()))
        if odd := [name for name, chosen in values.items() if len(chosen) not in (1, count)]:
            counts = ", ".join(f"{len(chosen)} of {name}" for name, chosen in values.items())
            why = f"they are drawn together: give {odd[0]} one value, or {count}"
            raise UserError(f"curriculum.sizes: stage {number + 1} has values of different number, {counts}; {why}")
        return [{name: chosen[i % len(chosen)] for name, chosen in values.items()} for i in range(count)]

    def _expand(self, name: str, given: Any) -> list[int]:
        """The values that one size has in one stage."""
        expanded: list[int] = []
        for part in given if isinstance(given, list) else [given]:
            found = re.fullmatch(r"(-?\d{1,18})(?:-(\d{1,18}))?", str(part))
            values = range(int(found[1]), int(found[2] or found[1]) + 1) if found else range(0)
            if not values:
                what = "a whole number, a range such as 3-40, or a list of these"
                raise UserError(f"curriculum.sizes.{name}: {part!r} is no value of a stage; allowed: {what}")
            if len(expanded) + len(values) > self.MAX_VALUES:
                raise UserError(f"curriculum.sizes.{name}: {given} are too many values; allowed: {self.MAX_VALUES:,}")
            expanded += values
        if not expanded:
            raise UserError(f"curriculum.sizes.{name}: [] is no stage; give it at least one value")
        return expanded


@dataclass(kw_only=True)
class LogSettings:
    """Logs beside metrics.csv, which is always written. `wandb_mode=auto`: online if logged in, else offline.

    W&B shows the runs of a `group` together; a sweep or a search names its own where none is given, and the `job_type`.
    `wandb_timeout` is how many seconds a run waits for W&B, when it starts and again when it ends.
    """

    wandb: bool = True
    wandb_mode: str = "auto"
    wandb_timeout: int = 30
    project: str = "hybrids"
    group: str | None = None
    job_type: str | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_choice("logger.wandb_mode", self.wandb_mode, ("auto", "online", "offline"))
        check_number("logger.wandb_timeout", self.wandb_timeout, 1, why="seconds")
        if not self.project:
            raise UserError("logger.project= is empty; give the name of a W&B project")


@dataclass(kw_only=True)
class GridSettings:
    """How to evaluate. `sizes` maps a size of the task to the values of the grid; empty: the task's own.

    `backend` is that of all ops; null takes what the run asks for, or `auto` on another kind of device than it had.
    """

    sizes: dict[str, list[int]] = field(default_factory=dict)
    num_examples: int = 512
    num_decoded_examples: int = 64
    batch_size: int = 64
    accelerator: str = "cpu"
    backend: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_examples", "batch_size"):
            check_number(name, getattr(self, name), 1)
        check_number("num_decoded_examples", self.num_decoded_examples, 0, why="0: decode none")

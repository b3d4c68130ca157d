"""The settings of a run and of an evaluation: what each may be and its default, checked where they are made."""

import math
from dataclasses import dataclass, field

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

    `num_train_examples` is null for an endless stream; with a number, so many examples are repeated in order.
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

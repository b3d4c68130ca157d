"""One run: everything that makes it, and the identity that follows from it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from hybrids.block import Choice, Letter
from hybrids.data import DataSettings
from hybrids.logs import LogSettings
from hybrids.optim import OptimSettings
from hybrids.pattern import Pattern
from hybrids.record import RunFolder
from hybrids.registry import defaults_of, name_of
from hybrids.task import DecodedTask, Task


@dataclass(kw_only=True)
class ModelSettings:
    """Width of the model; with tied embeddings the head is the embedding matrix."""

    d_model: int = 64
    tie_embeddings: bool = True


@dataclass(kw_only=True)
class TrainerSettings:
    """How long and on what to train. Validation and a checkpoint come every `val_every` steps.

    `target` ends the run once the validation accuracy reaches it; null trains for all `max_steps`.
    `threads` is the number of CPU threads of one process; null leaves PyTorch's.
    """

    max_steps: int = 1000
    target: float | None = 0.995
    val_every: int = 100
    log_every: int = 20
    precision: str = "32-true"
    compile: bool = False
    accelerator: str = "cpu"
    devices: int = 1
    strategy: str = "auto"
    threads: int | None = None
    progress_bar: bool = True
    profiler: str | None = None

    PRECISIONS = ("32-true", "bf16-mixed")

    def __post_init__(self) -> None:
        for name in ("max_steps", "val_every", "log_every", "devices", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"trainer.{name}={value} must be at least 1")
        if self.target is not None and not 0 < self.target <= 1:
            raise ValueError(f"trainer.target={self.target} must lie in (0, 1], or be null")
        if self.precision not in self.PRECISIONS:
            raise ValueError(f"trainer.precision={self.precision!r} is unknown; allowed: {', '.join(self.PRECISIONS)}")
        if self.accelerator not in ("cpu", "gpu"):
            raise ValueError(f"trainer.accelerator={self.accelerator!r} is unknown; allowed: cpu, gpu")
        if self.strategy not in ("auto", "ddp"):
            raise ValueError(f"trainer.strategy={self.strategy!r} is unknown; allowed: auto, ddp")
        if self.profiler not in (None, "simple", "advanced", "pytorch"):
            raise ValueError(f"trainer.profiler={self.profiler!r} is unknown; allowed: null, simple, advanced, pytorch")

    def check_devices(self) -> None:
        """Raise ValueError where this machine lacks the devices; a run may be evaluated without those it trained on."""
        if self.accelerator == "gpu" and torch.cuda.device_count() < self.devices:
            raise ValueError(
                f"trainer.accelerator=gpu with devices={self.devices}: this machine has {torch.cuda.device_count()} "
                "usable CUDA devices; allowed: that many at most, or trainer=cpu"
            )


@dataclass(kw_only=True)
class Run:
    """Everything that makes a run, resolved: plugin classes chosen, settings checked, nothing built."""

    pattern: Pattern
    letters: Mapping[str, Letter]
    task: Choice[Task]
    model: ModelSettings = field(default_factory=ModelSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    data: DataSettings = field(default_factory=DataSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    logger: LogSettings = field(default_factory=LogSettings)
    seed: int = 0
    runs_dir: Path = Path("runs")
    rerun: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    """The same as plain values, as config.yaml will hold it."""

    @property
    def id(self) -> str:
        """Task, pattern and a hash of `identity`."""
        text = json.dumps(self.identity, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        spelling = self.pattern.compact().replace(":", "~")
        return f"{name_of(self.task.cls)}-{spelling if len(spelling) <= 32 else spelling[:29] + '...'}-{digest}"

    @property
    def folder(self) -> "RunFolder":
        return RunFolder(self.runs_dir / self.id)

    @cached_property
    def backend(self) -> dict[str, str]:
        """Backend of the ops of each letter in use, resolved for the device of the run."""
        device = "cuda" if self.trainer.accelerator == "gpu" else "cpu"
        used = {letter: self.letters[letter].mixer for letter in self.pattern.letters if letter in self.letters}
        with torch.random.fork_rng(devices=[]):
            built = {letter: mixer.build(self.model.d_model) for letter, mixer in used.items() if mixer is not None}
        return {letter: mixer.backend_on(device) for letter, mixer in built.items()}

    @property
    def identity(self) -> dict[str, Any]:
        """The values that can change a number; a setting at its default does not enter.

        So an option that is added later, at the default that keeps the old behaviour, leaves old runs known.
        Loggers, paths, loader workers, devices, threads and ranks do not enter.
        """
        unused = () if issubclass(self.task.cls, DecodedTask) else ("num_decoded_examples",)
        letters = {
            letter: {"mixer": _choice(self.letters[letter].mixer), "channel": _choice(self.letters[letter].channel)}
            for letter in self.pattern.letters
        }
        return {
            "pattern": str(self.pattern),
            "letters": letters,
            "task": _choice(self.task),
            "model": _changed(self.model),
            "optim": _changed(self.optim),
            "data": _changed(self.data, without=("num_workers", *unused)),
            "trainer": _changed(self.trainer, without=_PLACE),
            "precision": self.trainer.precision,
            "backend": self.backend,
            "seed": self.seed,
        }


_PLACE = ("accelerator", "devices", "strategy", "threads", "progress_bar", "profiler", "log_every", "precision")


def _choice(choice: Choice | None) -> dict[str, Any] | None:
    if choice is None:
        return None
    defaults = defaults_of(choice.cls)
    changed = {name: value for name, value in choice.settings.items() if value != defaults[name]}
    return {"name": name_of(choice.cls), **changed}


def _changed(settings: Any, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    default = type(settings)()
    values = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name not in without}
    return {name: value for name, value in values.items() if value != getattr(default, name)}

"""One run: everything that makes it, and the identity that follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hybrids.errors import UserError, suggest
from hybrids.mixer import Mixer
from hybrids.model.block import Choice, Letter
from hybrids.ops.kernels import ChosenBackend, backends_of, check_backend
from hybrids.pattern import Pattern
from hybrids.registry import defaults_of, entry_of, name_of
from hybrids.task import DecodedTask, Task
from hybrids.training.identity import DIGITS, FORMER_DIGITS, PLACE, digest_of
from hybrids.training.process import matmul_precision
from hybrids.training.record import RunFolder
from hybrids.training.settings import (
    CurriculumSettings,
    DataSettings,
    LogSettings,
    ModelSettings,
    OptimSettings,
    TrainerSettings,
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
    curriculum: CurriculumSettings = field(default_factory=CurriculumSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    logger: LogSettings = field(default_factory=LogSettings)
    backend: str = "auto"
    """Of the ops of all mixers that have it; a mixer's own setting `backend` goes before."""
    seed: int = 0
    runs_dir: Path = Path("runs")
    rerun: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    """The same as plain values, as config.yaml will hold it."""
    notes: tuple[str, ...] = ()
    """What was worked out from the settings, to be said when the run starts."""

    def __post_init__(self) -> None:
        check_backend(self.backend)

    @property
    def id(self) -> str:
        """Task, pattern and a digest of `identity`."""
        return self._name(DIGITS)

    def _name(self, digits: int) -> str:
        spelling = self.pattern.compact().replace(":", "~")
        spelling = spelling if len(spelling) <= 32 else spelling[:29] + "..."
        return f"{name_of(self.task.cls)}-{spelling}-{digest_of(self.identity)[:digits]}"

    @property
    def folder(self) -> "RunFolder":
        """Its folder; the one that an earlier version has named, where that holds this run."""
        folder, former = (RunFolder(self.runs_dir / self._name(digits)) for digits in (DIGITS, FORMER_DIGITS))
        is_former = not folder.path.exists() and former.path.exists() and former.holds(self.identity, self.config)
        return former if is_former else folder

    @cached_property
    def backends(self) -> dict[str, dict[str, ChosenBackend]]:
        """Letter in use -> op -> its backend on the device of the run, and why.

        Raises UserError for a backend that cannot run, and for one that no letter has.
        """
        used = {letter: self.letters[letter].mixer for letter in self.pattern.letters if letter in self.letters}
        with torch.random.fork_rng(devices=[]):
            built = {letter: mixer.build(self.model.d_model) for letter, mixer in used.items() if mixer is not None}
        offered = {name for mixer in built.values() for demand in mixer.demands() for name in backends_of(demand.op)}
        if self.backend not in ("auto", "torch", *offered):
            allowed = suggest("", ["auto", *sorted(offered | {"torch"})])
            raise UserError(f"backend={self.backend}: no letter of pattern={self.pattern.compact()} has it; {allowed}")
        return {letter: self._choose(f"mixers.{letter}", mixer) for letter, mixer in built.items()}

    @property
    def backend_names(self) -> dict[str, str]:
        """Letter -> backend of its main op; other ops that run a kernel follow, as in `fla+short_conv:mamba_ssm`."""
        return {letter: _spell(list(choices.items())) for letter, choices in self.backends.items()}

    def choose_backends(self, model: nn.Module) -> None:
        """Give every mixer of a model the backends of this run; UserError as of `backends`."""
        if not self.backends:
            return
        for mixer in model.modules():
            if isinstance(mixer, Mixer):
                self._choose("mixers", mixer)

    def _choose(self, place: str, mixer: Mixer[Any]) -> dict[str, ChosenBackend]:
        device = "cuda" if self.trainer.accelerator == "gpu" else "cpu"
        dtype = torch.bfloat16 if self.trainer.precision == "bf16-mixed" else torch.float32
        try:
            with matmul_precision(tf32=self.trainer.tf32):
                return mixer.choose_backends(self.backend, device=device, dtype=dtype)
        except UserError as error:
            raise UserError(f"{place}: {error}") from error

    def logged_as(self, group: str | None, job_type: str | None) -> "Run":
        """The same run, logged to W&B under these names; its config.yaml says so."""
        names = {"group": group, "job_type": job_type}
        config = {**self.config, "logger": {**self.config.get("logger", {}), **names}}
        return replace(self, logger=replace(self.logger, **names), config=config)

    def on(self, accelerator: str, backend: str | None = None) -> "Run":
        """The same run on one device of a kind, to be evaluated there.

        All its ops ask for `backend`; None asks for what the run asks, or for `auto` on another kind of device.
        """
        moved = replace(self, trainer=replace(self.trainer, accelerator=accelerator, devices=1, num_nodes=1))
        if backend is None and accelerator == self.trainer.accelerator:
            return moved
        letters = {name: letter.without("backend") for name, letter in self.letters.items()}
        return replace(moved, letters=letters, backend=backend or "auto")

    @property
    def identity(self) -> dict[str, Any]:
        """The values that can change a number; a setting at its default does not enter.

        So an option that is added later, at the default that keeps the old behaviour, leaves old runs known. A plugin
        from a file enters with the content of that file, whatever its name and place. Loggers, paths, loader workers,
        devices, threads and ranks do not enter.
        """
        return {**self.asked, "backend": self.backend_names}

    @property
    def asked(self) -> dict[str, Any]:
        """The identity but for the backends, which a machine without its device cannot tell."""
        unused = () if issubclass(self.task.cls, DecodedTask) else ("num_decoded_examples",)
        letters = {
            letter: {
                "mixer": _choice(self.letters[letter].without("backend").mixer),
                "channel": _choice(self.letters[letter].channel),
            }
            for letter in self.pattern.letters
        }
        curriculum = self.curriculum.identity({**defaults_of(self.task.cls), **self.task.settings})
        return {
            "pattern": str(self.pattern),
            "letters": letters,
            "task": _choice(self.task),
            "model": _changed(self.model),
            "optim": _changed(self.optim),
            "data": _changed(self.data, without=("num_workers", *unused)),
            "trainer": _changed(self.trainer, without=PLACE),
            "precision": self.trainer.precision,
            "seed": self.seed,
            **({"curriculum": curriculum} if curriculum else {}),
        }


def _spell(choices: list[tuple[str, ChosenBackend]]) -> str:
    if not choices:
        return "torch"
    (_, main), *others = choices
    return "+".join([main.backend, *(f"{op}:{choice.backend}" for op, choice in others if choice.backend != "torch")])


def _choice(choice: Choice | None) -> dict[str, Any] | None:
    if choice is None:
        return None
    defaults = defaults_of(choice.cls)
    changed = {name: value for name, value in choice.settings.items() if value != defaults[name]}
    entry = entry_of(choice.cls)
    content = {} if entry.file is None else {"file_sha256": entry.file.sha256}
    return {"name": entry.name, **changed, **content}


def _changed(settings: Any, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    default = type(settings)()
    values = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name not in without}
    return {name: value for name, value in values.items() if value != getattr(default, name)}

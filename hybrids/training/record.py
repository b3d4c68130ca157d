"""What a run leaves behind: its folder `runs/<id>` and its result.

config.yaml     every setting, resolved
metrics.csv     step,metric,value; appended to, never rewritten (logs.py)
checkpoints/    the last two
result.json     written once the run has finished; `Result` documents it
wandb/ and tensorboard/, where those logs are on
"""

import difflib
import json
import math
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import torch
import yaml
from filelock import FileLock, Timeout

from hybrids.errors import UserError, printable
from hybrids.training.files import write_file
from hybrids.training.read import read_json, read_yaml
from hybrids.triangle.place import Place

RESULT_VERSION = 1


class Sizes(TypedDict):
    """What a model is and costs at context `context`: one sequence, backbone only, head beside it."""

    parameters: dict[str, int]  # total, embedding (and the head, where it is not tied), backbone
    context: int  # tokens seen before the measured step
    state_elements: int
    state_bits: int  # measured, at the dtype stored
    step_flops: int  # counted on a real step
    step_bytes: int  # parameters and state read by one step
    head_flops: int  # of one position


class Result(Sizes):
    """What result.json holds, version 1."""

    version: int
    id: str
    identity: dict[str, Any]  # the values that the id is a hash of
    code: dict[str, Any]  # commit, hash of uncommitted changes, versions of hybrids, its plugins and libraries
    hardware: dict[str, Any]  # device, cores, threads, ranks
    backend: dict[str, str]  # letter -> backend of its ops
    steps: int  # optimiser steps taken
    examples: int  # training examples seen
    seconds: float  # spent training, over all resumes
    stopped: str  # "target": validation accuracy reached it; "diverged": loss is no number; "max_steps"
    overlap: dict[str, float]  # split -> share of its examples that also occur in training, as far as looked
    chance_accuracy: float
    val: dict[str, float]  # loss (nats), accuracy, exact_match, accuracy/<slice key>=<value>; null: no number
    test: dict[str, float]  # teacher-forced, like val: a task that is decoded has shown the model its reference traces
    decoded: NotRequired[dict[str, float]]  # of a task that is decoded: scores of what the model writes (decode.py)
    triangle: NotRequired[list[Place]]  # at 1, 2 and 4 times the training context; absent in results before it


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.yaml"
        self.metrics_file = path / "metrics.csv"
        self.result_file = path / "result.json"
        self.checkpoint_dir = path / "checkpoints"

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """The folder of a run that was started; UserError where `path` is not one."""
        folder = cls(path)
        if not path.exists():
            near = sorted({*_runs_in(path.parent), *_runs_in(Path("runs"))})
            raise UserError(f"run={path} does not exist; {_suggest_runs(str(path), near)}")
        if not folder.config_file.is_file():
            inside = _suggest_runs(str(path), _runs_in(path))
            raise UserError(f"run={path} is not the folder of a run: it has no config.yaml; {inside}")
        return folder

    def create(self, config: Mapping[str, Any]) -> None:
        """Make the folder and write the configuration."""
        is_new = not self.path.exists()
        try:
            self.checkpoint_dir.mkdir(parents=True, exist_ok=True)
            write_file(self.config_file, yaml.safe_dump(dict(config), sort_keys=False))
        except OSError:
            if is_new:
                shutil.rmtree(self.path, ignore_errors=True)  # nothing half-written stays behind
            raise

    def set_aside(self) -> Path:
        """Rename the folder to the first free `<id>~<n>`, so that the run can be repeated and nothing is lost."""
        number = 1
        while (target := self.path.with_name(f"{self.path.name}~{number}")).exists():
            number += 1
        return self.path.rename(target)

    def read_config(self) -> dict[str, Any]:
        """The settings of the run; UserError where the file is damaged."""
        try:
            return read_yaml(self.config_file)
        except UserError as error:
            raise UserError(f"{self.config_file} is damaged: {error}") from None

    def read_result(self) -> Result | None:
        """The result, None while the run has not finished; UserError for a damaged file or another version."""
        if not self.result_file.exists():
            return None
        try:
            result = read_json(self.result_file)
        except UserError as error:
            raise UserError(f"{self.result_file} is damaged ({error}); rerun=true repeats the run") from None
        if (version := result.get("version")) != RESULT_VERSION:
            allowed = f"this hybrids reads version {RESULT_VERSION}"
            raise UserError(f"{self.result_file} has version {printable(str(version))}; {allowed}")
        return cast(Result, result)

    def write_result(self, result: Result) -> None:
        """Write the result in one move; a score that is not a number, after divergence, becomes null."""
        write_file(self.result_file, json.dumps(_without_nan(result), indent=2, allow_nan=False) + "\n")

    def checkpoints(self) -> list[Path]:
        """Checkpoints, newest first."""
        return sorted(self.checkpoint_dir.glob("step=*.ckpt"), reverse=True)

    def last_checkpoint(self) -> tuple[Path | None, list[str]]:
        """Newest checkpoint that can be read, and a message for every newer one that is damaged.

        None where there is no checkpoint at all; UserError where all are damaged.
        """
        problems = []
        for path in self.checkpoints():
            problem = _damage(path)
            if problem is None:
                return path, problems
            problems.append(f"checkpoint {path} is damaged ({problem})")
        if problems:
            raise UserError("; ".join(problems) + "; none is left to continue from, rerun=true starts afresh")
        return None, []

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out of this run; UserError if one is in it."""
        try:
            with FileLock(self.path / ".lock", blocking=False):
                yield
        except Timeout:
            raise UserError(f"run {self.path} is being trained by another process") from None


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _runs_in(path: Path) -> list[str]:
    return sorted(str(file.parent) for file in path.glob("*/config.yaml"))


def _suggest_runs(given: str, known: list[str]) -> str:
    """The runs that can be meant; of many, the closest ones."""
    if not known:
        return "there are no runs nearby; give the folder of a run: run=runs/<id>"
    shown = known if len(known) <= 10 else difflib.get_close_matches(given, known, n=5, cutoff=0.4) or known[:5]
    return f"runs nearby: {', '.join(shown)}{', ...' if len(shown) < len(known) else ''}"


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file, by its checksums and by loading it; None if it can be used."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:  # PyTorch compresses nothing
                return "it would unpack to more than its size"
            bad = archive.testzip()
            if bad is not None:
                return f"checksum of {bad}"
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'unreadable'}"
    return None

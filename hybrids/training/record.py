"""What a run leaves behind: its folder `runs/<id>` and its result.

config.yaml     every setting, resolved
metrics.csv     step,metric,value; appended to, never rewritten (logs.py)
checkpoints/    the last two
result.json     written once the run has finished, with digests of the rest; `Result` documents it
wandb/ and tensorboard/, where those logs are on
"""

import difflib
import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import yaml
from filelock import FileLock, Timeout

from hybrids.errors import UserError, printable
from hybrids.training.checkpoints import Mark, damage, keep_last, list_checkpoints, steps_of
from hybrids.training.files import remove_drafts, write_file
from hybrids.training.identity import (
    FORMER_DIGITS,
    AnotherRun,
    check_name,
    check_same,
    check_seal,
    comparable,
    digest_of_file,
    seal,
)
from hybrids.training.metrics import check_start, count_rows, drop_metrics
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


class StageRecord(TypedDict):
    """One stage of a curriculum."""

    start: int  # its first step, from 0
    sizes: list[dict[str, int]]  # sizes of the task, of which each step has drawn one
    length: int  # tokens of its longest examples


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
    curriculum: NotRequired[list[StageRecord]]  # its stages; absent where all of training has one size
    val: dict[str, float]  # loss (nats), accuracy, exact_match, accuracy/<slice key>=<value>; null: no number
    test: dict[str, float]  # teacher-forced, like val: a task that is decoded has shown the model its reference traces
    decoded: NotRequired[dict[str, float]]  # of a task that is decoded: scores of what the model writes (decode.py)
    triangle: NotRequired[list[Place]]  # at 1, 2 and 4 times the training context; absent in results before it
    files: NotRequired[dict[str, str]]  # name -> SHA-256 of config.yaml and metrics.csv when the run ended
    rows: NotRequired[int]  # of metrics.csv
    digest: NotRequired[str]  # SHA-256 of all other fields; results of version 0.1 lack these three


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
        """Make the folder, whose lock is held, and write the configuration."""
        self.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, self.checkpoint_dir):
            remove_drafts(folder)
        write_file(self.config_file, yaml.safe_dump(dict(config), sort_keys=False))

    def go_back(self, checkpoint: Path | None, mark: Mark | None) -> None:
        """Make the folder what it was when this checkpoint was saved: what came later is trained and written again.

        Raises UserError where the rows that were written before are others than the `mark` of the checkpoint says.
        """
        steps = 0 if checkpoint is None else steps_of(checkpoint)
        if mark is not None:
            check_start(self.metrics_file, mark.metrics)
        drop_metrics(self.metrics_file, steps)
        if checkpoint is not None:
            keep_last(self.checkpoint_dir, steps)

    def set_aside(self, name: str) -> Path:
        """Rename the folder to the first free `<name>~<n>`, so that the run can be repeated and nothing is lost."""
        number = 1
        while (target := self.path.with_name(f"{name}~{number}")).exists():
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
        try:
            check_seal(result, str(self.result_file))
        except UserError as error:
            raise UserError(f"{error}; {_RERUN}") from None
        if "identity" in result:
            check_name(self.path.absolute(), result["identity"])
        self._check_files(result)
        return cast(Result, result)

    def require_result(self) -> Result:
        """The result; UserError where the run has not finished, too."""
        result = self.read_result()
        if result is None:
            raise UserError(f"run={self.path} has not finished: it has no result.json; the same hybrids train goes on")
        return result

    def _check_files(self, result: Mapping[str, Any]) -> None:
        """UserError where config.yaml or metrics.csv has changed since the run ended."""
        files = result.get("files")
        for name, digest in files.items() if isinstance(files, dict) else ():
            path = self.path / name
            if name not in (self.config_file.name, self.metrics_file.name):
                continue
            if not path.is_file():
                raise UserError(f"{path} is gone, which was there when the run ended; {_RERUN}")
            if digest == digest_of_file(path):
                continue
            written = result.get("rows")
            rows = count_rows(path) if path == self.metrics_file else written
            what = "was changed" if rows == written else f"has {rows} rows of {written}"
            raise UserError(f"{path} {what} since the run ended, as {self.result_file.name} shows; {_RERUN}")

    def write_result(self, result: Result) -> Result:
        """Write the result, with digests, in one move; a score that is NaN, after divergence, becomes null.

        Returns what was written.
        """
        written = [path for path in (self.config_file, self.metrics_file) if path.exists()]
        files = {path.name: digest_of_file(path) for path in written}
        sealed = seal(_without_nan({**result, "files": files, "rows": count_rows(self.metrics_file)}))
        write_file(self.result_file, json.dumps(sealed, indent=2, allow_nan=False) + "\n")
        return cast(Result, sealed)

    def holds(self, identity: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
        """Whether this folder, which has the name of the run, is its own; one that cannot be read counts as that."""
        try:
            self.check_is(identity, config)
        except AnotherRun:
            return False
        except UserError:
            return True
        return True

    def check_is(self, identity: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """AnotherRun where the folder is of another run than the one that has this identity and configuration.

        The checkpoints of an unfinished run are asked when it goes on; those of version 0.1 say nothing, its
        config.yaml does.
        """
        result = self.read_result()
        if result is not None:
            check_same(f"run {self.path}", result.get("identity"), identity, _MOVE)
        elif not self.is_marked and self.config_file.exists():
            there, here = comparable(self.read_config(), config)
            check_same(f"run {self.path}", there, here, _MOVE)

    @property
    def is_marked(self) -> bool:
        """Whether the checkpoints say of which run they are: in all folders but those that version 0.1 has named."""
        return not re.search(rf"-[0-9a-f]{{{FORMER_DIGITS}}}$", self.path.absolute().name)

    def checkpoints(self) -> list[Path]:
        """Checkpoints, newest first."""
        return list_checkpoints(self.checkpoint_dir)

    def last_checkpoint(self) -> tuple[Path | None, list[str]]:
        """Newest checkpoint that can be read, and a message for every newer one that is damaged.

        None where there is no checkpoint at all; UserError where all are damaged.
        """
        problems = []
        for path in self.checkpoints():
            problem = damage(path)
            if problem is None:
                return path, problems
            problems.append(f"checkpoint {path} is damaged ({problem})")
        if problems:
            raise UserError("; ".join(problems) + "; none is left to continue from, rerun=true starts afresh")
        return None, []

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder and keep other processes out of this run; UserError if one is in it.

        A folder that was made here and could not be used is removed: nothing half-written stays behind.
        """
        is_new = not self.path.exists()
        lock_file = self.path / ".lock"
        for path in (lock_file, self.config_file, self.metrics_file, self.result_file, self.checkpoint_dir):
            if path.is_symlink():  # what it points to would be written, or removed
                raise UserError(f"{path} is a link to {path.readlink()}; a run writes into its own folder only")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with FileLock(lock_file, blocking=False):
                yield
        except Timeout:
            raise UserError(f"run {self.path} is being trained by another process") from None
        except OSError:
            if is_new and not self.checkpoints():
                shutil.rmtree(self.path, ignore_errors=True)
            raise


_RERUN = "rerun=true repeats the run"
_MOVE = "move it away, or choose another runs_dir"


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

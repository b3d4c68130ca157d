"""The log of a run in W&B: one W&B run for each run folder, and no failure of W&B costs the training.

The id of the W&B run is drawn when a folder is first logged and is kept there. So an interrupted run goes on in its W&B
run, while `rerun=true` and the same settings in another `runs_dir` start another. What was trained is the field
`identity` of its settings.
"""

import os
import re
import secrets
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from hybrids.errors import UserError
from hybrids.training.files import write_file
from hybrids.training.record import Result
from hybrids.training.settings import LogSettings
from hybrids.training.wandb_result import STEP_KEY, log_result

if TYPE_CHECKING:
    from wandb import Run as WandbRun

ID_FILE = "wandb_id"
"""In the folder of a run: the id of its W&B run."""


Mode = Literal["online", "offline"]

Rows = Mapping[int, Mapping[str, float]]
"""Optimiser step -> metric -> value."""


class WandbLog(Logger):
    """Logs to a W&B run that was started; the first thing that goes wrong there is a warning, and ends the log.

    The W&B step of a row is its optimiser step, or the next free one. W&B may lose the last rows before a kill, and a
    resumed training repeats some: so rows of metrics.csv that W&B lacks are logged first, and none twice. Only where a
    run that was online goes on offline is the server not asked: the rows after the checkpoint may then stand there
    twice, with the same values.
    """

    def __init__(self, run: "WandbRun", rows: Rows, *, logged: int) -> None:
        """`rows` are those of metrics.csv, `logged` the last step that W&B has, -1 for none."""
        super().__init__()
        self.run = run
        self.logged = logged
        self.step = logged + 1
        self.has_failed = False
        for step in sorted(rows):
            self.log_metrics(rows[step], step)
        self.logged = max(logged, *rows, -1)

    @property
    def name(self) -> str:
        return "wandb"

    @property
    def version(self) -> str:
        return self.run.id

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Settings were given when the W&B run was started."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        assert step is not None
        if self.has_failed or step < self.logged:  # of `logged` itself a metric may be missing
            return
        self.step = max(self.step, step)
        with self._forgiving():
            self.run.log({**metrics, STEP_KEY: step}, step=self.step)

    def finish(self, result: Result, *, rate: float) -> None:
        """Log the result and end the W&B run."""
        with self._forgiving():
            log_result(self.run, result, rate=rate)
        with self._forgiving():
            self.run.finish()
        if self.has_failed:
            _stop_service()

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of any kind: the process of W&B may be gone
            if not self.has_failed:
                place = _shown(Path(self.run.settings.sync_dir))
                later = f"`wandb sync --include-online {place}` uploads what is missing"
                rank_zero_warn(f"W&B has not taken the whole log ({_one_line(error)}); {later}")
            self.has_failed = True


def start_wandb(settings: LogSettings, folder: Path, identity: str, config: Mapping[str, Any], rows: Rows) -> WandbLog:
    """The log of a run in its W&B run; where the server cannot be used, a warning and a log offline.

    `identity` is that of the run, and its name in W&B; `rows` are those of its metrics.csv.
    """
    reason = ""
    start = partial(_start, settings, folder, identity, {**config, "identity": identity}, rows)
    for _ in range(2):  # again where the W&B run of this folder was deleted
        try:
            return start(mode="online" if is_online(settings) else "offline")
        except Exception as error:
            reason = _one_line(error)
            _stop_service()
        if _DELETED not in reason:
            break
        rank_zero_warn(f"the W&B run {_find_id(folder, identity)} was deleted on the server; {folder} starts another")
        _draw_id(folder)
    later = f"`wandb sync {_shown(folder / 'wandb')}` uploads it once that is mended"
    rank_zero_warn(f"W&B cannot be used ({reason}); logging offline, {later}")
    return start(mode="offline")


def check_names(settings: LogSettings) -> None:
    """UserError for a project, group or job type that W&B refuses."""
    import wandb

    names = {"project": settings.project, "run_group": settings.group, "run_job_type": settings.job_type}
    for name, value in names.items():
        try:
            wandb.Settings(**{name: value})
        except (ValueError, wandb.Error) as error:  # the latter for what pydantic does not judge
            reason = _one_line(error)
            raise UserError(f"logger.{name.removeprefix('run_')} is refused by W&B: {reason}") from None


def is_wanted(settings: LogSettings) -> bool:
    """Whether there is to be a W&B log at all: WANDB_MODE=disabled, which tests of other programs set, says no."""
    return settings.wandb and (settings.wandb_mode != "auto" or os.environ.get("WANDB_MODE") != "disabled")


def is_online(settings: LogSettings) -> bool:
    """What the settings say; for `auto` what WANDB_MODE says, else whether W&B finds a login of this user."""
    if settings.wandb_mode != "auto":
        return settings.wandb_mode == "online"
    if "WANDB_MODE" in os.environ:
        return os.environ["WANDB_MODE"] not in ("offline", "dryrun", "disabled")
    import wandb

    wandb.setup(wandb.Settings(silent=True))  # or asking for a login says who it is, and asks the server for that
    return wandb.login(prompt=False, verify=False)


def end_failed_log() -> None:
    """End the W&B log of a run that failed, or it would stay open until the process ends."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        try:
            wandb.finish(exit_code=1)
        except Exception:  # of any kind, as above; what the run failed of is being told
            _stop_service()


def _start(
    settings: LogSettings, folder: Path, identity: str, config: Mapping[str, Any], rows: Rows, *, mode: Mode
) -> WandbLog:
    import wandb

    wandb_id = _find_id(folder, identity)
    old = [OldLog(path) for path in folder.glob(f"wandb/*run-*-{wandb_id}/*.wandb")]
    run = wandb.init(
        project=settings.project,
        name=identity,
        id=wandb_id,
        dir=folder,
        mode=mode,
        resume="allow" if mode == "online" else None,
        group=settings.group,
        job_type=settings.job_type,
        config=dict(config),
        reinit="finish_previous",  # or a run that failed would be written into
        settings=wandb.Settings(
            init_timeout=settings.wandb_timeout,
            finish_timeout=settings.wandb_timeout,
            finish_timeout_raises=True,
            silent=True,
        ),
    )
    run.define_metric(STEP_KEY)
    run.define_metric("*", step_metric=STEP_KEY, step_sync=True)
    if mode == "offline" and any(log.may_be_on_server for log in old):
        return WandbLog(run, rows, logged=max(rows, default=-1))  # what the server has is not known
    for log in old:
        log.replace()
    return WandbLog(run, rows, logged=run.starting_step - 1)


@dataclass(frozen=True)
class OldLog:
    """A file that W&B keeps of an earlier start of a run, in a folder `run-<time>-<id>`, or `offline-run-...`.

    Once it is synchronised, W&B puts an empty file beside it, and leaves it out from then on.
    """

    path: Path

    @property
    def mark(self) -> Path:
        return self.path.with_suffix(".wandb.synced")

    @property
    def may_be_on_server(self) -> bool:
        return not self.path.parent.name.startswith("offline-") or (self.mark.exists() and not self.mark.stat().st_size)

    def replace(self) -> None:
        """Let W&B leave it out: another log repeats it."""
        if not self.may_be_on_server:
            self.mark.write_text("replaced by a later log of the same run\n", encoding="utf-8")


_DELETED = "previously created and deleted"
"""What the W&B server says of the id of a run that a user has deleted; it takes such an id never again."""


def _find_id(folder: Path, identity: str) -> str:
    """The id of the W&B run of a folder; folders that were logged before there was one keep the identity for it."""
    file = folder / ID_FILE
    if file.is_file() and re.fullmatch(r"[\w.~+-]{1,128}", kept := file.read_text(encoding="utf-8").strip()):
        return kept
    is_old = any(folder.glob(f"wandb/*run-*-{identity}"))
    return _keep_id(folder, identity) if is_old else _draw_id(folder)


def _draw_id(folder: Path) -> str:
    return _keep_id(folder, secrets.token_hex(8))


def _keep_id(folder: Path, wandb_id: str) -> str:
    write_file(folder / ID_FILE, wandb_id + "\n")
    return wandb_id


def _stop_service() -> None:
    """End the process of W&B with all that is open in it, or the next run of this process would meet that."""
    import wandb

    with suppress(Exception, SystemExit):  # the latter is W&B's own, where its process has failed
        wandb.teardown()
    wandb.run = None


def _shown(path: Path) -> str:
    """A path to be typed, relative where that is shorter."""
    return shlex.quote(min(str(path), os.path.relpath(path), key=len))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

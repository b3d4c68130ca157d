"""Where a run's numbers go while it trains: metrics.csv, W&B, TensorBoard, the progress bar."""

import csv
import logging
import os
import warnings
from argparse import Namespace
from dataclasses import dataclass
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from hybrids.errors import check_choice, check_number
from hybrids.training.files import naming_full_disk
from hybrids.training.metrics import HEADER


@dataclass(kw_only=True)
class LogSettings:
    """Logs beside metrics.csv, which is always written. `wandb_mode=auto`: online if logged in, else offline.

    W&B shows the runs of a `group` together; a sweep or a search names its own where none is given, and the `job_type`.
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


class MetricsFile(Logger):
    """Appends `step,metric,value` rows to one CSV file, which metrics.py reads.

    A run that goes on begins with a file that ends with a whole row (`drop_metrics`).
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> int:
        return 0

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Settings are in config.yaml already."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        with naming_full_disk(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            if file.tell() == 0:
                rows.writerow(HEADER)
            rows.writerows((step, name, value) for name, value in metrics.items() if name != "epoch")


def build_loggers(settings: LogSettings, folder: Path, run_id: str, config: dict[str, Any]) -> list[Logger]:
    """The metrics file first, then what the settings ask for."""
    loggers: list[Logger] = [MetricsFile(folder / "metrics.csv")]
    if settings.tensorboard:
        loggers.append(TensorBoardLogger(save_dir=folder, name=None, version="tensorboard"))
    if settings.wandb:
        loggers.append(_start_wandb(settings, folder, run_id, config))
    return loggers


def _start_wandb(settings: LogSettings, folder: Path, run_id: str, config: dict[str, Any]) -> WandbLogger:
    """A W&B log of this run; a server that cannot be reached is a warning, and the log is kept offline."""
    import wandb
    from wandb.errors import Error as WandbError

    def start(*, offline: bool) -> WandbLogger:
        logger = WandbLogger(
            project=settings.project,
            name=run_id,
            id=run_id,
            save_dir=folder,
            offline=offline,
            group=settings.group,
            job_type=settings.job_type,
            resume=None if offline else "allow",
            config=config,
            settings=wandb.Settings(init_timeout=settings.wandb_timeout, silent=True),
        )
        _ = logger.experiment  # connects now; on other ranks a stand-in
        return logger

    if is_online(settings):
        try:
            return start(offline=False)
        except WandbError as error:
            wandb.teardown()  # or the id of the run stays in use
            reason = " ".join(str(error).split())
            rank_zero_warn(f"W&B cannot be reached ({reason}); logging offline, `wandb sync` uploads it later")
    return start(offline=True)


def is_online(settings: LogSettings) -> bool:
    """What the settings say; for `auto` what WANDB_MODE says, else whether W&B has a key of this user."""
    if settings.wandb_mode != "auto":
        return settings.wandb_mode == "online"
    if "WANDB_MODE" in os.environ:
        return os.environ["WANDB_MODE"] not in ("offline", "dryrun")  # the latter set by Lightning's offline logger
    return "WANDB_API_KEY" in os.environ or _has_netrc_key()


def _has_netrc_key() -> bool:
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return host is not None and netrc().authenticators(host) is not None
    except (FileNotFoundError, NetrcParseError):
        return False


class StepProgressBar(TQDMProgressBar):
    """Lightning's bar for training alone, counting towards `max_steps` though the epoch has no end."""

    @property
    def total_train_batches(self) -> int | float:
        return self.trainer.max_steps

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description("training")

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    init_test_tqdm = init_validation_tqdm

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}


FOREIGN_WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\).* is deprecated",  # lightning 2.6 on torch 2.13, seen 2026-11
    r"Pydantic V1 style `@validator` validators are deprecated",  # wandb-workspaces 0.4.13 on pydantic 2.14, 2026-11
    r"Checkpoint directory .* exists and is not empty",  # lightning 2.6, seen 2026-11: a resumed run, as meant
)
"""Messages of other packages that say nothing to our users, as regular expressions, each with when it was seen."""


def silence_foreign_messages() -> None:
    """Hide what Lightning says about itself, and the warnings listed above."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in FOREIGN_WARNINGS:
        warnings.filterwarnings("ignore", message=message)

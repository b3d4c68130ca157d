"""Where a run's numbers go while it trains: metrics.csv, W&B, TensorBoard, the progress bar."""

import csv
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from hybrids.training import progress
from hybrids.training.files import naming_full_disk
from hybrids.training.metrics import HEADER, read_rows
from hybrids.training.settings import LogSettings
from hybrids.training.wandb_log import is_wanted, start_wandb


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


class OneTensorBoardFile(TensorBoardLogger):
    """Lightning's closes its file after training, after each validation and after the test, and then begins another.

    This one is closed by `finish`, once a run has ended.
    """

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.experiment.flush()

    @rank_zero_only
    def finish(self) -> None:
        self.experiment.close()


def build_loggers(
    settings: LogSettings, folder: Path, run_id: str, config: dict[str, Any], *, is_first: bool = True
) -> list[Logger]:
    """The metrics file first, then what the settings ask for; W&B on the first rank only."""
    metrics = MetricsFile(folder / "metrics.csv")
    loggers: list[Logger] = [metrics]
    if settings.tensorboard:
        loggers.append(OneTensorBoardFile(save_dir=folder, name=None, version="tensorboard"))
    if is_first and is_wanted(settings):
        loggers.append(start_wandb(settings, folder, run_id, config, read_rows(metrics.path)))
    return loggers


class StepProgressBar(TQDMProgressBar):
    """Lightning's bar for training alone, on stderr, counting to `max_steps` though its epoch has no end.

    Its line fits 80 columns. Where stderr is no terminal it is one line a minute instead.
    """

    BAR_FORMAT = "{desc} {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"

    @property
    def total_train_batches(self) -> int | float:
        return self.trainer.max_steps

    @property
    def is_disabled(self) -> bool:
        return super().is_disabled or not sys.stderr.isatty()

    def init_train_tqdm(self) -> Tqdm:
        self.since = self.told = time.monotonic()
        return Tqdm(
            disable=self.is_disabled,
            leave=True,
            dynamic_ncols=True,
            file=sys.stderr,
            smoothing=0,
            bar_format=self.BAR_FORMAT,
            initial=self.trainer.global_step,
        )

    def on_train_start(self, *args: Any) -> None:
        """In a run that goes on, no epoch starts: Lightning goes on within one."""
        super().on_train_start(*args)
        self.first = self.trainer.global_step
        self._begin()

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self._begin()

    def _begin(self) -> None:
        self.train_progress_bar.total, self.train_progress_bar.initial = self.trainer.max_steps, self.first
        self.train_progress_bar.set_description("training")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        now = time.monotonic()
        done, steps = trainer.global_step - self.first, trainer.max_steps
        if self.is_enabled and self.is_disabled and done and now - self.told >= progress.LINES_APART:
            self.told = now
            left = (now - self.since) / done * (steps - trainer.global_step)
            found = self.get_metrics(trainer, pl_module)
            metrics = ", ".join(f"{name}={float(value):.3g}" for name, value in found.items())
            told = f"step {trainer.global_step:,} of {steps:,}, at most {left:,.0f} s left"
            print(f"training: {told}{metrics and f', {metrics}'}", file=sys.stderr, flush=True)

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    init_test_tqdm = init_validation_tqdm

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Accuracy first, which a narrow terminal must not cut off."""
        metrics = super().get_metrics(trainer, pl_module)
        shown = {name: value for name, value in metrics.items() if name != "v_num"}
        return dict(sorted(shown.items(), key=lambda item: item[0] != "val/accuracy"))

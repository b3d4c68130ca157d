"""What a run remembers in its checkpoints beside the weights: why it stops, and how long it has trained."""

import math
import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class StopEarly(Callback):
    """Ends training once the validation accuracy reaches the target, or the loss is no number any more.

    A target counts only after a step of the last stage of a curriculum, which begins with step `last_start`.
    Remembered in checkpoints, so that a run resumed just after that does not train on.
    """

    def __init__(self, target: float | None, *, last_start: int = 0) -> None:
        self.target, self.last_start = target, last_start
        self.reason: str | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop |= self.reason is not None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        scores = scores_of(trainer.callback_metrics, "val")
        if not math.isfinite(scores["loss"]):
            self.reason = "diverged"
        elif self.target is not None and scores["accuracy"] >= self.target and trainer.global_step > self.last_start:
            self.reason = "target"
        trainer.should_stop |= self.reason is not None

    def state_dict(self) -> dict[str, Any]:
        return {"reason": self.reason}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.reason = state_dict["reason"]


class Clock(Callback):
    """Seconds spent training, over all resumes."""

    def __init__(self) -> None:
        self.before = 0.0
        self.start = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.start

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before = state_dict["seconds"]


def scores_of(metrics: Mapping[str, Any], split: str) -> dict[str, float]:
    """The scores of one split, by their names without it."""
    prefix = f"{split}/"
    return {name.removeprefix(prefix): float(value) for name, value in metrics.items() if name.startswith(prefix)}

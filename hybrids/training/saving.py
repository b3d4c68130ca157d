"""When and how Lightning saves the checkpoints of a run."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from hybrids.training.checkpoints import MARK, Mark, keep_last, write_mark
from hybrids.training.files import drafted
from hybrids.training.metrics import describe_start


class CheckpointFiles(CheckpointIO):
    """Lightning's way to the files: it writes them beside their place, and reads only what has been checked before.

    Lightning's own drafts them in the folder for temporary files and trusts all that it reads.
    """

    def __init__(self, resumed: Mapping[str, Any] | None) -> None:
        self.resumed = resumed

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = BytesIO()  # torch.save tells nothing of a full disk
        torch.save(checkpoint, buffer)
        with drafted(Path(path)) as file:
            file.write(buffer.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        assert self.resumed is not None
        resumed, self.resumed = dict(self.resumed), None  # not kept in memory for the whole run
        return resumed

    def remove_checkpoint(self, path: Any) -> None:
        raise AssertionError("keep_last removes checkpoints")


class SaveCheckpoints(Checkpoint):
    """Saves after each validation, so that a resumed run repeats none, and keeps the last.

    What Lightning's own ModelCheckpoint restores are the names of files that it will delete; here it is a number.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], metrics: Path) -> None:
        self.folder, self.identity, self.metrics = folder, identity, metrics
        self.validated = 0
        """Steps before the last validation that was completed: a signal may have ended the run in the next one."""

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Mark the checkpoint with its run, and with the rows that were written before it."""
        if trainer.is_global_zero:  # which alone writes
            checkpoint[MARK] = write_mark(Mark(self.identity, describe_start(self.metrics)))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self.validated = trainer.global_step
            self.save(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"validated": self.validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.validated = state_dict["validated"]

    def save(self, trainer: Trainer) -> None:
        """Save the state after the steps taken so far; on all ranks."""
        steps = trainer.global_step
        trainer.save_checkpoint(self.folder / f"step={steps:08d}.ckpt")
        if trainer.is_global_zero:
            keep_last(self.folder, steps)

"""The LightningModule: loss and answers of a model on a task, and what is measured on them."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import Metric

from hybrids.model.model import Model
from hybrids.ops.precision import compute_dtype
from hybrids.task import Batch, Task
from hybrids.training.optim import build_optimizer, build_schedule
from hybrids.training.settings import OptimSettings


class AnswerMetrics(Metric):
    """Accuracy per answer, exact match per example, mean loss, and accuracy per value of every slice key.

    Counts stay on the device and are summed over ranks; nothing is read before `compute`.
    """

    full_state_update = False

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.slice_values = task.slice_values
        for name in ("correct", "answers", "exact", "examples"):
            self.add_state(name, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("loss", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.correct: Tensor
        self.answers: Tensor
        self.exact: Tensor
        self.examples: Tensor
        self.loss: Tensor
        for key, values in self.slice_values.items():
            self.add_state(f"correct_{key}", torch.zeros(len(values), dtype=torch.long), dist_reduce_fx="sum")
            self.add_state(f"answers_{key}", torch.zeros(len(values), dtype=torch.long), dist_reduce_fx="sum")
            self.register_buffer(f"values_{key}", torch.tensor(values), persistent=False)

    def update(self, loss: Float[Tensor, ""], correct: Bool[Tensor, "B P"], batch: Batch) -> None:
        """Add one batch: its mean loss over valid answers, and which answers are right."""
        is_right = correct & batch.valid
        right, asked = is_right.sum(dim=1), batch.valid.sum(dim=1)
        self.correct += right.sum()
        self.answers += asked.sum()
        self.exact += (right == asked).sum()
        self.examples += len(asked)
        self.loss += loss.double() * asked.sum()
        for key in self.slice_values:
            values = batch.slices[key]
            counts = (right, asked) if values.dim() == 1 else (is_right.long(), batch.valid.long())
            place = torch.searchsorted(getattr(self, f"values_{key}"), values.flatten().contiguous())
            getattr(self, f"correct_{key}").index_add_(0, place, counts[0].flatten())
            getattr(self, f"answers_{key}").index_add_(0, place, counts[1].flatten())

    def compute(self) -> dict[str, float]:
        """`loss`, `accuracy`, `exact_match`, and `accuracy/<key>=<value>` for the values that occurred."""
        scores = {
            "loss": float(self.loss / self.answers),
            "accuracy": float(self.correct / self.answers),
            "exact_match": float(self.exact / self.examples),
        }
        for key, values in self.slice_values.items():
            counts = zip(
                values, getattr(self, f"correct_{key}").tolist(), getattr(self, f"answers_{key}").tolist(), strict=True
            )
            scores |= {f"accuracy/{key}={value}": right / asked for value, right, asked in counts if asked}
        return scores


class LitModel(LightningModule):
    """Trains a `Model` on the answers of a `Task`."""

    def __init__(self, model: Model, task: Task, optim: OptimSettings, *, max_steps: int, log_every: int) -> None:
        super().__init__()
        self.model = model
        self.optim = optim
        self.max_steps = max_steps
        self.log_every = log_every
        self.compiled: Callable[..., Any] | None = None
        """The backbone that training steps go through; all else, at other sizes, goes through the model as it is."""
        self.check_stop: Callable[[], None] = lambda: None
        """Raises where the run is to end; asked before each batch of an evaluation (TaskData: of training)."""
        self.describe_step: Callable[[int], Mapping[str, float]] = lambda step: {}
        """What is logged of a training step beside its loss and learning rate: its sizes, in a curriculum."""
        self.repeats_validation = False
        """Whether the scores of a validation have been logged before."""
        self.use_task(task)

    def use_task(self, task: Task) -> None:
        """Measure answers to this task from now on (evaluation at other sizes)."""
        self.metrics = AnswerMetrics(task)

    def training_step(self, batch: Batch, batch_idx: int) -> Float[Tensor, ""]:
        loss, _ = self.model.answer(batch, self.compiled)
        if self.trainer.world_size > 1:
            loss = loss * self._share_of_answers(batch)
        if (self.global_step + 1) % self.log_every == 0:  # each time, the device must be waited for
            self.log("train/loss", loss.detach(), prog_bar=True, sync_dist=True)
            self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"])
            for name, value in self.describe_step(self.global_step).items():
                self.log(f"train/{name}", value)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.check_stop()  # here Lightning takes a validation as begun, and repeats it when the run goes on
        self._measure(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.check_stop()
        self._measure(batch)

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.model, self.optim)
        schedule = build_schedule(optimizer, self.optim, self.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip by norm; Lightning's own refuses a fused optimiser under bf16, where there is nothing to unscale."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.optim.grad_clip)

    def _share_of_answers(self, batch: Batch) -> Float[Tensor, ""]:
        """How many times as many answers this rank has as the ranks have on average; 1 where all have as many.

        Losses and gradients of the ranks are averaged, and each is a mean over its own answers: weighted by this, the
        average is the mean over all answers, which is what one device trains on.
        """
        asked = batch.valid.sum(dtype=compute_dtype(self.model.embedding.weight))
        of_all = self.trainer.strategy.reduce(asked.clone(), reduce_op="sum")
        return asked * self.trainer.world_size / of_all.clamp(min=1)

    def _measure(self, batch: Batch) -> None:
        loss, correct = self.model.answer(batch)
        self.metrics.update(loss, correct, batch)

    def _report(self, split: str) -> None:
        scores = self.metrics.compute()
        self.metrics.reset()
        logger = False if split == "val" and self.repeats_validation else None
        for name, value in scores.items():
            self.log(f"{split}/{name}", value, prog_bar=name == "accuracy", sync_dist=True, logger=logger)

"""What ranks train on together is what one device trains on, however many answers each has."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hybrids.task import Batch, Split
from hybrids.training.lit import LitModel
from hybrids.training.train import build_model


def losses_and_gradients(lit: LitModel, batch: Batch, world_size: int, answers: int) -> list[torch.Tensor]:
    """Of one rank's training step; its strategy sums over ranks."""
    strategy = SimpleNamespace(reduce=lambda asked, reduce_op: torch.full_like(asked, answers))
    trainer: Any = SimpleNamespace(world_size=world_size, strategy=strategy, global_step=0)
    lit._trainer = trainer
    loss = lit.training_step(batch, 0)
    return [loss.detach(), *torch.autograd.grad(loss, list(lit.model.parameters()))]


def part(batch: Batch, rows: slice) -> Batch:
    slices = {key: values[rows] for key, values in batch.slices.items()}
    return Batch(batch.tokens[rows], batch.positions[rows], batch.targets[rows], batch.valid[rows], slices)


@pytest.mark.parametrize("segments", ["[[8,1,1],[16,4,1]]", "null"])
def test_means_over_ranks_are_those_over_all_answers(make_run, segments):
    run = make_run("pattern=L", "task.num_pairs=4", f"task.segments={segments}")
    task = run.task.build()
    batch = task.sample(torch.arange(12), seed=0, split=Split.TRAIN)
    lit = LitModel(build_model(run, task), task, run.optim, max_steps=1, log_every=2).double()
    expected = losses_and_gradients(lit, batch, 1, 0)
    answers, ranks = int(batch.valid.sum()), [part(batch, slice(0, 6)), part(batch, slice(6, 12))]
    assert (ranks[0].valid.sum() != ranks[1].valid.sum()) == (segments != "null")
    each = [losses_and_gradients(lit, rank, 2, answers) for rank in ranks]
    averages = [(a + b) / 2 for a, b in zip(*each, strict=True)]
    torch.testing.assert_close(averages, expected, rtol=1e-10, atol=1e-12)

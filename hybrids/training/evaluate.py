"""Evaluate a trained run on a grid of task sizes, also beyond those it was trained on."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from torch import Tensor

from hybrids.errors import UserError, suggest
from hybrids.model.model import Model
from hybrids.task import Task
from hybrids.training.checkpoints import load, read_mark
from hybrids.training.data import TaskData
from hybrids.training.grid import GridCell
from hybrids.training.identity import check_same
from hybrids.training.lit import LitModel
from hybrids.training.measurements import decode_first
from hybrids.training.memory import check_evaluation
from hybrids.training.process import keep_freed_memory, matmul_precision, set_threads
from hybrids.training.progress import tracked
from hybrids.training.record import RunFolder
from hybrids.training.resume import load_weights
from hybrids.training.run import Run
from hybrids.training.settings import DataSettings, GridSettings, TrainerSettings
from hybrids.training.train import build_model, log_backends


def evaluate_grid(run: Run, folder: RunFolder, settings: GridSettings) -> list[GridCell]:
    """Test scores of the last good checkpoint for every combination of sizes.

    Raises UserError for a run without a usable checkpoint and for a size that the task does not have.
    """
    TrainerSettings(accelerator=settings.accelerator).check_devices()
    run = run.on(settings.accelerator, settings.backend)
    keep_freed_memory()
    set_threads(settings.threads)
    task = run.task.build()
    grid = _grid(task, settings.sizes)
    data = DataSettings(
        seed=run.data.seed,
        batch_size=settings.batch_size,
        eval_batch_size=settings.batch_size,
        num_test_examples=settings.num_examples,
        num_decoded_examples=settings.num_decoded_examples,
    )
    lit = load_model(run, folder, task)
    log_backends(run)
    trainer = make_trainer(run)
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    with matmul_precision(tf32=run.trainer.tf32):
        cells = [
            _evaluate_cell(trainer, lit, task, chosen, replace(run, data=data))
            for chosen in tracked(combinations, "evaluating")
        ]
    if all(cell.reason for cell in cells):
        raise UserError(f"no combination of these sizes fits; the first: {cells[0].reason}")
    return cells


def make_trainer(run: Run) -> Trainer:
    """What tests a model on the device and in the precision of a run, and leaves nothing behind."""
    return Trainer(
        accelerator=run.trainer.accelerator,
        devices=1,
        precision=run.trainer.precision,  # type: ignore[arg-type]
        plugins=[LightningEnvironment()],  # alone, whoever has started this process
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )


def _grid(task: Task, sizes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Values of every size of the task, those of `sizes` in place of its own."""
    for name, values in sizes.items():
        if name not in task.sizes:
            raise UserError(f"sizes.{name} is no size of this task; {suggest(name, task.sizes)}")
        if not values:
            raise UserError(f"sizes.{name}=[] is empty; give at least one value")
    return {**task.sizes, **{name: tuple(values) for name, values in sizes.items()}}


def load_model(run: Run, folder: RunFolder, task: Task) -> LitModel:
    """The model of a run with the weights of its last good checkpoint."""
    checkpoint, problems = folder.last_checkpoint()
    for problem in problems:
        print(f"{problem}; evaluating {checkpoint}")
    if checkpoint is None:
        raise UserError(f"run={folder.path} has no checkpoint yet; train it for at least {run.trainer.val_every} steps")
    if folder.read_result() is None:
        print(f"run {folder.path} has not finished; evaluating {checkpoint.name}")
    content = load(checkpoint)
    mark = read_mark(content, checkpoint, is_needed=folder.is_marked)
    if mark is not None:
        there = {name: value for name, value in mark.identity.items() if name != "backend"}
        check_same(f"checkpoint {checkpoint}", there, run.asked, f"or {folder.config_file.name} was changed")
    _check_width(run, task, content, checkpoint)  # before a model of any width is built
    lit = LitModel(
        build_model(run, task), task, run.optim, max_steps=run.trainer.max_steps, log_every=run.trainer.log_every
    )
    try:
        load_weights(content, lit)
    except UserError as error:
        raise UserError(f"checkpoint {checkpoint} is not of this run: {error}") from None
    return lit


@contextmanager
def model_in_use(run: Run, folder: RunFolder, task: Task) -> Iterator[Model]:
    """The trained model of a run, within it on the device and in the precision of the run."""
    lit = load_model(run, folder, task).eval()
    log_backends(run)
    trainer = make_trainer(run)
    lit.to(trainer.strategy.root_device)
    with matmul_precision(tf32=run.trainer.tf32), trainer.precision_plugin.forward_context():
        yield lit.model


_EMBEDDING = "model.embedding.weight"


def _check_width(run: Run, task: Task, content: Any, checkpoint: Path) -> None:
    weights = content.get("state_dict") if isinstance(content, Mapping) else None
    embedding = weights.get(_EMBEDDING) if isinstance(weights, Mapping) else None
    settings = (task.vocab_size, run.model.d_model)
    found = tuple(embedding.shape) if isinstance(embedding, Tensor) else None
    if found != settings:
        is_of = "has no embedding" if found is None else f"embeds {found[0]} tokens in {'x'.join(map(str, found[1:]))}"
        given = f"config.yaml {settings[0]} tokens in model.d_model={settings[1]}"
        raise UserError(f"checkpoint {checkpoint} is of another model: it {is_of}, {given}")


def _evaluate_cell(trainer: Trainer, lit: LitModel, task: Task, sizes: Mapping[str, int], run: Run) -> GridCell:
    settings = run.data
    try:
        resized = task.resize(**sizes)
        check_evaluation(run, resized)
    except UserError as error:
        return GridCell(sizes, None, None, None, str(error))
    if resized.vocab_size != task.vocab_size:
        return GridCell(sizes, None, None, None, f"needs a vocabulary of {resized.vocab_size}")
    lit.use_task(resized)
    scores = trainer.test(lit, datamodule=TaskData(resized, settings), verbose=False)[0]
    decoded = decode_first(lit, resized, settings, trainer)
    return GridCell(sizes, scores["test/accuracy"], scores["test/exact_match"], scores["test/loss"], decoded=decoded)

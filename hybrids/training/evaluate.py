"""Evaluate a trained run on a grid of task sizes, also beyond those it was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from torch import Tensor

from hybrids.errors import UserError, check_number, suggest
from hybrids.task import Task
from hybrids.training.checkpoints import load, read_mark
from hybrids.training.data import DataSettings, TaskData
from hybrids.training.files import to_csv, write_file
from hybrids.training.identity import check_same
from hybrids.training.lit import LitModel
from hybrids.training.measurements import decode_first
from hybrids.training.memory import check_evaluation
from hybrids.training.process import keep_freed_memory, matmul_precision, set_threads
from hybrids.training.record import RunFolder
from hybrids.training.resume import load_weights
from hybrids.training.run import Run, TrainerSettings
from hybrids.training.train import build_model, log_backends


@dataclass(frozen=True)
class GridCell:
    """Scores of one combination of sizes; None where the task refuses it, with the reason.

    Those of a task that is decoded are teacher-forced; `decoded` holds what the model makes of it on its own.
    """

    sizes: Mapping[str, int]
    accuracy: float | None
    exact_match: float | None
    loss: float | None
    reason: str = ""
    decoded: Mapping[str, float] = field(default_factory=dict)


@dataclass(kw_only=True)
class GridSettings:
    """How to evaluate. `sizes` maps a size of the task to the values of the grid; empty: the task's own.

    `backend` is that of all ops; null takes what the run asks for, or `auto` on another kind of device than it had.
    """

    sizes: dict[str, list[int]] = field(default_factory=dict)
    num_examples: int = 512
    num_decoded_examples: int = 64
    batch_size: int = 64
    accelerator: str = "cpu"
    backend: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_examples", "batch_size"):
            check_number(name, getattr(self, name), 1)
        check_number("num_decoded_examples", self.num_decoded_examples, 0, why="0: decode none")


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
        cells = [_evaluate_cell(trainer, lit, task, chosen, replace(run, data=data)) for chosen in combinations]
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


def decoded_scores(cells: Sequence[GridCell]) -> list[str]:
    """Names of the scores of decoding; none where nothing was decoded."""
    return list(dict.fromkeys(name for cell in cells for name in cell.decoded))


def share_of_none(cells: Sequence[GridCell], alternatives: str) -> list[tuple[dict[str, int], float]]:
    """For each combination of the other sizes, how often none of the measured values of `alternatives` is met.

    Values of this size ask for different answers to the same prompts, so that exact matches exclude each other.
    """
    met: dict[tuple[tuple[str, int], ...], float] = {}
    for cell in cells:
        if cell.exact_match is not None:
            others = tuple((name, value) for name, value in cell.sizes.items() if name != alternatives)
            met[others] = met.get(others, 0.0) + cell.exact_match
    return [(dict(others), 1 - share) for others, share in met.items()]


def write_grid(cells: Sequence[GridCell], path: Path) -> None:
    """One CSV row per combination; empty scores where the task refused it."""
    names = decoded_scores(cells)
    columns = [*cells[0].sizes, "accuracy", "exact_match", "loss", *(f"decoded/{name}" for name in names), "reason"]
    rows = []
    for cell in cells:
        decoded = [cell.decoded.get(name) for name in names]
        rows.append([*cell.sizes.values(), cell.accuracy, cell.exact_match, cell.loss, *decoded, cell.reason])
    write_file(path, to_csv(columns, rows))

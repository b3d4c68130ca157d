"""Train and evaluate one run with Lightning: start or continue it, test it, write its result."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_warn

from hybrids.model.model import Model
from hybrids.task import Task
from hybrids.training.callbacks import Clock, StopEarly, scores_of
from hybrids.training.checkpoints import load, read_mark
from hybrids.training.curriculum import Curriculum
from hybrids.training.data import TaskData
from hybrids.training.identity import check_same
from hybrids.training.lit import LitModel
from hybrids.training.logs import OneTensorBoardFile, StepProgressBar, build_loggers
from hybrids.training.measurements import decode_first, find_overlap, measure_sizes, place_in_triangle
from hybrids.training.memory import check_length, check_run, told_in_a_sentence
from hybrids.training.process import keep_freed_memory, matmul_precision, set_threads
from hybrids.training.progress import busy
from hybrids.training.provenance import describe_code, name_cpu
from hybrids.training.ranks import find_ranks
from hybrids.training.record import RESULT_VERSION, Result, RunFolder
from hybrids.training.resume import take_over
from hybrids.training.run import Run
from hybrids.training.saving import CheckpointFiles, SaveCheckpoints
from hybrids.training.stop import NoSignals, Stop
from hybrids.training.wandb_log import WandbLog, check_names

log = logging.getLogger(__name__)


def build_model(run: Run, task: Task) -> Model:
    """The model of a run with its backends and its initial weights, which depend on `run.seed` alone."""
    seed_everything(run.seed, verbose=False)
    settings = run.model
    model = Model(task.vocab_size, settings.d_model, run.pattern, run.letters, tie_embeddings=settings.tie_embeddings)
    run.choose_backends(model)
    return model


def train(run: Run) -> Result:
    """Train a run to its end and return its result.

    A finished run is left alone, an interrupted one continues from its last good checkpoint. All settings are
    checked by building what they describe before anything is written. Raises UserError for a setting.
    """
    check_length(run.task, run.data.batch_size, "data.batch_size")
    task = run.task.build()
    ranks = find_ranks(run.trainer.devices, run.trainer.num_nodes)
    for note in run.notes if ranks.is_first else ():
        print(note)
    run.trainer.check_devices()
    run.data.check_ranks(ranks.world_size)
    check_run(run, task, Curriculum.of(run, task).length)
    if run.logger.wandb:
        check_names(run.logger)
    model = build_model(run, task)
    folder = run.folder
    stop = Stop(folder.path, ranks)
    sizes = f"data.batch_size={run.data.batch_size}, data.eval_batch_size={run.data.eval_batch_size}, task and model"
    with stop.listening(), told_in_a_sentence(sizes), matmul_precision(tf32=run.trainer.tf32):
        if not ranks.is_first:
            finished = ranks.hear(_BACKENDS[run.trainer.accelerator])
            return finished or _train(run, task, model, run.folder, stop)
        with ranks.telling(_BACKENDS[run.trainer.accelerator]) as tell:
            return _start(run, task, model, folder, stop, tell)


_BACKENDS = {"cpu": "gloo", "gpu": "cpu:gloo,cuda:nccl"}
"""Of the connection between ranks."""


def _start(
    run: Run, task: Task, model: Model, folder: RunFolder, stop: Stop, tell: Callable[[Result | None], None]
) -> Result:
    """As the first rank: train, unless the run has finished, and tell the other ranks which it is."""
    if run.rerun and folder.path.exists():
        with folder.lock():  # UserError while another process is in it: its folder must not move away under it
            print(f"rerun=true: the earlier run is kept as {folder.set_aside(run.id)}")
        folder = run.folder
    folder.check_is(run.identity, run.config)
    finished = _read_finished(folder)
    if finished is None:
        with folder.lock():
            finished = _read_finished(folder)  # by another process, just now
            if finished is None:
                folder.check_is(run.identity, run.config)
                folder.create(run.config)
                tell(None)
                return _train(run, task, model, folder, stop)
    tell(finished)
    return finished


def _read_finished(folder: RunFolder) -> Result | None:
    """The result of a run that has finished, after saying so; None for any other."""
    finished = folder.read_result()
    if finished is not None:
        print(f"run {folder.path} has finished; nothing is done (rerun=true repeats it)")
        if finished["code"] != describe_code():
            rank_zero_warn(f"the code has changed since {folder.path} was made; rerun=true repeats it with this code")
    return finished


def _train(run: Run, task: Task, model: Model, folder: RunFolder, stop: Stop) -> Result:
    keep_freed_memory()
    set_threads(run.trainer.threads)
    if stop.ranks.is_first:
        log_backends(run)
    sizes = measure_sizes(model, task.length)
    lit = LitModel(model, task, run.optim, max_steps=run.trainer.max_steps, log_every=run.trainer.log_every)
    if run.trainer.compile:
        # A graph for each length, whatever was compiled before: a resumed run begins with another stage.
        lit.compiled = torch.compile(model.backbone.forward, dynamic=False)
    curriculum = Curriculum.of(run, task)
    data = TaskData(task, run.data, curriculum)
    clock, early = Clock(), StopEarly(run.trainer.target, last_start=curriculum.last_start)
    save = SaveCheckpoints(folder.checkpoint_dir, run.identity, folder.metrics_file)
    lit.check_stop = data.check_stop = stop.check
    lit.describe_step = curriculum.logged_at
    stop.place, stop.save = folder.path, save.save
    checkpoint, resumed = _go_on(run, folder, lit, is_first=stop.ranks.is_first)
    trainer = _build_trainer(run, folder, stop, [early, clock, save], CheckpointFiles(resumed))
    with stop.deferred():
        trainer.fit(lit, datamodule=data, ckpt_path=checkpoint)
        steps, stopped = trainer.global_step, early.reason or "max_steps"
        with busy("testing", is_shown=run.trainer.progress_bar):
            val = _validate_last(trainer, lit, data, save)
            test = scores_of(trainer.test(lit, datamodule=data, verbose=False)[0], "test")
    with busy("looking for test examples among those of training", is_shown=run.trainer.progress_bar):
        overlap = find_overlap(task, run.data, first_train=curriculum.last_start * run.data.batch_size)
    result = Result(
        **sizes,
        version=RESULT_VERSION,
        id=folder.path.name,
        identity=run.identity,
        code=describe_code(),
        hardware=_describe_hardware(trainer),
        backend=run.backend_names,
        steps=steps,
        examples=steps * run.data.batch_size,
        seconds=round(clock.seconds, 1),
        stopped=stopped,
        overlap=overlap,
        chance_accuracy=task.chance_accuracy,
        val=val,
        test=test,
    )
    if curriculum.varies:
        result["curriculum"] = curriculum.record()
    if trainer.is_global_zero:
        with busy("measuring answers, state, cost and recall", is_shown=run.trainer.progress_bar):
            decoded = decode_first(lit, task, run.data, trainer)
            if decoded:
                result["decoded"] = decoded
            result["triangle"] = place_in_triangle(lit, task, run.data, trainer)
        if run.trainer.profiler is not None:
            # Lightning would log it, at a level that is hidden; it does not declare the attribute.
            print(trainer.profiler.summary())  # type: ignore[attr-defined]
        result = folder.write_result(result)
        _summarise(trainer, result, rate=run.optim.lr)
    return result


def _go_on(run: Run, folder: RunFolder, lit: LitModel, *, is_first: bool) -> tuple[Path | None, dict[str, Any] | None]:
    """The checkpoint from which a run goes on and what is taken from it, after the folder is what it was then.

    None and None for a run that begins. Raises UserError for a checkpoint of another run.
    """
    checkpoint, problems = folder.last_checkpoint()
    for problem in problems:
        rank_zero_warn(f"{problem}; continuing from {checkpoint}")
    mark = resumed = None
    if checkpoint is not None:
        content = load(checkpoint)
        mark = read_mark(content, checkpoint, is_needed=folder.is_marked)
        if mark is not None:
            check_same(f"checkpoint {checkpoint}", mark.identity, run.identity, "rerun=true starts afresh")
        resumed = take_over(content, checkpoint, lit, val_every=_val_interval(run))
    if is_first:
        folder.go_back(checkpoint, mark)
        if checkpoint is not None:
            print(f"run {folder.path} was interrupted; it continues from {checkpoint.name}")
    return checkpoint, resumed


def log_backends(run: Run) -> None:
    """Say which backend each op runs on, and why."""
    for letter, choices in run.backends.items():
        for op, choice in choices.items():
            log.info("%s: %s on %s%s", letter, op, choice.backend, f" ({choice.reason})" if choice.reason else "")


def _val_interval(run: Run) -> int:
    return min(run.trainer.val_every, run.trainer.max_steps)


def _validate_last(trainer: Trainer, lit: LitModel, data: TaskData, save: SaveCheckpoints) -> dict[str, float]:
    """Validation scores of the last weights.

    Measured here, after a checkpoint, if training ended between two validations, or if the run is resumed after its
    last step: then in the place of the validation after that step, and logged unless that was.
    """
    steps = trainer.global_step
    is_between = bool(steps % trainer.val_check_interval)
    scores = scores_of(trainer.callback_metrics, "val")
    if is_between:
        save.save(trainer)
    if is_between or not scores:
        lit.repeats_validation = not is_between and save.validated == steps
        counter = trainer.fit_loop.epoch_loop  # under its count Lightning logs
        counter._batches_that_stepped -= not is_between
        trainer.validate(lit, datamodule=data, verbose=False)
        counter._batches_that_stepped += not is_between
        scores = scores_of(trainer.callback_metrics, "val")
    return scores


def _build_trainer(
    run: Run, folder: RunFolder, stop: Stop, callbacks: list[Callback], files: CheckpointFiles
) -> Trainer:
    settings = run.trainer
    callbacks = [stop, *callbacks]
    if settings.progress_bar:
        callbacks.append(StepProgressBar(refresh_rate=settings.log_every))
    trainer = Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        plugins=[stop.ranks.environment, files],
        strategy=settings.strategy,
        precision=settings.precision,  # type: ignore[arg-type]
        max_steps=settings.max_steps,
        max_epochs=-1,  # one epoch without end: Lightning restarts the loader of an epoch it resumes
        val_check_interval=_val_interval(run),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=settings.log_every,
        use_distributed_sampler=False,  # Lightning's would shuffle
        logger=build_loggers(
            run.logger,
            folder.path,
            folder.path.name,
            {**run.config, "pattern": run.pattern.compact()},
            is_first=stop.ranks.is_first,
        ),
        callbacks=callbacks,
        enable_progress_bar=settings.progress_bar,
        enable_model_summary=False,
        profiler=settings.profiler,
        default_root_dir=folder.path,
    )
    trainer._signal_connector = NoSignals()  # type: ignore[assignment]
    return trainer


def _summarise(trainer: Trainer, result: Result, *, rate: float) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, WandbLog):
            logger.finish(result, rate=rate)
        elif isinstance(logger, OneTensorBoardFile):
            logger.finish()


def _describe_hardware(trainer: Trainer) -> dict[str, Any]:
    is_cuda = trainer.strategy.root_device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if is_cuda else name_cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ranks": trainer.world_size,
    }

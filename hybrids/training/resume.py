"""What an interrupted run takes from its checkpoint.

A run folder may come from anybody, so a checkpoint is trusted in nothing but tensors of the right shape: its step, the
weights, the moments of the optimiser, the seconds and the reason to stop are taken and checked; learning rates, the
progress of Lightning's loops and all else follow from the step and the settings of the run.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from hybrids.errors import UserError, printable
from hybrids.training.checkpoints import steps_of
from hybrids.training.lit import LitModel

REASONS = (None, "target", "diverged")
"""Why training ended before its last step, as `StopEarly` remembers it."""


def take_over(content: Any, path: Path, lit: LitModel, *, val_every: int) -> dict[str, Any]:
    """What Lightning restores from the checkpoint `content` of `path`; UserError where it is not of such a run."""
    try:
        steps = _steps(content, path, lit.max_steps)
        load_weights(content, lit)
        callbacks = _callbacks(content.get("callbacks", {}), steps)
        is_last = steps == lit.max_steps or callbacks["StopEarly"]["reason"] is not None
        is_due = steps % val_every == 0 and not is_last
        is_validated = callbacks["SaveCheckpoints"]["validated"] == steps
        return {
            "epoch": 0,
            "global_step": steps,
            "pytorch-lightning_version": lightning.__version__,
            "state_dict": lit.state_dict(),
            "loops": {"fit_loop": _loops(steps, is_due=is_due, is_validated=is_validated)},
            "callbacks": callbacks,
            **_optimisation(content, lit, steps),
        }
    except UserError as error:
        raise UserError(f"checkpoint {path} is not of this run: {error}; rerun=true starts afresh") from None


def load_weights(content: Any, lit: LitModel) -> None:
    """Give a model the weights in the content of a checkpoint; UserError where they are those of another model.

    Names may be those of an earlier version, which the mixers translate.
    """
    weights = _part(content, "state_dict", Mapping)
    for name, found in weights.items():
        if not isinstance(found, Tensor) or found.layout != torch.strided or not found.is_floating_point():
            raise UserError(f"its weights {printable(str(name))} are no tensor of real numbers")
    try:
        lit.load_state_dict(weights)
    except RuntimeError as error:  # all that differs, a line each
        first = str(error).splitlines()[1:2] or [str(error)]
        raise UserError(f"its weights are of another model ({printable(first[0].strip(), 160)})") from None


def _steps(content: Any, path: Path, max_steps: int) -> int:
    steps = _part(content, "global_step", int)
    if steps != steps_of(path):
        raise UserError(f"it was saved after {steps} steps and is named {path.name}")
    if steps > max_steps:
        raise UserError(f"it was saved after {steps} steps, trainer.max_steps={max_steps}")
    return steps


def _callbacks(states: Any, steps: int) -> dict[str, Any]:
    """State of our callbacks; that of others, which name files, is left out.

    Checkpoints of version 0.1 have none of SaveCheckpoints: they were saved after a validation.
    """
    states = {} if not isinstance(states, Mapping) else states
    reason = _part(states.get("StopEarly", {}), "reason", str | None)
    seconds = _part(states.get("Clock", {}), "seconds", int | float)
    if reason not in REASONS:
        raise UserError(f"it stopped for an unknown reason, {printable(str(reason), 40)}")
    if not 0 <= seconds < math.inf:
        raise UserError(f"it has trained for {seconds} seconds")
    validated = _part(states.get("SaveCheckpoints", {"validated": steps}), "validated", int)
    return {
        "StopEarly": {"reason": reason},
        "Clock": {"seconds": float(seconds)},
        "SaveCheckpoints": {"validated": validated},
    }


def _optimisation(content: Mapping[str, Any], lit: LitModel, steps: int) -> dict[str, Any]:
    """State of the optimiser with the moments that were stored, and of the schedule after so many steps."""
    made = lit.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = [rate * factor(steps) for rate, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
    fresh = optimizer.state_dict()
    groups = [{**group, "lr": rate} for group, rate in zip(fresh["param_groups"], rates, strict=True)]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    (state,) = _part(content, "optimizer_states", list) or [{}]
    stored = _part(state, "state", Mapping)
    if not set(stored) <= set(range(len(parameters))):  # fewer where a parameter has had no gradient yet
        raise UserError(f"its optimiser has {len(stored)} parameters there and {len(parameters)} here")
    moments = {number: _moments(found, number, parameters[number]) for number, found in stored.items()}
    return {
        "optimizer_states": [{"state": moments, "param_groups": groups}],
        "lr_schedulers": [
            schedule.state_dict() | {"last_epoch": steps, "_step_count": steps + 1, "_last_lr": rates},
        ],
    }


def _moments(stored: Any, number: int, parameter: Tensor) -> dict[str, Tensor]:
    """The moments of one parameter; UserError unless their names, shapes and types are AdamW's."""
    expected = {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}
    moments = {name: _part(stored, name, Tensor) for name in expected}
    for name, tensor in expected.items():
        found = moments[name]
        if (found.shape, found.dtype, found.layout) != (tensor.shape, tensor.dtype, torch.strided):
            there, here = (f"{one.dtype}{list(one.shape)}".removeprefix("torch.") for one in (found, tensor))
            raise UserError(f"{name} of parameter {number} is {there} there and {here} here")
    return moments


def _loops(steps: int, *, is_due: bool, is_validated: bool) -> dict[str, Any]:
    """Progress of Lightning's training loop between two batches, `steps` of which are done.

    Where a validation is due, Lightning counts a batch that it does not train on, and after it validates: only if the
    progress of that loop says that a batch of it was begun.
    """
    done = {"ready": steps, "completed": steps}
    started = {**done, "started": steps}
    epoch = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    begun = int(is_due and not is_validated)
    progress = {"step": _both(done), "zero_grad": _both(started)}
    validation = {"ready": begun, "started": begun, "processed": 0, "completed": 0}
    return {
        "epoch_loop.state_dict": {"_batches_that_stepped": steps - is_due},
        "epoch_loop.batch_progress": {**_both({**started, "processed": steps}), "is_last_batch": False},
        "epoch_loop.scheduler_progress": _both(done),
        "epoch_loop.automatic_optimization.optim_progress": {"optimizer": progress},
        "epoch_loop.val_loop.batch_progress": {**_both(validation), "is_last_batch": False},
        "epoch_progress": _both(epoch),
    }


def _both(counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    return {"total": dict(counts), "current": dict(counts)}


def _part(content: Any, name: str, kind: Any) -> Any:
    found = content.get(name) if isinstance(content, Mapping) else None
    if not isinstance(found, kind) or isinstance(found, bool):
        raise UserError(f"it has no usable {name}")
    return found

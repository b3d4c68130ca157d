"""Which backend an op runs on, and why.

What keeps a kernel from running is what the machine lacks (`machine.missing`) or what the kernel cannot do with this
call (`Kernel.limits`); either is an `Obstacle`. Mixers meet this module through `Mixer.choose_backends` only.

Precision. A kernel multiplies in the dtype of the activations and keeps decays, sums and states in float32, as in the
authors' layers; torch does all of it in float32. Triton multiplies float32 as TF32: that is a change of precision, so
float32 gets such a kernel only where `torch.set_float32_matmul_precision` allows TF32 (`trainer.tf32`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from hybrids.errors import UserError, suggest
from hybrids.ops.kernels import machine
from hybrids.ops.kernels.kernel import Demand, Kernel, Obstacle, backends_of, check_backend, find_kernel, kernels_of


class ChosenBackend(NamedTuple):
    """The backend of one op, and why it is that one."""

    backend: str
    reason: str


def resolve(
    demand: Demand, requested: str = "auto", *, device: torch.device | str, dtype: torch.dtype = torch.float32
) -> ChosenBackend:
    """The backend for one op of a mixer whose tensors are on `device` with activations of `dtype`.

    `auto` takes the fastest that can run; where that is torch on a GPU, it warns once with the cause. Raises UserError
    for a backend that does not exist, that the op does not have, or that cannot run, with the reason and the command.
    """
    check_backend(requested)
    device = torch.device(device)
    if requested == "auto":
        return _take_fastest(demand, device, dtype)
    kernel = find_kernel(demand.op, requested)
    found = obstacles(demand, kernel, device, dtype) if kernel else []
    if found:
        raise UserError(f"backend={requested} cannot run {demand.op}: {_join(found)}; allowed: auto, torch")
    return ChosenBackend(requested, "as requested")


def resolve_all(
    demands: Sequence[Demand], requested: str = "auto", *, device: torch.device | str, dtype: torch.dtype
) -> dict[str, ChosenBackend]:
    """The backend of every op of one mixer.

    A kernel is requested of the ops that have one; the others are resolved as `auto`. UserError where none has it.
    """
    check_backend(requested)
    offered = {demand.op: backends_of(demand.op) for demand in demands}
    if requested not in ("auto", "torch") and not any(requested in names for names in offered.values()):
        allowed = ["auto", *sorted({"torch"}.union(*offered.values()))]
        ops = ", ".join(offered) or "nothing with kernels"
        raise UserError(f"backend={requested}: this mixer uses {ops}; {suggest(requested, allowed)}")
    wanted = {op: requested if requested in names else "auto" for op, names in offered.items()}
    return {demand.op: resolve(demand, wanted[demand.op], device=device, dtype=dtype) for demand in demands}


def obstacles(demand: Demand, kernel: Kernel, device: torch.device, dtype: torch.dtype) -> list[Obstacle]:
    """Everything that keeps a kernel from running this call; empty if it can."""
    if device.type != kernel.device and (kernel.device == "cpu" or torch.cuda.is_available()):
        # Nothing is built or imported to find out more.
        reason = f"the tensors are on {device.type}, the kernel runs on {kernel.device}"
        return [Obstacle(reason, "trainer=cpu" if kernel.device == "cpu" else "trainer=gpu")]
    return [*machine.missing(kernel), *kernel.limits(demand, dtype)]


def _take_fastest(demand: Demand, device: torch.device, dtype: torch.dtype) -> ChosenBackend:
    refused: dict[str, list[Obstacle]] = {}
    for kernel in kernels_of(demand.op):
        if kernel.device == "cpu" and device.type != "cpu":
            continue
        refused[kernel.backend] = obstacles(demand, kernel, device, dtype)
        if not refused[kernel.backend]:
            return ChosenBackend(kernel.backend, "the fastest that can run")
    if device.type != "cuda":  # one reason will do where no kernel is expected
        return ChosenBackend("torch", "; ".join(f"{backend}: {found[0].reason}" for backend, found in refused.items()))
    causes = "; ".join(f"{backend}: {_join(found)}" for backend, found in refused.items())
    _warn_once(f"{demand.op} runs on torch, without a kernel: {causes}")
    return ChosenBackend("torch", causes)


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        from lightning.fabric.utilities import rank_zero_warn  # a second of imports that ops need for nothing else

        _warned.add(message)
        rank_zero_warn(message, stacklevel=7)  # of several processes one will do


def _join(found: Sequence[Obstacle]) -> str:
    return "; ".join(map(str, found))

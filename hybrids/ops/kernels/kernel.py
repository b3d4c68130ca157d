"""A kernel: one way to compute an op beside torch, with everything that there is to know about it in one record.

`register_kernel` makes one of a function; built-in kernels stand in the modules beside this one, a plugin registers
its own in the file of the mixer that uses it. An op has the backends of its kernels, fastest first, and then torch.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from hybrids.errors import UserError, check_choice, suggest

C = TypeVar("C", bound=Callable[..., Any])

GATES = ("none", "scalar", "key")  # decays of a state: none, one for each head, one for each key dimension


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a mixer asks of one op; sizes that the op does not have stay None. An op with other sizes subclasses it."""

    op: str
    d_key: int | None = None
    d_value: int | None = None
    gate: str = "none"
    d_state: int | None = None
    d_conv: int | None = None
    conv_size: int | None = None

    def __post_init__(self) -> None:
        if self.op not in _kernels:
            raise UserError(f"unknown op {self.op!r}; {suggest(self.op, _kernels)}")
        if self.gate not in GATES:
            raise UserError(f"unknown gate {self.gate!r}; {suggest(self.gate, GATES)}")


@dataclass(frozen=True)
class Obstacle:
    """Why a kernel cannot run, and the command after which it can; empty where no command can help."""

    reason: str
    command: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.command})" if self.command else self.reason


@dataclass(frozen=True)
class Package:
    """Module that a kernel is imported from, the command that installs it, and whether it is written in Triton."""

    module: str
    command: str
    needs_triton: bool = False


@dataclass(frozen=True)
class Kernel:
    """One backend of one op."""

    op: str
    backend: str
    call: Callable[..., tuple[Tensor, Tensor]]
    """Outputs and new state from the inputs of the op; imports what it needs when it is called. Never compiled."""
    note: str
    """What it asks of a call, where the machine has everything; for `hybrids doctor`."""
    device: Literal["cpu", "cuda"]
    packages: tuple[Package, ...]
    machine_limits: Callable[[], Sequence[Obstacle]]
    """What this machine lacks beside device and packages; asked once per process."""
    limits: Callable[[Demand, torch.dtype], Sequence[Obstacle]]
    """What it cannot do with a call of these sizes and activations of this dtype."""

    @property
    def origin(self) -> str:
        """Where the call is defined."""
        return f"{self.call.__module__}.{self.call.__qualname__}"


_kernels: dict[str, list[Kernel]] = {}
"""By op, fastest first."""


def register_kernel(
    op: str,
    backend: str,
    *,
    note: str,
    device: Literal["cpu", "cuda"] = "cuda",
    packages: Sequence[Package] = (),
    machine_limits: Callable[[], Sequence[Obstacle]] = lambda: (),
    limits: Callable[[Demand, torch.dtype], Sequence[Obstacle]] = lambda demand, dtype: (),
    faster_than: str = "torch",
) -> Callable[[C], C]:
    """Decorator that makes a function the backend of an op, or of a new op; the arguments are the fields of `Kernel`.

    Before the backend `faster_than`, after those that are registered already, is its place in the order in which
    `auto` tries them. Raises UserError where another kernel has this op and name, and for an unknown `faster_than`.
    """
    if backend in ("auto", "torch"):
        raise UserError(f"backend={backend} of {op} is taken; choose another name for the kernel")

    def add(call: C) -> C:
        kernel = Kernel(op, backend, _left_alone(call), note, device, tuple(packages), machine_limits, limits)
        others = []
        for other in _kernels.get(op, []):
            if other.backend != backend:
                others.append(other)
            elif other.origin != kernel.origin:  # the same one again, of a module that is imported again, replaces it
                raise UserError(f"two kernels of {op} are named {backend!r}: {other.origin} and {kernel.origin}")
        order = [*(other.backend for other in others), "torch"]
        check_choice("faster_than", faster_than, order)
        others.insert(order.index(faster_than), kernel)
        _kernels[op] = others
        return call

    return add


def _left_alone(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, which `torch.compile` leaves as it is: it refuses the hooks by which Triton kernels are tuned.

    `torch.compiler.disable` would be enough, but it imports the compiler, which takes as long as torch itself.
    """

    @functools.wraps(call)
    def run(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        uncompiled: Any = torch.compiler.disable(call) if torch.compiler.is_compiling() else call
        return uncompiled(*args, **kwargs)

    return run


def kernels_of(op: str) -> list[Kernel]:
    """The kernels of an op, fastest first."""
    return list(_kernels[op])


def backends_of(op: str) -> list[str]:
    """The backends of an op, fastest first; torch is the last."""
    return [*(kernel.backend for kernel in _kernels[op]), "torch"]


def ops_with_kernels() -> list[str]:
    """All ops that have another backend than torch."""
    return list(_kernels)


def find_kernel(op: str, backend: str) -> Kernel | None:
    """The kernel that computes `op` on `backend`, None for torch; UserError for a backend that `op` does not have."""
    if backend == "torch":
        return None
    for kernel in _kernels[op]:
        if kernel.backend == backend:
            return kernel
    raise UserError(f"backend={backend}: {op} has no such backend; {suggest(backend, backends_of(op))}")


def check_backend(backend: str) -> None:
    """Raise UserError for a backend that no op has."""
    known = sorted({kernel.backend for kernels in _kernels.values() for kernel in kernels})
    check_choice("backend", backend, ["auto", "torch", *known])

"""Which backend an op runs on, and why.

A backend is `torch` (always there), `cpp` (our own kernel for a CPU), `fla` (flash-linear-attention's in Triton) or
`mamba_ssm` (its kernels and causal_conv1d's). What keeps one from running is what the machine lacks (`missing`) or what
the kernel cannot do with this call (hybrids.ops.demand); either is an `Obstacle`: a reason, and the command that
removes it. Mixers meet this module through `Mixer.choose_backends` only.

Precision. A kernel multiplies in the dtype of the activations and keeps decays, sums and states in float32, as in the
authors' layers; torch does all of it in float32. Triton multiplies float32 as TF32: that is a change of precision, so
float32 gets such a kernel only where `torch.set_float32_matmul_precision` allows TF32 (`trainer.tf32`).
"""

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch

from hybrids.errors import UserError, suggest
from hybrids.ops import selective_scan_cpu
from hybrids.ops.demand import LIMITS, OPS, Demand, Obstacle

BACKENDS = ("auto", "torch", "cpp", "fla", "mamba_ssm")
GPU_BACKENDS = ("fla", "mamba_ssm")


def check_name(backend: str) -> None:
    """Raise UserError for a backend that does not exist."""
    if backend not in BACKENDS:
        raise UserError(f"backend={backend!r} is unknown; {suggest(backend, BACKENDS)}")


def is_kernel(op: str, backend: str) -> bool:
    """Whether `backend` is another one than torch; UserError for one that `op` does not have."""
    if backend == "torch":
        return False
    if backend not in OPS[op]:
        raise UserError(f"backend={backend}: {op} has no such backend; {suggest(backend, OPS[op])}")
    return True


class Choice(NamedTuple):
    """The backend of one op, and why it is that one."""

    backend: str
    reason: str


def resolve(
    demand: Demand, requested: str = "auto", *, device: torch.device | str, dtype: torch.dtype = torch.float32
) -> Choice:
    """The backend for one op of a mixer whose tensors are on `device` with activations of `dtype`.

    `auto` takes the fastest that can run; where that is torch on a GPU, it warns once with the cause. Raises UserError
    for a backend that does not exist, that the op does not have, or that cannot run, with the reason and the command.
    """
    check_name(requested)
    device = torch.device(device)
    if requested == "auto":
        return _take_fastest(demand, device, dtype)
    is_kernel(demand.op, requested)
    found = obstacles(demand, requested, device, dtype)
    if found:
        raise UserError(f"backend={requested} cannot run {demand.op}: {_join(found)}; allowed: auto, torch")
    return Choice(requested, "as requested")


def resolve_all(
    demands: Sequence[Demand], requested: str = "auto", *, device: torch.device | str, dtype: torch.dtype
) -> dict[str, Choice]:
    """The backend of every op of one mixer.

    A kernel is requested of the ops that have one; the others are resolved as `auto`. UserError where none has it.
    """
    check_name(requested)
    able = [demand for demand in demands if requested in OPS[demand.op]]
    if requested not in ("auto", "torch") and not able:
        ops = ", ".join(demand.op for demand in demands) or "nothing with kernels"
        offered = sorted({backend for demand in demands for backend in OPS[demand.op]} | {"torch"})
        raise UserError(f"backend={requested}: this mixer uses {ops}; {suggest(requested, ['auto', *offered])}")
    wanted = {demand.op: requested if demand in able else "auto" for demand in demands}
    return {demand.op: resolve(demand, wanted[demand.op], device=device, dtype=dtype) for demand in demands}


def obstacles(demand: Demand, backend: str, device: torch.device, dtype: torch.dtype) -> list[Obstacle]:
    """Everything that keeps `backend` from running this call; empty if it can."""
    if backend == "torch":
        return []
    home, command = ("cpu", "trainer=cpu") if backend == "cpp" else ("cuda", "trainer=gpu")
    if device.type != home and (home == "cpu" or torch.cuda.is_available()):
        # Nothing is built or imported to find out more.
        return [Obstacle(f"the tensors are on {device.type}, the kernel runs on {home}", command)]
    return [*missing(demand.op, backend), *LIMITS[demand.op, backend](demand, dtype)]


def _take_fastest(demand: Demand, device: torch.device, dtype: torch.dtype) -> Choice:
    refused: dict[str, list[Obstacle]] = {}
    for backend in OPS[demand.op]:
        if backend == "torch" or (backend == "cpp" and device.type != "cpu"):
            continue
        refused[backend] = obstacles(demand, backend, device, dtype)
        if not refused[backend]:
            return Choice(backend, "the fastest that can run")
    if device.type != "cuda":  # one reason will do where no kernel is expected
        return Choice("torch", "; ".join(f"{backend}: {found[0].reason}" for backend, found in refused.items()))
    causes = "; ".join(f"{backend}: {_join(found)}" for backend, found in refused.items())
    _warn_once(f"{demand.op} runs on torch, without a kernel: {causes}")
    return Choice("torch", causes)


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        from lightning.fabric.utilities import rank_zero_warn  # a second of imports that ops need for nothing else

        _warned.add(message)
        rank_zero_warn(message, stacklevel=7)  # of several processes one will do


def _join(found: Sequence[Obstacle]) -> str:
    return "; ".join(map(str, found))


TORCH_COMMAND = "pip install torch --index-url https://download.pytorch.org/whl/cu130"
MAMBA_COMMAND = "MAMBA_KEEP_CUDA_BUILD=TRUE pip install mamba-ssm --no-build-isolation"


@dataclass(frozen=True)
class Package:
    """Module that a kernel is imported from, the command that installs it, and whether it is written in Triton."""

    module: str
    command: str
    needs_triton: bool = True


_FLA = Package("fla", 'pip install "flash-linear-attention[cuda]>=0.6"')
_MAMBA = Package("mamba_ssm", "pip install mamba-ssm --no-build-isolation")
_MAMBA_BUILT = Package("mamba_ssm", MAMBA_COMMAND)
_SCAN = Package("selective_scan_cuda", MAMBA_COMMAND, needs_triton=False)
_CONV = Package("causal_conv1d", "CAUSAL_CONV1D_FORCE_BUILD=TRUE pip install causal-conv1d --no-build-isolation", False)

PACKAGES: dict[tuple[str, str], tuple[Package, ...]] = {
    ("linear_attention", "fla"): (_FLA,),
    ("delta_rule", "fla"): (_FLA,),
    ("dplr", "fla"): (_FLA,),
    ("mamba2_scan", "mamba_ssm"): (_MAMBA,),
    ("selective_scan", "mamba_ssm"): (_MAMBA_BUILT, _SCAN),
    ("selective_scan", "cpp"): (),
    ("short_conv", "mamba_ssm"): (_CONV,),
}
"""What the kernels of an op are imported from."""


@cache
def missing(op: str, backend: str) -> tuple[Obstacle, ...]:
    """What this machine lacks for a backend of an op, GPU first; found out once per process.

    A package is imported only where a GPU works: without one, importing or calling Triton code raises
    `0 active drivers`.
    """
    if backend in ("torch", "cpp"):
        return () if backend == "torch" else _without_compiler()
    packages = PACKAGES[op, backend]
    needs_triton = any(package.needs_triton for package in packages)
    found = _without_gpu()
    if needs_triton and not is_installed("triton"):
        found.append(Obstacle("triton is not installed", "pip install triton"))
    found += [Obstacle(f"{p.module} is not installed", p.command) for p in packages if not is_installed(p.module)]
    if not found:
        found += [*(_inactive_driver() if needs_triton else []), *_broken(packages)]
    return tuple(found)


def is_installed(module: str) -> bool:
    """Whether a module is there, without importing it."""
    return importlib.util.find_spec(module) is not None


def _without_compiler() -> tuple[Obstacle, ...]:
    reason = selective_scan_cpu.why_not()
    return () if reason is None else (Obstacle(f"the kernel cannot be built: {reason}", "apt-get install g++"),)


def _without_gpu() -> list[Obstacle]:
    if torch.cuda.is_available():
        return []
    if torch.version.cuda is None and torch.version.hip is None:
        return [Obstacle(f"no working GPU: torch {torch.__version__} is built without CUDA", TORCH_COMMAND)]
    return [Obstacle("no working GPU: torch finds none, and Triton would report `0 active drivers`", "nvidia-smi")]


def _inactive_driver() -> list[Obstacle]:
    try:
        triton = importlib.import_module("triton")
        triton.runtime.driver.active.get_current_target()
    except Exception as error:  # Triton raises RuntimeError, its drivers whatever their libraries raise
        return [Obstacle(f"Triton has no working GPU: {_say(error)}", "pip install --force-reinstall triton")]
    return []


def _broken(packages: Sequence[Package]) -> list[Obstacle]:
    """Packages that are there and cannot be imported: built for another torch or CUDA, as a rule."""
    found = []
    for package in packages:
        try:
            importlib.import_module(package.module)
        except Exception as error:  # a stranger's module can raise anything
            command = f"pip uninstall -y {package.module.replace('_', '-')} && {package.command} --no-cache-dir"
            found.append(Obstacle(f"{package.module} cannot be imported: {_say(error)}", command))
    return found


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"

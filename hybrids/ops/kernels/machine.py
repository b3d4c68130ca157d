"""What this machine lacks for a kernel."""

from collections.abc import Sequence
from functools import cache

import torch

from hybrids.ops.kernels import advice
from hybrids.ops.kernels.imports import import_outside, is_installed
from hybrids.ops.kernels.kernel import Kernel, Obstacle, Package


@cache
def missing(kernel: Kernel) -> tuple[Obstacle, ...]:
    """What this machine lacks for a kernel, GPU first; found out once per process.

    A package of a GPU kernel is imported only where a GPU works: without one, importing or calling Triton code raises
    `0 active drivers`.
    """
    needs_triton = any(package.needs_triton for package in kernel.packages)
    found = [*(_without_gpu() if kernel.device == "cuda" else []), *kernel.machine_limits(), *not_installed(kernel)]
    if not found:
        found += [*(_inactive_driver() if needs_triton else []), *_broken(kernel.packages)]
    return tuple(found)


def not_installed(kernel: Kernel) -> list[Obstacle]:
    """The packages of a kernel that are not there, Triton first."""
    found = []
    if any(package.needs_triton for package in kernel.packages) and not is_installed("triton"):
        found.append(Obstacle("triton is not installed", advice.triton()))
    absent = [package for package in kernel.packages if not is_installed(package.module)]
    return [*found, *(Obstacle(f"{package.module} is not installed", package.command) for package in absent)]


def _without_gpu() -> list[Obstacle]:
    if torch.cuda.is_available():
        return []
    if torch.version.cuda is None and torch.version.hip is None:
        reason = f"no working GPU: torch {torch.__version__} is built without CUDA"
        return [Obstacle(reason, advice.torch_with_cuda())]
    return [Obstacle("no working GPU: torch finds none, and Triton would report `0 active drivers`", "nvidia-smi")]


def _inactive_driver() -> list[Obstacle]:
    try:
        import_outside("triton").runtime.driver.active.get_current_target()
    except Exception as error:  # Triton raises RuntimeError, its drivers whatever their libraries raise
        return [Obstacle(f"Triton has no working GPU: {_say(error)}", advice.triton_without_a_driver())]
    return []


def _broken(packages: Sequence[Package]) -> list[Obstacle]:
    """Packages that are there and cannot be imported: built for another torch or CUDA, as a rule."""
    found = []
    for package in packages:
        try:
            import_outside(package.module)
        except Exception as error:  # a stranger's module can raise anything
            command = advice.build_again(package.module, package.command)
            found.append(Obstacle(f"{package.module} cannot be imported: {_say(error)}", command))
    return found


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"

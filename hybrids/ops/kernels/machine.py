"""What this machine lacks for a kernel."""

import importlib
import importlib.util
from collections.abc import Sequence
from functools import cache

import torch

from hybrids.ops.kernels.kernel import Kernel, Obstacle, Package

TORCH_COMMAND = "pip install torch --index-url https://download.pytorch.org/whl/cu130"


@cache
def missing(kernel: Kernel) -> tuple[Obstacle, ...]:
    """What this machine lacks for a kernel, GPU first; found out once per process.

    A package of a GPU kernel is imported only where a GPU works: without one, importing or calling Triton code raises
    `0 active drivers`.
    """
    needs_triton = any(package.needs_triton for package in kernel.packages)
    found = [*(_without_gpu() if kernel.device == "cuda" else []), *kernel.machine_limits()]
    if needs_triton and not is_installed("triton"):
        found.append(Obstacle("triton is not installed", "pip install triton"))
    absent = [package for package in kernel.packages if not is_installed(package.module)]
    found += [Obstacle(f"{package.module} is not installed", package.command) for package in absent]
    if not found:
        found += [*(_inactive_driver() if needs_triton else []), *_broken(kernel.packages)]
    return tuple(found)


def is_installed(module: str) -> bool:
    """Whether a module is there, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a submodule, the package
        return False


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

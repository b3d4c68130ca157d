"""What runs on this machine: versions, devices, every backend of every op, and plugins that failed.

diagnosis = examine()
json.dumps(diagnosis)
"""

import platform
import shutil
import subprocess
from typing import TypedDict

import torch

from hybrids import registry
from hybrids.ops.kernels import advice, backends_of, find_kernel, machine, ops_with_kernels
from hybrids.ops.kernels.imports import version_of

DISTRIBUTIONS = ("hybrids", "torch", "triton", "flash-linear-attention", "mamba-ssm", "causal-conv1d", "tilelang")
"""tilelang because fla takes it, where it is, for some of its kernels on a Hopper."""


class Backend(TypedDict):
    """One backend of one op on this machine."""

    op: str
    backend: str
    usable: bool
    why: str
    commands: list[str]


class Diagnosis(TypedDict):
    """What `hybrids doctor --json` prints."""

    versions: dict[str, str | None]
    devices: list[str]
    backends: list[Backend]
    failed_plugins: list[str]


def examine() -> Diagnosis:
    """Look at this machine; imports kernel packages only where a GPU works, and builds the CPU kernel once."""
    registry.load_plugins()  # they may bring kernels
    return Diagnosis(
        versions=_versions(),
        devices=_devices(),
        backends=[_examine(op, backend) for op in ops_with_kernels() for backend in backends_of(op)],
        failed_plugins=[str(failure) for failure in registry.failures()],
    )


def _examine(op: str, backend: str) -> Backend:
    kernel = find_kernel(op, backend)
    found = machine.missing(kernel) if kernel else ()
    why = "; ".join(obstacle.reason for obstacle in found) or (kernel.note if kernel else "always")
    commands = list(dict.fromkeys(obstacle.command for obstacle in found if obstacle.command))
    return Backend(op=op, backend=backend, usable=not found, why=why, commands=commands)


def _versions() -> dict[str, str | None]:
    found = {name: version_of(name) for name in DISTRIBUTIONS}
    found["torch"] = torch.__version__  # with its local part, which says what it was built for
    of_torch = {"cuda of torch": torch.version.cuda, "triton of torch": advice.triton_of_torch()}
    return {"python": platform.python_version(), **found, **of_torch, "nvcc": _nvcc()}


def _nvcc() -> str | None:
    """Release of the CUDA compiler, which builds from source need at torch's major version."""
    path = shutil.which("nvcc")
    if path is None:
        return None
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    return text.partition("release ")[2].partition(",")[0] or path


def _devices() -> list[str]:
    names = [f"cpu: {platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"]
    for i in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(i)
        names.append(f"cuda:{i}: {torch.cuda.get_device_name(i)}, compute capability {major}.{minor}")
    return names

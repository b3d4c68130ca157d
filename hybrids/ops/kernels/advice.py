"""Commands that bring what a kernel needs, in the versions that fit the installed torch.

torch says itself which Triton it was built for; where none is named, pip takes a newer one.
"""

from importlib import metadata

import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from hybrids.ops.kernels.imports import version_of

NO_CACHE = "--no-cache-dir"
"""pip keeps what it built for another torch."""


def torch_with_cuda() -> str:
    """The same torch built for CUDA, which brings its Triton; pip does nothing as long as the other one is there."""
    version = Version(torch.__version__).public
    return f"pip uninstall -y torch && pip install torch=={version} --index-url https://download.pytorch.org/whl/cu130"


def triton_of_torch() -> str | None:
    """What the installed torch requires, such as `triton==3.7.1`; None where it is built without CUDA."""
    for requirement in map(Requirement, metadata.requires("torch") or ()):
        if requirement.name == "triton" and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            return f"triton{requirement.specifier}"
    return None


def triton() -> str:
    """The command for a Triton that is not there; empty where torch names none."""
    required = triton_of_torch()
    return f"pip install {required}" if required else ""


def triton_without_a_driver() -> str:
    """The command where Triton finds no GPU and torch does: the Triton of torch, or a look at the driver."""
    required, installed = triton_of_torch(), version_of("triton")
    is_another = required and installed and not Requirement(required).specifier.contains(installed, prereleases=True)
    return f"pip install {required}" if is_another else "nvidia-smi"


def build_again(module: str, command: str) -> str:
    """The command for a package that is there and cannot be imported, by the names under which pip knows it."""
    names = metadata.packages_distributions().get(module.partition(".")[0], [])
    removal = f"pip uninstall -y {' '.join(sorted({*map(canonicalize_name, names)}))} && " if names else ""
    return f"{removal}{command}" + ("" if NO_CACHE in command else f" {NO_CACHE}")

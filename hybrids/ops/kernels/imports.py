"""Other people's packages: whether they are there, what they are imported with, and which version is installed."""

import importlib
import importlib.util
import sys
import warnings
from importlib import metadata
from typing import Any


def is_installed(module: str) -> bool:
    """Whether a module is there, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a submodule, the package
        return False


def import_outside(module: str) -> Any:
    """A module that is not ours; what it warns of while it is imported is no error, even where warnings are."""
    if module in sys.modules:
        return sys.modules[module]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def version_of(distribution: str) -> str | None:
    """The installed version, None where there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None

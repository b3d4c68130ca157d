"""Train hybrid stacks on in-context retrieval; measure what they cost, carry and recall.

    import hybrids as hy

`build`, `sample`, `measure`, `train`, `load`, `runs` and `decode` are functions of hybrids/api.py, which is imported
when one of them is first used: `import hybrids` alone takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrids.api import build, decode, load, measure, runs, sample, train

__all__ = ["build", "decode", "load", "measure", "runs", "sample", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("hybrids.api"), name)
    if name == "__version__":
        return _version()
    raise AttributeError(f"module 'hybrids' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("hybrids")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0+unknown"

"""Signatures of kernels as their packages declare them, read without importing what needs a GPU."""

import ast
import functools
import importlib.util
import inspect
from pathlib import Path

CAUSAL_CONV1D = Path(__file__).parent / "causal_conv1d-1.6.1.txt"
"""The declarations of causal_conv1d, of which nothing can be installed without a CUDA compiler."""


@functools.cache
def installed_signature(place: str, name: str) -> inspect.Signature:
    """Of a function in an installed package, by its file: `fla/ops/kda/chunk.py`."""
    package, _, inside = place.partition("/")
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None, f"make setup installs {package}"
    return _signature_in((Path(spec.origin).parent / inside).read_text(), name)


@functools.cache
def recorded_signature(name: str) -> inspect.Signature:
    """Of a function of causal_conv1d."""
    return _signature_in(CAUSAL_CONV1D.read_text(), name)


def _signature_in(source: str, name: str) -> inspect.Signature:
    """Optional arguments have the default None: it is bound, never applied."""
    (function,) = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert not function.args.posonlyargs and not function.args.kwonlyargs
    num_required = len(function.args.args) - len(function.args.defaults)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature(
        inspect.Parameter(arg.arg, kind, default=inspect.Parameter.empty if i < num_required else None)
        for i, arg in enumerate(function.args.args)
    )

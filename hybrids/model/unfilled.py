"""Building a module for its sizes alone, without numbers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FILLS = ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_")
_POINTWISE = ("mul", "div", "add", "sub", "rsub", "neg", "log", "exp", "expm1", "log1p", "sqrt", "clamp", "clamp_min")


@contextmanager
def unfilled() -> Iterator[None]:
    """Within it tensors have a shape and no memory (PyTorch's device `meta`)."""
    with torch.device("meta"), _SkipFilling():
        yield


class _SkipFilling(TorchFunctionMode):
    """Leaves out what fills a new weight, scales it by a number or transforms it elementwise.

    On `meta` PyTorch imports its compiler for that, which takes as long as PyTorch itself. Whatever else an
    initialisation does is done.
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        x, *others = args or (kwargs.get("tensor"),)
        if isinstance(x, Tensor) and x.is_meta and x.is_floating_point():
            if name in _FILLS:
                return x
            if name in _POINTWISE and all(y.shape == x.shape for y in others if isinstance(y, Tensor)):
                return torch.empty(x.shape, dtype=x.dtype)
        return func(*args, **kwargs)

"""Precision inside layers."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def compute_dtype(*tensors: Tensor | None) -> torch.dtype:
    """float64 where one of the tensors has it, float32 otherwise: what ops compute in and states are kept in."""
    is_double = any(x is not None and x.dtype == torch.float64 for x in tensors)
    return torch.float64 if is_double else torch.float32


def at_compute_dtype(*tensors: Tensor | None) -> tuple[Any, ...]:
    """All at the `compute_dtype` of all; None stays None."""
    dtype = compute_dtype(*tensors)
    return tuple(None if x is None else x.to(dtype) for x in tensors)


def at_least_float32(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """`x` in float32, or in float64 as it was: lengths, steps and decays in bf16 would be wrong by too much."""
    return x.to(compute_dtype(x))


def wide_zeros(like: Tensor, *shape: int) -> Float[Tensor, "..."]:
    """A state at the start of a sequence: zeros on the device of `like`, in float32 or wider."""
    return like.new_zeros(shape, dtype=compute_dtype(like))


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Operations run at the dtype of their inputs inside. PyTorch's own context is entered only where autocast is on:
    it takes as long as some operations of a decode step."""
    if not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)

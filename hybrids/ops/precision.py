"""Precision inside layers."""

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """`x` in float32, or in float64 as it was: lengths, steps and decays in bf16 would be wrong by too much."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Operations run at the dtype of their inputs inside. PyTorch's own context is entered only where autocast is on:
    it takes as long as some operations of a decode step."""
    if not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)

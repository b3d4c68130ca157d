"""Precision inside layers."""

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """`x` in float32, or in float64 as it was: lengths, steps and decays in bf16 would be wrong by too much."""
    return x.to(torch.promote_types(x.dtype, torch.float32))

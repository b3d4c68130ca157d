"""How inputs are brought to what kernels expect: activations at one dtype, finite decays."""

import torch
from torch import Tensor

SHORT = 64
"""Up to this length fla's own layers take the step-by-step kernel: chunks would be mostly empty."""

LOWEST = -64.0
"""Logarithms of decays from this one on count as 0. Kernels subtract running sums: -inf would give NaN."""


def at_one_dtype(*xs: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, ...]:
    """All at one dtype, that of the first if none is given: kernels assume that they agree."""
    return tuple(x.to(dtype or xs[0].dtype) for x in xs)


def clamped(log_decay: Tensor) -> Tensor:
    """Logarithms of decays in float32, none below `LOWEST`."""
    return log_decay.float().clamp(min=LOWEST)


def takes_gradient(*xs: Tensor | None) -> bool:
    """Whether a backward pass will want the gradient of one of these."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in xs)

"""Initial step sizes of recurrent layers, as the authors of Mamba draw them (arXiv:2312.00752, section 3.6)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def draw_dt_bias(size: int, *, low: float = 1e-3, high: float = 1e-1) -> Float[Tensor, " size"]:
    """Biases whose softplus is log-uniform between `low` and `high`."""
    steps = torch.empty(size).uniform_(math.log(low), math.log(high)).exp()
    return steps + torch.log(-torch.expm1(-steps))

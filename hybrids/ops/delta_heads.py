"""What layers around a delta rule share: convolved heads with unit keys, and how their gates start."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.errors import UserError
from hybrids.ops.precision import at_least_float32
from hybrids.ops.short_conv import short_conv


def convolved_heads(
    qkv: Float[Tensor, "B T F"],
    weight: Float[Tensor, "F W"],
    tail: Float[Tensor, "B W-1 F"] | None,
    *,
    num_heads: int,
    d_key: int,
    backend: str = "torch",
) -> tuple[Float[Tensor, "B T H K"], Float[Tensor, "B T H K"], Float[Tensor, "B T H V"], Float[Tensor, "B W-1 F"]]:
    """Queries and keys of unit length, values, and the new tail; F = H (2 K + V), in the order q, k, v.

    All go through a short convolution, on `backend`, and silu; heads are in float32 or wider, the tail has the dtype of
    `qkv`.
    """
    convolved, tail = short_conv(qkv, weight, state=tail, activation="silu", backend=backend)
    d_both = 2 * num_heads * d_key
    both, v = at_least_float32(convolved).split((d_both, qkv.shape[-1] - d_both), dim=-1)
    q, k = unit(both.unflatten(-1, (2 * num_heads, d_key))).chunk(2, dim=2)
    return q, k, v.unflatten(-1, (num_heads, -1)), tail


def convolved_heads_flops(num_heads: int, d_key: int, d_value: int, conv_size: int) -> int:
    """Operations of `convolved_heads` on one token of one sequence."""
    conv = (2 * conv_size + 1) * num_heads * (2 * d_key + d_value)
    return conv + 2 * num_heads * (3 * d_key + 2)


def unit(x: Float[Tensor, "... K"]) -> Float[Tensor, "... K"]:
    """Of length 1; 0 where `x` is nearly 0."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def value_width(d_key: int, expand_v: float) -> int:
    """`expand_v` times `d_key`. Raises UserError where that is not a whole number of at least 1."""
    if expand_v <= 0 or not math.isclose(d_key * expand_v, round(d_key * expand_v)):
        raise UserError(f"expand_v={expand_v} times head_dim={d_key} must be a whole number of at least 1")
    return round(d_key * expand_v)


def initial_conv(width: int, conv_size: int) -> Float[Tensor, "F W"]:
    """Filters as PyTorch's convolutions start: uniform within conv_size^-0.5."""
    return torch.empty(width, conv_size).uniform_(-1, 1) * conv_size**-0.5

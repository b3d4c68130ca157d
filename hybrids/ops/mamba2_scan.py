"""The scan of Mamba-2: linear attention with one decay and one step size per head.

    S_t = exp(dt_t A) S_{t-1} + B_t (dt_t x_t)^T        A < 0, one per head
    o_t = S_t^T C_t

Source: arXiv:2405.21060, eq. 16 (SSD).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.ops.kernels import find_kernel
from hybrids.ops.linear_attention import linear_attention


def mamba2_scan(
    x: Float[Tensor, "B T H V"],
    dt: Float[Tensor, "B T H"],
    A: Float[Tensor, " H"],
    B: Float[Tensor, "B T G N"],
    C: Float[Tensor, "B T G N"],
    state: Float[Tensor, "B H N V"] | None = None,
    *,
    chunk_size: int = 32,
    backend: str = "torch",
    kernel_dtype: torch.dtype | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H N V"]]:
    """Outputs and final state; any T >= 1. All is as in `linear_attention`, C the query, B the key, dt x the value.

    A kernel instead of torch, where `backend` names one, serves more than one token and multiplies in `kernel_dtype`
    (default: that of `x`).
    """
    kernel = find_kernel("mamba2_scan", backend)
    if kernel is not None and x.shape[1] > 1:
        return kernel.call(x, dt, A, B, C, state, dtype=kernel_dtype)
    return linear_attention(C, B, x * dt.unsqueeze(-1), state, log_decay=dt * A, chunk_size=chunk_size, scale=1.0)

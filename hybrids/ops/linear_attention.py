"""Gated linear attention, chunked for speed and one step at a time for reference.

    S_t = diag(a_t) S_{t-1} + k_t v_t^T        a = exp(log_decay): none, one number per head, or one per key feature
    o_t = scale * S_t^T q_t

Source: arXiv:2006.16236, eq. 8-12; arXiv:2312.06635, section 4; arXiv:2405.21060, section 6 (one gate per head).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.ops.heads import repeat_heads
from hybrids.ops.kernels import find_kernel
from hybrids.ops.linear_attention_chunks import per_head, per_key
from hybrids.ops.precision import at_compute_dtype, without_autocast
from hybrids.ops.shapes import check_shapes


def linear_attention(
    q: Float[Tensor, "B T G K"],
    k: Float[Tensor, "B T G K"],
    v: Float[Tensor, "B T H V"],
    state: Float[Tensor, "B H K V"] | None = None,
    *,
    log_decay: Float[Tensor, "B T H"] | Float[Tensor, "B T H K"] | None = None,
    chunk_size: int = 32,
    scale: float | None = None,
    backend: str = "torch",
    kernel_dtype: torch.dtype | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """Outputs and final state, computed in chunks of at most `chunk_size` steps (powers of two); any T >= 1.

    `log_decay` is a natural logarithm, at most 0, and may be -inf; None means no decay. H is a multiple of G: each
    head of queries and keys serves H / G heads of values. `state=None` is a zero state; `scale` defaults to K^-0.5.
    Computes in float32 (float64 when an input is float64), also under autocast; outputs have the dtype of `v`, the
    state that of the computation. Differentiable once. Raises ValueError for shapes that do not belong together.
    Cost per step and head: 4 K V for the state, 2 chunk_size (K + V) for the output; with a gate per key feature
    about 3 log2(chunk_size) K more.
    A kernel instead of torch, where `backend` names one, multiplies in `kernel_dtype` (default: that of `v`).
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size={chunk_size} must be at least 1")
    kernel = find_kernel("linear_attention", backend)
    if kernel is not None:
        _check(q, k, v, log_decay, state)
        return kernel.call(q, k, v, state, log_decay=log_decay, scale=scale, dtype=kernel_dtype)
    if q.shape[1] == 1:
        return linear_attention_recurrent(q, k, v, state, log_decay=log_decay, scale=scale)
    with without_autocast(q.device.type):
        out_dtype, form = v.dtype, per_head
        q, k, v, log_decay, state = _prepare(q, k, v, log_decay, state, scale)
        if log_decay is not None and log_decay.ndim == 4:
            q, k, form = repeat_heads(q, v.shape[2]), repeat_heads(k, v.shape[2]), per_key
        o, new_state = form(q, k, v, log_decay, state, chunk_size)
    return o.to(out_dtype), new_state


def linear_attention_recurrent(
    q: Float[Tensor, "B T G K"],
    k: Float[Tensor, "B T G K"],
    v: Float[Tensor, "B T H V"],
    state: Float[Tensor, "B H K V"] | None = None,
    *,
    log_decay: Float[Tensor, "B T H"] | Float[Tensor, "B T H K"] | None = None,
    scale: float | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """The same one step at a time: the reference, and the decode step. Per step and head 5 K V operations."""
    with without_autocast(q.device.type):
        out_dtype, outputs = v.dtype, []
        q, k, v, log_decay, s = _prepare(q, k, v, log_decay, state, scale)
        q, k = repeat_heads(q, v.shape[2]), repeat_heads(k, v.shape[2])
        if s is None:
            s = v.new_zeros(v.shape[0], v.shape[2], q.shape[-1], v.shape[-1])
        decay = None if log_decay is None else log_decay.exp()
        if decay is not None:
            decay = decay[..., None, None] if decay.ndim == 3 else decay.unsqueeze(-1)
        rows, columns = (x.unsqueeze(-2).unbind(1) for x in (q, v)), k.unsqueeze(-1).unbind(1)
        for t, (q_t, v_t, k_t) in enumerate(zip(*rows, columns, strict=True)):
            if decay is not None:
                s = s * decay[:, t]
            s = torch.addcmul(s, k_t, v_t)
            outputs.append(q_t @ s)
    return torch.stack(outputs, dim=1).squeeze(-2).to(out_dtype), s


def _prepare(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None, scale: float | None
) -> tuple[Any, ...]:
    """The inputs, checked, at the dtype of the computation, q scaled."""
    _check(q, k, v, log_decay, state)
    q, k, v, log_decay, state = at_compute_dtype(q, k, v, log_decay, state)
    if scale != 1:
        q = q * (q.shape[-1] ** -0.5 if scale is None else scale)
    return q, k, v, log_decay, state


def _check(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None) -> None:
    batch, time, groups, d_key = q.shape
    heads, d_value = v.shape[-2:]
    if heads % groups:
        raise ValueError(f"v has {heads} heads; a multiple of the {groups} heads of q is needed")
    each = (batch, time, heads)
    needed = {"k": (k, (batch, time, groups, d_key)), "v": (v, (*each, d_value))}
    decays = (*each, d_key) if log_decay is not None and log_decay.ndim == 4 else each
    check_shapes({**needed, "log_decay": (log_decay, decays), "state": (state, (batch, heads, d_key, d_value))})

"""The gated delta rule, chunked for speed and one step at a time for reference.

    S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T        a = exp(log_decay), b = beta
    o_t = scale * S_t^T q_t

Source: arXiv:2406.06484 (chunked delta rule), arXiv:2412.06464 (gate).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.ops.delta_rule_chunks import chunked_delta_rule
from hybrids.ops.kernels import find_kernel
from hybrids.ops.precision import at_compute_dtype, without_autocast
from hybrids.ops.shapes import check_shapes

LOWEST = {torch.float32: -64.0, torch.float64: -600.0}
"""Decays from this logarithm on count as 0: near the smallest floating point numbers a CPU is five times as slow."""


def delta_rule(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    beta: Float[Tensor, "B T H"],
    log_decay: Float[Tensor, "B T H"] | None = None,
    state: Float[Tensor, "B H K V"] | None = None,
    *,
    chunk_size: int = 32,
    scale: float | None = None,
    backend: str = "torch",
    kernel_dtype: torch.dtype | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """Outputs and final state of the gated delta rule, computed in chunks of at most `chunk_size` steps.

    `log_decay` is a natural logarithm, at most 0; None means no decay. `state=None` is a zero state. `scale`
    defaults to K^-0.5. Keys are used as given: normalise them first. Computes in float32 (float64 when an input
    is float64), also under autocast; outputs have the dtype of `v`, the state that of the computation.
    Differentiable once. Raises ValueError for shapes that do not belong together.
    A kernel instead of torch, where `backend` names one, multiplies in `kernel_dtype` (default: that of `v`).
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size={chunk_size} must be at least 1")
    kernel = find_kernel("delta_rule", backend)
    if kernel is not None:
        _check(q, k, v, beta, log_decay, state)
        return kernel.call(q, k, v, beta, log_decay, state, scale=scale, dtype=kernel_dtype)
    if q.shape[1] == 1:
        return delta_rule_recurrent(q, k, v, beta, log_decay, state, scale=scale)
    with without_autocast(q.device.type):
        x = _prepare(q, k, v, beta, log_decay, state)
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        o, new_state = chunked_delta_rule(*x, scale, chunk_size)
    return o.to(v.dtype), new_state


def delta_rule_recurrent(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    beta: Float[Tensor, "B T H"],
    log_decay: Float[Tensor, "B T H"] | None = None,
    state: Float[Tensor, "B H K V"] | None = None,
    *,
    scale: float | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """The same as `delta_rule`, one step at a time: the reference, and the decode step."""
    with without_autocast(q.device.type):
        out_dtype, outputs = v.dtype, []
        q, k, v, beta, log_decay, s = _prepare(q, k, v, beta, log_decay, state)
        if s is None:
            s = v.new_zeros(q.shape[0], q.shape[2], q.shape[3], v.shape[-1])
        decay = (
            None
            if log_decay is None
            else torch.threshold(log_decay, LOWEST[q.dtype], -torch.inf).exp()[..., None, None]
        )
        rows = (x.unsqueeze(-2).unbind(1) for x in (q, k, v, beta.unsqueeze(-1)))
        for t, (q_t, k_t, v_t, b_t) in enumerate(zip(*rows, strict=True)):
            if decay is not None:
                s = s * decay[:, t]
            s = torch.addcmul(s, (b_t * k_t).mT, v_t - k_t @ s)
            outputs.append(q_t @ s)
        o = torch.stack(outputs, dim=1).squeeze(-2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return o.to(out_dtype), s


def _prepare(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, state: Tensor | None
) -> tuple[Any, ...]:
    """The inputs, checked, at the dtype of the computation."""
    _check(q, k, v, beta, log_decay, state)
    return at_compute_dtype(q, k, v, beta, log_decay, state)


def _check(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, state: Tensor | None) -> None:
    batch, time, heads, d_key = q.shape
    each, d_value = (batch, time, heads), v.shape[-1]
    needed = {"k": (k, (*each, d_key)), "v": (v, (*each, d_value)), "beta": (beta, each)}
    check_shapes({**needed, "log_decay": (log_decay, each), "state": (state, (batch, heads, d_key, d_value))})

"""The generalised delta rule: the state decays by key feature, and what a step removes is its own choice.

    S_t = diag(exp(log_decay_t)) S_{t-1} + k_t v_t^T + b_t (a_t^T S_{t-1})        diagonal plus rank one
    o_t = scale * S_t^T q_t

RWKV-7 takes a = -(unit key), b = -a * (learning rate). With b = k a step writes k_t (v_t + S_{t-1}^T a_t)^T, one
vector where two are written otherwise; the delta rule with a gate per key feature is of this kind.

Source: arXiv:2503.14456, section 4 (RWKV-7); arXiv:2510.26692, eq. 1 (Kimi Delta Attention).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.ops.dplr_chunks import chunked_dplr
from hybrids.ops.kernels import find_kernel
from hybrids.ops.precision import at_compute_dtype, compute_dtype, without_autocast
from hybrids.ops.shapes import check_shapes


def dplr(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    a: Float[Tensor, "B T H K"],
    b: Float[Tensor, "B T H K"] | None,
    log_decay: Float[Tensor, "B T H K"],
    state: Float[Tensor, "B H K V"] | None = None,
    *,
    chunk_size: int = 16,
    scale: float | None = None,
    backend: str = "torch",
    kernel_dtype: torch.dtype | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """Outputs and final state, computed in chunks of at most `chunk_size` steps (a power of two); any T >= 1.

    `b=None` means b = k. `log_decay` is a natural logarithm, at most 0, and may be -inf. `state=None` is a zero
    state; `scale` defaults to K^-0.5. Computes in float32 (float64 when an input is float64), also under autocast;
    outputs have the dtype of `v`, the state that of the computation. Differentiable once. Raises ValueError for
    shapes that do not belong together. A kernel instead of torch, where `backend` names one, multiplies in
    `kernel_dtype` (default: that of `v`).
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size={chunk_size} must be at least 1")
    kernel = find_kernel("dplr", backend)
    if kernel is not None:
        _check(q, k, v, a, b, log_decay, state)
        return kernel.call(q, k, v, a, b, log_decay, state, scale=scale, dtype=kernel_dtype)
    if q.shape[1] == 1:
        return dplr_recurrent(q, k, v, a, b, log_decay, state, scale=scale)
    with without_autocast(q.device.type):
        x = _prepare(q, k, v, a, b, log_decay, state)
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        o, new_state = chunked_dplr(*x, scale, chunk_size)
    return o.to(v.dtype), new_state


def dplr_recurrent(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    a: Float[Tensor, "B T H K"],
    b: Float[Tensor, "B T H K"] | None,
    log_decay: Float[Tensor, "B T H K"],
    state: Float[Tensor, "B H K V"] | None = None,
    *,
    scale: float | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """The same as `dplr`, one step at a time: the reference, and the decode step."""
    with without_autocast(q.device.type):
        out_dtype, outputs = v.dtype, []
        q, k, v, a, b, log_decay, s = _prepare(q, k, v, a, b, log_decay, state)
        decay = log_decay.exp()
        if s is None:
            s = v.new_zeros(q.shape[0], q.shape[2], q.shape[3], v.shape[-1])
        for t in range(q.shape[1]):
            seen = (a[:, t].unsqueeze(-2) @ s).squeeze(-2)
            s = s * decay[:, t].unsqueeze(-1)
            if b is None:
                s = s + _outer(k[:, t], v[:, t] + seen)
            else:
                s = s + _outer(k[:, t], v[:, t]) + _outer(b[:, t], seen)
            outputs.append((q[:, t].unsqueeze(-2) @ s).squeeze(-2))
        o = torch.stack(outputs, dim=1) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return o.to(out_dtype), s


def per_key_delta_rule(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    beta: Float[Tensor, "B T H"],
    log_decay: Float[Tensor, "B T H K"],
    state: Float[Tensor, "B H K V"] | None = None,
    *,
    chunk_size: int = 16,
    scale: float | None = None,
    backend: str = "torch",
    kernel_dtype: torch.dtype | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """S_t = (I - beta_t k_t k_t^T) diag(exp(log_decay_t)) S_{t-1} + beta_t k_t v_t^T, and the outputs of `dplr`.

    `delta_rule` with one gate per key feature: keys are used as given, so normalise them first. All else is as in
    `dplr`. Source: arXiv:2510.26692, eq. 1.
    """
    check_shapes({"beta": (beta, tuple(k.shape[:-1])), "log_decay": (log_decay, tuple(k.shape))})
    kernel = find_kernel("delta_rule", backend)
    if kernel is not None:
        _check(q, k, v, k, None, log_decay, state)
        return kernel.call(q, k, v, beta, log_decay, state, scale=scale, dtype=kernel_dtype)
    with without_autocast(q.device.type):
        dtype = compute_dtype(q, k, v, beta, log_decay, state)
        k, log_decay = k.to(dtype), log_decay.to(dtype)
        written, removed = k * beta.unsqueeze(-1), k * -log_decay.exp()
    return dplr(q, written, v, removed, None, log_decay, state, chunk_size=chunk_size, scale=scale)


def _outer(x: Tensor, y: Tensor) -> Tensor:
    return x.unsqueeze(-1) * y.unsqueeze(-2)


def _prepare(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor | None, log_decay: Tensor, state: Tensor | None
) -> tuple[Any, ...]:
    """The inputs, checked, at the dtype of the computation."""
    _check(q, k, v, a, b, log_decay, state)
    return at_compute_dtype(q, k, v, a, b, log_decay, state)


def _check(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor | None, log_decay: Tensor, state: Tensor | None
) -> None:
    batch, time, heads, d_key = q.shape
    keys, d_value = (batch, time, heads, d_key), v.shape[-1]
    needed = {"k": (k, keys), "a": (a, keys), "b": (b, keys), "log_decay": (log_decay, keys)}
    check_shapes({**needed, "v": (v, (batch, time, heads, d_value)), "state": (state, (batch, heads, d_key, d_value))})

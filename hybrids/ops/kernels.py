"""The GPU kernels of fla, mamba_ssm and causal_conv1d, called with the arguments of our ops.

Every function here has the name, the arguments and the meaning of an op of hybrids.ops, for inputs that
hybrids.ops.backend found valid. q, k, v and other activations are multiplied in `dtype` (default: the one they have),
and outputs come back in the dtype of the values; decays, beta and states go in as float32 and the state comes back as
float32. Read against fla 0.6.0, mamba_ssm 2.3.2.post1 and
causal_conv1d 1.6.1.
"""

from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

SHORT = 64
"""Up to this length fla's own layers take the step-by-step kernel: chunks would be mostly empty."""

LOWEST = -64.0
"""Logarithms of decays from this one on count as 0. Kernels subtract running sums: -inf would give NaN."""


def linear_attention(
    q: Float[Tensor, "B T G K"],
    k: Float[Tensor, "B T G K"],
    v: Float[Tensor, "B T H V"],
    state: Float[Tensor, "B H K V"] | None = None,
    *,
    log_decay: Float[Tensor, "B T H"] | Float[Tensor, "B T H K"] | None = None,
    scale: float | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """fla's simple_gla (no decay, or one for each head) and gla (one for each key dimension)."""
    simple_gla, gla = import_module("fla.ops.simple_gla"), import_module("fla.ops.gla")
    d_value, out_dtype = v.shape[-1], v.dtype
    q, k = _ungrouped(q, v.shape[2]), _ungrouped(k, v.shape[2])
    q, k, v = _at_one_dtype(q, k, _evened(v), dtype=dtype)
    state = None if state is None else _evened(state.float())
    log_decay = _clamped(log_decay)
    is_short = q.shape[1] <= SHORT
    rest: dict[str, Any] = {"scale": scale, "initial_state": state, "output_final_state": True}
    if log_decay is None or log_decay.dim() == 3:
        kernel = simple_gla.fused_recurrent_simple_gla if is_short else simple_gla.chunk_simple_gla
        o, new_state = kernel(q, k, v, g=log_decay, **rest)
    elif is_short:
        o, new_state = gla.fused_recurrent_gla(q, k, v, gk=log_decay, **rest)
    else:
        o, new_state = gla.chunk_gla(q, k, v, g=log_decay, **rest)
    return o[..., :d_value].to(out_dtype), new_state[..., :d_value]


def delta_rule(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    beta: Float[Tensor, "B T H"],
    log_decay: Float[Tensor, "B T H"] | Float[Tensor, "B T H K"] | None = None,
    state: Float[Tensor, "B H K V"] | None = None,
    *,
    scale: float | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """fla's delta_rule (no decay), gated_delta_rule (one for each head) and kda (one for each key dimension).

    The step-by-step kernels with a decay have no backward pass, so they serve only where no gradient is taken.
    """
    plain, by_head, by_key = (import_module(f"fla.ops.{name}") for name in ("delta_rule", "gated_delta_rule", "kda"))
    out_dtype = v.dtype
    q, k, v = _at_one_dtype(q, k, v, dtype=dtype)
    log_decay, beta = _clamped(log_decay), beta.float()
    state = None if state is None else state.float()
    is_short = q.shape[1] <= SHORT
    rest: dict[str, Any] = {"beta": beta, "scale": scale, "initial_state": state, "output_final_state": True}
    if log_decay is None:
        kernel = plain.fused_recurrent_delta_rule if is_short else plain.chunk_delta_rule
        o, new_state = kernel(q, k, v, **rest)
        return o.to(out_dtype), new_state
    takes_gradient = torch.is_grad_enabled() and _needs_gradient(q, k, v, log_decay, beta, state)
    steps, chunks = by_head.fused_recurrent_gated_delta_rule, by_head.chunk_gated_delta_rule
    if log_decay.dim() == 4:
        steps, chunks = by_key.fused_recurrent_kda, by_key.chunk_kda
    kernel = steps if is_short and not takes_gradient else chunks
    o, new_state = kernel(q, k, v, g=log_decay, **rest)
    return o.to(out_dtype), new_state


def dplr(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    a: Float[Tensor, "B T H K"],
    b: Float[Tensor, "B T H K"] | None,
    log_decay: Float[Tensor, "B T H K"],
    state: Float[Tensor, "B H K V"] | None = None,
    *,
    scale: float | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """fla's generalised delta rule, which its chunk_rwkv7 is.

    The step-by-step kernel has no backward pass, so it serves only where no gradient is taken.
    """
    module = import_module("fla.ops.generalized_delta_rule")
    out_dtype = v.dtype
    q, k, v, a, b = _at_one_dtype(q, k, v, a, k if b is None else b, dtype=dtype)
    decay, state = _clamped(log_decay), None if state is None else state.float()
    takes_gradient = torch.is_grad_enabled() and _needs_gradient(q, k, v, a, b, decay, state)
    is_stepwise = q.shape[1] <= SHORT and not takes_gradient
    kernel = module.fused_recurrent_dplr_delta_rule if is_stepwise else module.chunk_dplr_delta_rule
    rest: dict[str, Any] = {"scale": scale, "initial_state": state, "output_final_state": True}
    o, new_state = kernel(q, k, v, a, b, decay, **rest)
    return o.to(out_dtype), new_state


def mamba2_scan(
    x: Float[Tensor, "B T H V"],
    dt: Float[Tensor, "B T H"],
    A: Float[Tensor, " H"],
    B: Float[Tensor, "B T G N"],
    C: Float[Tensor, "B T G N"],
    state: Float[Tensor, "B H N V"] | None = None,
    *,
    chunk_size: int = 256,
    dtype: torch.dtype | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H N V"]]:
    """mamba_ssm's chunked scan of Mamba-2: S_t = exp(dt_t A) S_{t-1} + dt_t B_t x_t^T, o_t = S_t^T C_t.

    The same as linear_attention(C, B, dt x, log_decay=dt A, scale=1). `dt` is positive, `A` negative; softplus, bias
    and the skip D stay with the mixer.
    """
    ssd = import_module("mamba_ssm.ops.triton.ssd_combined")
    out_dtype = x.dtype
    x, B, C = _at_one_dtype(x, B, C, dtype=dtype)
    o, new_state = ssd.mamba_chunk_scan_combined(
        x,
        dt.float(),
        A.float(),
        B,
        C,
        chunk_size,
        initial_states=None if state is None else state.float().mT.contiguous(),
        return_final_states=True,
        state_dtype=torch.float32,
    )
    return o.to(out_dtype), new_state.mT.contiguous()


def selective_scan(
    x: Float[Tensor, "B T D"],
    dt: Float[Tensor, "B T D"],
    A: Float[Tensor, "D N"],
    B: Float[Tensor, "B T N"],
    C: Float[Tensor, "B T N"],
    D: Float[Tensor, " D"] | None = None,
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B D N"]]:
    """mamba_ssm's CUDA scan of Mamba-1, from the start of a sequence: it takes no state.

    dt, B and C are brought to the dtype of `x`. The final state has no gradient, and asking for it is an error. A step,
    or the rest of a sequence, is for the torch form.
    """
    interface = import_module("mamba_ssm.ops.selective_scan_interface")
    x, dt, B, C = (t.transpose(1, 2).contiguous() for t in _at_one_dtype(x, dt, B, C))
    skip = None if D is None else D.float()
    y, state = interface.selective_scan_fn(x, dt, A.float(), B, C, skip, return_last_state=True)
    return y.transpose(1, 2), _WithoutGradient.apply(state)


def short_conv(
    x: Float[Tensor, "B T D"],
    weight: Float[Tensor, "D W"],
    bias: Float[Tensor, " D"] | None = None,
    state: Float[Tensor, "B W-1 D"] | None = None,
    *,
    activation: str | None = None,
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B W-1 D"]]:
    """causal_conv1d's kernel, for T >= W - 1: a shorter piece, or one step, is for the torch form.

    `[B T D]` transposed is the kernel's channels-last layout; it wants strides that are multiples of 8.
    """
    num_kept = weight.shape[1] - 1
    x = x if x.stride(-1) == 1 and all(stride % 8 == 0 for stride in x.stride()[:2]) else x.contiguous()
    y = import_module("causal_conv1d").causal_conv1d_fn(
        x.transpose(1, 2),
        weight.to(x.dtype),
        None if bias is None else bias.to(x.dtype),
        initial_states=None if state is None else state.to(x.dtype).contiguous().transpose(1, 2),
        activation=activation,
    )
    return y.transpose(1, 2), x[:, x.shape[1] - num_kept :].clone()


class _WithoutGradient(torch.autograd.Function):
    """A tensor whose gradient its maker would drop without a word."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        raise RuntimeError("mamba_ssm's selective scan has no gradient for its final state; take backend=torch")


def _ungrouped(x: Float[Tensor, "B T G K"], num_heads: int) -> Float[Tensor, "B T H K"]:
    return x if x.shape[2] == num_heads else x.repeat_interleave(num_heads // x.shape[2], dim=2)


def _evened(x: Tensor) -> Tensor:
    """An even last axis: with 16 bits, fla refuses an odd one in the backward pass."""
    return F.pad(x, (0, 1)) if x.shape[-1] % 2 else x


def _at_one_dtype(*xs: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, ...]:
    """All at one dtype, that of the first if none is given: kernels assume that they agree."""
    return tuple(x.to(dtype or xs[0].dtype) for x in xs)


def _clamped(log_decay: Tensor | None) -> Tensor | None:
    return None if log_decay is None else log_decay.float().clamp(min=LOWEST)


def _needs_gradient(*xs: Tensor | None) -> bool:
    return any(x is not None and x.requires_grad for x in xs)

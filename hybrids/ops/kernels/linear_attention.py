"""The kernel of linear attention: fla's."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hybrids.ops.heads import repeat_heads
from hybrids.ops.kernels.imports import import_outside
from hybrids.ops.kernels.inputs import SHORT, at_one_dtype, clamped
from hybrids.ops.kernels.kernel import Demand, Obstacle, register_kernel
from hybrids.ops.kernels.limits import gated_chunk_limits, tile_limits
from hybrids.ops.kernels.packages import FLA


def _limits(demand: Demand, dtype: torch.dtype) -> list[Obstacle]:
    return [*tile_limits(demand, dtype), *gated_chunk_limits(demand)]


@register_kernel(
    "linear_attention", "fla", packages=(FLA,), limits=_limits, note="widths 16 to 256; float32 only as TF32"
)
def linear_attention_on_fla(
    q: Float[Tensor, "B T G K"],
    k: Float[Tensor, "B T G K"],
    v: Float[Tensor, "B T H V"],
    state: Float[Tensor, "B H K V"] | None = None,
    *,
    log_decay: Float[Tensor, "B T H"] | Float[Tensor, "B T H K"] | None = None,
    scale: float | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """fla's simple_gla (no decay, or one for each head) and gla (one for each key dimension).

    q, k and v are multiplied in `dtype` (default: the one of q); outputs have the dtype of `v`, the state is float32.
    """
    simple_gla, gla = import_outside("fla.ops.simple_gla"), import_outside("fla.ops.gla")
    d_key, d_value, out_dtype = q.shape[-1], v.shape[-1], v.dtype
    scale = d_key**-0.5 if scale is None else scale
    q, k = (_evened(repeat_heads(x, v.shape[2])) for x in (q, k))
    q, k, v = at_one_dtype(q, k, _evened(v), dtype=dtype)
    state = None if state is None else _evened(state.float(), axes=2)
    log_decay = None if log_decay is None else clamped(log_decay)
    if log_decay is not None and log_decay.dim() == 4:
        log_decay = _evened(log_decay)
    is_short = q.shape[1] <= SHORT
    if log_decay is None or log_decay.dim() == 3:
        kernel = simple_gla.fused_recurrent_simple_gla if is_short else simple_gla.chunk_simple_gla
        o, new_state = kernel(q, k, v, g=log_decay, scale=scale, initial_state=state, output_final_state=True)
    elif is_short:
        o, new_state = gla.fused_recurrent_gla(
            q, k, v, gk=log_decay, scale=scale, initial_state=state, output_final_state=True
        )
    else:
        o, new_state = gla.chunk_gla(q, k, v, g=log_decay, scale=scale, initial_state=state, output_final_state=True)
    return o[..., :d_value].to(out_dtype), new_state[..., :d_key, :d_value]


def _evened(x: Tensor, *, axes: int = 1) -> Tensor:
    """Zeros up to even last axes: with 16 bits, the backward pass of fla's chunks refuses odd keys and odd values."""
    padding = [n for size in reversed(x.shape[-axes:]) for n in (0, size % 2)]
    return F.pad(x, padding) if any(padding) else x

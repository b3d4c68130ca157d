"""The kernel of the delta rule, with a decay for each head or key dimension or without: fla's."""

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.ops.kernels.imports import import_outside
from hybrids.ops.kernels.inputs import SHORT, at_one_dtype, clamped, takes_gradient
from hybrids.ops.kernels.kernel import Demand, Obstacle, register_kernel
from hybrids.ops.kernels.limits import BF16_COMMAND, gated_chunk_limits, tile_limits
from hybrids.ops.kernels.packages import FLA


def _limits(demand: Demand, dtype: torch.dtype) -> list[Obstacle]:
    found = [*tile_limits(demand, dtype), *gated_chunk_limits(demand)]
    if demand.gate == "none" and dtype == torch.float32:
        found.append(Obstacle("the kernel of the delta rule without a gate refuses float32", BF16_COMMAND))
    return found


@register_kernel(
    "delta_rule",
    "fla",
    packages=(FLA,),
    limits=_limits,
    note="widths 16 to 256; float32 only as TF32, and not without a gate",
)
def delta_rule_on_fla(
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

    q, k and v are multiplied in `dtype` (default: the one of q); outputs have the dtype of `v`, the state is float32.
    The step-by-step kernels with a decay have no backward pass, so they serve only where no gradient is taken.
    """
    plain, by_head, by_key = (import_outside(f"fla.ops.{name}") for name in ("delta_rule", "gated_delta_rule", "kda"))
    out_dtype = v.dtype
    q, k, v = at_one_dtype(q, k, v, dtype=dtype)
    beta, state = beta.float(), None if state is None else state.float()
    is_short = q.shape[1] <= SHORT
    if log_decay is None:
        kernel = plain.fused_recurrent_delta_rule if is_short else plain.chunk_delta_rule
        o, new_state = kernel(q, k, v, beta=beta, scale=scale, initial_state=state, output_final_state=True)
        return o.to(out_dtype), new_state
    decay = clamped(log_decay)
    steps, chunks = by_head.fused_recurrent_gated_delta_rule, by_head.chunk_gated_delta_rule
    if decay.dim() == 4:
        steps, chunks = by_key.fused_recurrent_kda, by_key.chunk_kda
    kernel = steps if is_short and not takes_gradient(q, k, v, decay, beta, state) else chunks
    o, new_state = kernel(q, k, v, g=decay, beta=beta, scale=scale, initial_state=state, output_final_state=True)
    return o.to(out_dtype), new_state

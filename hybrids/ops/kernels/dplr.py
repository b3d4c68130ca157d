"""The kernel of the generalised delta rule: fla's."""

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.ops.kernels.imports import import_outside
from hybrids.ops.kernels.inputs import SHORT, at_one_dtype, clamped, takes_gradient
from hybrids.ops.kernels.kernel import Demand, Obstacle, register_kernel
from hybrids.ops.kernels.limits import BF16_COMMAND, tile_limits
from hybrids.ops.kernels.packages import FLA


def _limits(demand: Demand, dtype: torch.dtype) -> list[Obstacle]:
    found = tile_limits(demand, dtype)
    if dtype == torch.float32:
        found.append(Obstacle("the kernel of dplr warns that float32 is wrong on some platforms", BF16_COMMAND))
    return found


@register_kernel("dplr", "fla", packages=(FLA,), limits=_limits, note="widths 16 to 256; no float32")
def dplr_on_fla(
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

    q, k, v, a and b are multiplied in `dtype` (default: the one of q); outputs have the dtype of `v`, the state is
    float32. The step-by-step kernel has no backward pass, so it serves only where no gradient is taken.
    """
    module = import_outside("fla.ops.generalized_delta_rule")
    out_dtype = v.dtype
    q, k, v, a, b = at_one_dtype(q, k, v, a, k if b is None else b, dtype=dtype)
    decay, state = clamped(log_decay), None if state is None else state.float()
    is_stepwise = q.shape[1] <= SHORT and not takes_gradient(q, k, v, a, b, decay, state)
    kernel = module.fused_recurrent_dplr_delta_rule if is_stepwise else module.chunk_dplr_delta_rule
    o, new_state = kernel(q, k, v, a, b, decay, scale=scale, initial_state=state, output_final_state=True)
    return o.to(out_dtype), new_state

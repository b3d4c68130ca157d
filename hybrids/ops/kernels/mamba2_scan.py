"""The kernel of Mamba-2's scan: mamba_ssm's, in Triton."""

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.ops.kernels.imports import import_outside
from hybrids.ops.kernels.inputs import at_one_dtype
from hybrids.ops.kernels.kernel import register_kernel
from hybrids.ops.kernels.limits import tile_limits
from hybrids.ops.kernels.packages import MAMBA


@register_kernel(
    "mamba2_scan",
    "mamba_ssm",
    packages=(MAMBA,),
    limits=tile_limits,
    note="d_state and head_dim 16 to 256; float32 only as TF32",
)
def mamba2_scan_on_mamba_ssm(
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
    and the skip D stay with the mixer. x, B and C are multiplied in `dtype` (default: the one of x); outputs have the
    dtype of `x`, the state is float32.
    """
    ssd = import_outside("mamba_ssm.ops.triton.ssd_combined")
    out_dtype = x.dtype
    x, B, C = at_one_dtype(x, B, C, dtype=dtype)
    o, new_state = ssd.mamba_chunk_scan_combined(
        x,
        dt.float(),
        A.float(),
        B,
        C,
        chunk_size,
        initial_states=None if state is None else state.float().mT.contiguous(),
        return_final_states=True,  # in float32, as the released 2.3.2.post1 keeps them: it has no `state_dtype`
    )
    return o.to(out_dtype), new_state.float().mT.contiguous()

"""Selective scan (Mamba-1): a diagonal state per feature, chunked for speed and one step at a time for reference.

    h_t = exp(dt_t A) h_{t-1} + (dt_t x_t) B_t^T      per feature and state entry; A at most 0
    y_t = h_t C_t + D x_t

Backends: `torch` everywhere; `cpp`, one fused kernel on a CPU (`selective_scan_cpu`), needs a C++ compiler;
`mamba_ssm`, the authors' kernel on a GPU.
Source: arXiv:2312.00752, eq. 2 with zero-order hold for A and the simplified (Euler) rule for B, as in its code.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.ops.kernels import find_kernel
from hybrids.ops.precision import without_autocast
from hybrids.ops.selective_scan_chunks import TorchKernel, check_inputs, prepare, scan


def selective_scan(
    x: Float[Tensor, "B T D"],
    dt: Float[Tensor, "B T D"],
    A: Float[Tensor, "D N"],
    B: Float[Tensor, "B T N"],
    C: Float[Tensor, "B T N"],
    D: Float[Tensor, " D"] | None = None,
    state: Float[Tensor, "B D N"] | None = None,
    *,
    chunk_size: int | None = None,
    backend: str = "torch",
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B D N"]]:
    """Outputs and final state; any T >= 1.

    `state=None` is a zero state. Computes in float32 (float64 when an input is float64), also under autocast;
    outputs have the dtype of `x`, the state that of the computation. `chunk_size` is how many steps are in memory
    at once, by default what fits the cache. A kernel instead of torch, where `backend` names one, serves more than one
    token. `cpp` differs from torch by rounding only, and torch.compile takes torch instead. `mamba_ssm` brings dt, B
    and C to the dtype of `x`, starts from no state (torch goes on from one), and its final state has no gradient.
    Differentiable once. Raises ValueError for shapes that do not belong together.
    """
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size={chunk_size} must be at least 1")
    kernel = find_kernel("selective_scan", backend)
    if x.shape[1] == 1:
        return selective_scan_recurrent(x, dt, A, B, C, D, state)
    # On a CPU the compiler's own code takes the place of ours.
    if kernel is not None and not (kernel.device == "cpu" and torch.compiler.is_compiling()):
        check_inputs(x, dt, A, B, C, D, state)
        return kernel.call(x, dt, A, B, C, D, state, chunk_size=chunk_size)
    return scan(x, dt, A, B, C, D, state, chunk_size, TorchKernel)


def selective_scan_recurrent(
    x: Float[Tensor, "B T D"],
    dt: Float[Tensor, "B T D"],
    A: Float[Tensor, "D N"],
    B: Float[Tensor, "B T N"],
    C: Float[Tensor, "B T N"],
    D: Float[Tensor, " D"] | None = None,
    state: Float[Tensor, "B D N"] | None = None,
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B D N"]]:
    """The same as `selective_scan`, one step at a time: the reference, and the decode step."""
    with without_autocast(x.device.type):
        out_dtype, outputs = x.dtype, []
        x, dt, A, B, C, D, h = prepare(x, dt, A, B, C, D, state)
        for t in range(x.shape[1]):
            decay = (dt[:, t, :, None] * A).exp()
            h = decay * h + (dt[:, t] * x[:, t]).unsqueeze(-1) * B[:, t].unsqueeze(1)
            outputs.append((h @ C[:, t].unsqueeze(-1)).squeeze(-1))
        y = torch.stack(outputs, dim=1)
        if D is not None:
            y = y + D * x
    return y.to(out_dtype), h

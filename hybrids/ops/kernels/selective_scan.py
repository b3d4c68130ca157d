"""The kernels of the selective scan: mamba_ssm's on a GPU, our own in C++ on a CPU."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.ops import selective_scan_cpu
from hybrids.ops.derivatives import Function
from hybrids.ops.kernels.imports import import_outside
from hybrids.ops.kernels.inputs import at_one_dtype
from hybrids.ops.kernels.kernel import Demand, Obstacle, register_kernel
from hybrids.ops.kernels.limits import not_in_float64
from hybrids.ops.kernels.packages import MAMBA, SELECTIVE_SCAN
from hybrids.ops.selective_scan_chunks import TorchKernel, scan


def _limits(demand: Demand, dtype: torch.dtype) -> list[Obstacle]:
    found = not_in_float64(dtype)
    if demand.d_state is not None and demand.d_state > 256:
        found.append(Obstacle(f"d_state={demand.d_state} is above 256", "d_state=256"))
    return found


@register_kernel(
    "selective_scan",
    "mamba_ssm",
    packages=(MAMBA, SELECTIVE_SCAN),
    limits=_limits,
    note="d_state up to 256; from the start of a sequence",
)
def selective_scan_on_mamba_ssm(
    x: Float[Tensor, "B T D"],
    dt: Float[Tensor, "B T D"],
    A: Float[Tensor, "D N"],
    B: Float[Tensor, "B T N"],
    C: Float[Tensor, "B T N"],
    D: Float[Tensor, " D"] | None = None,
    state: Float[Tensor, "B D N"] | None = None,
    *,
    chunk_size: int | None = None,
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B D N"]]:
    """mamba_ssm's CUDA scan of Mamba-1, from the start of a sequence: it takes no state, and torch goes on from one.

    dt, B and C are brought to the dtype of `x`. The final state has no gradient, and asking for it is an error.
    """
    if state is not None:
        return scan(x, dt, A, B, C, D, state, chunk_size, TorchKernel)
    interface = import_outside("mamba_ssm.ops.selective_scan_interface")
    x, dt, B, C = (t.transpose(1, 2).contiguous() for t in at_one_dtype(x, dt, B, C))
    skip = None if D is None else D.float()
    y, new_state = interface.selective_scan_fn(x, dt, A.float(), B, C, skip, return_last_state=True)
    return y.transpose(1, 2), _WithoutGradient.call(new_state)  # type: ignore[return-value]


class _WithoutGradient(Function):
    """A tensor whose gradient its maker would drop without a word."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        raise RuntimeError("mamba_ssm's selective scan has no gradient for its final state; take backend=torch")


def _without_compiler() -> Sequence[Obstacle]:
    reason = selective_scan_cpu.why_not()
    return () if reason is None else (Obstacle(f"the kernel cannot be built: {reason}", "apt-get install g++"),)


@register_kernel("selective_scan", "cpp", device="cpu", machine_limits=_without_compiler, note="on a CPU")
def selective_scan_in_cpp(
    x: Float[Tensor, "B T D"],
    dt: Float[Tensor, "B T D"],
    A: Float[Tensor, "D N"],
    B: Float[Tensor, "B T N"],
    C: Float[Tensor, "B T N"],
    D: Float[Tensor, " D"] | None = None,
    state: Float[Tensor, "B D N"] | None = None,
    *,
    chunk_size: int | None = None,
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B D N"]]:
    """The scan in one fused kernel, built on the first call; the same as on torch up to rounding."""
    return scan(x, dt, A, B, C, D, state, chunk_size, selective_scan_cpu.CppKernel)

"""The kernel of the short convolution: causal_conv1d's, which comes with mamba_ssm."""

import torch
from jaxtyping import Float
from torch import Tensor

from hybrids.ops.kernels.imports import import_outside
from hybrids.ops.kernels.kernel import Demand, Obstacle, register_kernel
from hybrids.ops.kernels.limits import not_in_float64
from hybrids.ops.kernels.packages import CONV


def _limits(demand: Demand, dtype: torch.dtype) -> list[Obstacle]:
    found = not_in_float64(dtype)
    if demand.conv_size is not None and not 2 <= demand.conv_size <= 4:
        found.append(Obstacle(f"conv_size={demand.conv_size} is outside 2 to 4", "conv_size=4"))
    if demand.d_conv is not None and demand.d_conv % 8:
        found.append(Obstacle(f"the {demand.d_conv} features of the convolution are no multiple of 8"))
    return found


@register_kernel(
    "short_conv", "mamba_ssm", packages=(CONV,), limits=_limits, note="conv_size 2 to 4, features a multiple of 8"
)
def short_conv_on_causal_conv1d(
    x: Float[Tensor, "B T D"],
    weight: Float[Tensor, "D W"],
    bias: Float[Tensor, " D"] | None = None,
    state: Float[Tensor, "B W-1 D"] | None = None,
    *,
    activation: str | None = None,
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B W-1 D"]]:
    """causal_conv1d's kernel, for T >= W - 1: a shorter piece, or one step, is for the torch form.

    `[B T D]` transposed is the kernel's channels-last layout.
    """
    num_kept = weight.shape[1] - 1
    x = _aligned(x)
    y = import_outside("causal_conv1d").causal_conv1d_fn(
        x.transpose(1, 2),
        weight.to(x.dtype),
        None if bias is None else bias.to(x.dtype),
        initial_states=None if state is None else _aligned(state.to(x.dtype)).transpose(1, 2),
        activation=activation,
    )
    if y.requires_grad:
        y.register_hook(lambda gradient: _aligned(gradient.transpose(1, 2)).transpose(1, 2))
    return y.transpose(1, 2), x[:, x.shape[1] - num_kept :].clone()


def _aligned(x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """`x`, or a copy where the kernel cannot load it: 16 bytes at once, from strides that are multiples of 8.

    It checks the strides. It does not check where the first of these loads starts, which for a slice of a projection
    is anywhere: the GPU then stops with `misaligned address`.
    """
    fits = x.stride(-1) == 1 and all(stride % 8 == 0 for stride in x.stride()[:2]) and x.data_ptr() % 16 == 0
    return x if fits else x.clone(memory_format=torch.contiguous_format)

"""Short causal convolution along time, one filter per feature, with its tail as the state.

    y_t = activation(bias + sum_j weight[:, j] * x_{t - W + 1 + j})        W taps, the last one sees x_t

The state is the last W - 1 inputs, time before features like `x`, so that it is joined to `x` without a transpose.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hybrids.ops.kernels import find_kernel
from hybrids.ops.precision import without_autocast
from hybrids.ops.shapes import check_shapes

ACTIVATIONS = {None: lambda y: y, "silu": F.silu}


def short_conv(
    x: Float[Tensor, "B T D"],
    weight: Float[Tensor, "D W"],
    bias: Float[Tensor, " D"] | None = None,
    state: Float[Tensor, "B W-1 D"] | None = None,
    *,
    activation: str | None = None,
    backend: str = "torch",
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B W-1 D"]]:
    """Outputs and the new state, both at the dtype of `x`, also under autocast.

    `state=None` is a state of zeros. Exact for any T >= 1, also T < W. Raises ValueError for shapes that do not
    belong together and for an unknown activation.
    A kernel instead of torch, where `backend` names one, serves pieces of at least W tokens; a decode step never.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation!r} is unknown; allowed: {', '.join(map(repr, ACTIVATIONS))}")
    kernel = find_kernel("short_conv", backend)
    needed = _check(x, weight, state)
    if kernel is not None and x.shape[1] >= weight.shape[1]:
        return kernel.call(x, weight, bias, state, activation=activation)
    state = x.new_zeros(needed) if state is None else state
    with without_autocast(x.device.type):
        joined = torch.cat([state.to(x.dtype), x], dim=1)
        y = _filter(joined, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
    # A copy: a view would keep the whole sequence alive in the state.
    return ACTIVATIONS[activation](y), joined[:, x.shape[1] :].clone()


def initial_filters(width: int, conv_size: int) -> Float[Tensor, "D W"]:
    """Filters as PyTorch's convolutions start: uniform within conv_size^-0.5."""
    return torch.empty(width, conv_size).uniform_(-1, 1) * conv_size**-0.5


def _check(x: Tensor, weight: Tensor, state: Tensor | None) -> tuple[int, int, int]:
    """The shape of the state."""
    batch, _, width = x.shape
    if weight.shape[0] != width:
        raise ValueError(f"weight has shape {tuple(weight.shape)}; its first axis must be the width of x, {width}")
    needed = (batch, weight.shape[1] - 1, width)
    check_shapes({"state": (state, needed)})
    return needed


def _filter(joined: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if joined.shape[1] == weight.shape[1]:  # one step: the convolution's set-up would cost more than its work
        y = (joined * weight.t()).sum(1, keepdim=True)
        return y if bias is None else y + bias
    # As an image one pixel high, [B T D] is in channels-last order already: no copy, and oneDNN's fast kernels.
    # Against conv1d, or a sum of W shifted products, forward and backward are two to three times as fast on a CPU.
    image = joined.transpose(1, 2).unsqueeze(2)
    y = F.conv2d(image, weight[:, None, None], bias, groups=weight.shape[0])
    return y.squeeze(2).transpose(1, 2)

"""RMSNorm (arXiv:1910.07467, eq. 4): y = w x / sqrt(mean(x^2) + eps), as one node of the graph on a CPU."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """RMSNorm over the last axis, with a weight that starts at 1.

    PyTorch's own is a chain of five kernels on a CPU and as many in the backward pass; there this one takes about
    half the time. On other devices PyTorch's fused kernel runs.
    """

    def __init__(self, width: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        if x.device.type == "cpu" and x.dtype == self.weight.dtype:
            if not torch.is_grad_enabled():  # a decode step: the node alone would take as long as its operations
                return _normed(x, self.eps)[0] * self.weight
            return _RMSNorm.apply(x, self.weight, self.eps)  # type: ignore[return-value]
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def _normed(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x / sqrt(mean(x^2) + eps), and the factor."""
    scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return x * scale, scale


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normed, scale = _normed(x, eps)
        ctx.save_for_backward(normed, scale, weight)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad,) = grads
        normed, scale, weight = ctx.saved_tensors
        weighted = grad * normed
        along = (weighted @ weight)[..., None] / normed.shape[-1]
        return (
            (grad * weight).addcmul_(normed, along, value=-1).mul_(scale),
            weighted.reshape(-1, len(weight)).sum(0),
            None,
        )

"""RMSNorm (arXiv:1910.07467, eq. 4): y = w x / sqrt(mean(x^2) + eps), as one node of the graph on a CPU."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hybrids.ops.derivatives import Function


class RMSNorm(nn.Module):
    """RMSNorm over the last axis, with a weight that starts at 1.

    PyTorch's own is a chain of five kernels on a CPU and as many in the backward pass; there this one takes about
    half the time. On other devices PyTorch's fused kernel runs, and `torch.compile` makes one of its own.
    """

    def __init__(self, width: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        if x.device.type == "cpu" and x.dtype == self.weight.dtype and not torch.compiler.is_compiling():
            if not torch.is_grad_enabled():  # a decode step: the node alone would take as long as its operations
                return _normed(x, self.eps)[0] * self.weight
            return _RMSNorm.call(x, self.weight, self.eps)[0]
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def _normed(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x / sqrt(mean(x^2) + eps), and the factor."""
    scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square().div_(x.shape[-1]).add_(eps).rsqrt_()
    return x * scale, scale


class _RMSNorm(Function):
    """The norm, x / rms and 1 / rms. The backward pass is written in the latter two, which have gradients as well, so
    that it can be differentiated again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        normed, scale = _normed(x, eps)
        return normed * weight, normed, scale

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*output[1:], inputs[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        grad, d_normed, d_scale = grads
        normed, scale, weight = ctx.saved_tensors
        if grad is not None and d_normed is None and d_scale is None and not torch.is_grad_enabled():
            return *_first_gradients(grad, normed, scale, weight), None
        d_weight = None if grad is None else (grad * normed).reshape(-1, len(weight)).sum(0)
        along = 0 if grad is None else grad * weight
        along = along if d_normed is None else along + d_normed
        inward = (along * normed).sum(-1, keepdim=True)
        inward = inward if d_scale is None else inward + d_scale * scale
        return (along - normed * (inward / normed.shape[-1])) * scale, d_weight, None


def _first_gradients(grad: Tensor, normed: Tensor, scale: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Of x and weight, in as few passes as there can be."""
    weighted = grad * normed
    along = (weighted @ weight)[..., None] / normed.shape[-1]
    d_x = (grad * weight).addcmul_(normed, along, value=-1).mul_(scale)
    return d_x, weighted.reshape(-1, len(weight)).sum(0)

"""Cross entropy of `x @ weight^T` that never holds all logits.

Rows are taken in blocks that fit the cache; the gradient is computed in the same pass, while the block is
there (as in Liger, arXiv:2410.10989, and Cut Cross-Entropy, arXiv:2411.09009), so nothing is done twice.
Within a block, with l the logits of a row, m their maximum and t the target:
    exp(l - m) = e, z = sum(e), loss = log z + m - l_t, d loss / d l = e / z - onehot(t)
The division by z is applied to the D columns around the block instead of to its logits.
"""

from typing import Any, no_type_check

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hybrids.ops.derivatives import FirstGradient, Function
from hybrids.ops.precision import compute_dtype, without_autocast

CPU_BLOCK = 2**20
"""Logits held at a time on a CPU: 4 MB, about an L2 cache. Measured: 2**18 to 2**21 are within 5 % at D = 64."""
GPU_BLOCK = 2**26
"""On any other device: 256 MB, so that there are few launches."""
MIN_ROWS = 128
"""With fewer rows, reading and writing the gradient of a large weight for each block takes most of the time."""


def linear_cross_entropy(
    x: Float[Tensor, "P D"],
    weight: Float[Tensor, "vocab D"],
    targets: Int[Tensor, " P"],
    valid: Bool[Tensor, " P"],
) -> tuple[Float[Tensor, ""], Bool[Tensor, " P"]]:
    """Mean loss over the valid entries (0 if there are none), and which of them are answered correctly.

    An entry is correct if it is valid and its target's logit is the largest, strictly: a model that gives all
    tokens the same logit is right nowhere. Entries that are not valid may hold anything.

    Logits, softmax and loss are computed in float32, or float64 if an input is float64, autocast or not; the
    gradients are rounded to the dtypes of the inputs once, at the end. Never waits for the device. Traced by
    `torch.compile` as one opaque operation. RuntimeError where a second derivative is taken.
    """
    loss, correct, *_ = _LinearCrossEntropy.call(x, weight, targets, valid, *_needs(x, weight))
    return loss, correct


def _needs(*tensors: Tensor) -> list[bool]:
    """Which of them get a gradient."""
    return [torch.is_grad_enabled() and x.requires_grad for x in tensors]


@no_type_check  # at run time: torch.compile does not trace around the checks of tests
class _LinearCrossEntropy(Function):
    """Loss, correct, and the gradients of the loss, which are no results but what the backward pass needs."""

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return _loss_and_gradients(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        loss, correct, *gradients = output
        ctx.save_for_backward(loss, *gradients)
        ctx.mark_non_differentiable(correct, *gradients)
        ctx.needs, ctx.dtypes = inputs[4:], (inputs[0].dtype, inputs[1].dtype)
        if not torch.compiler.is_compiling():  # which knows no other way than zeros for what is not differentiated
            ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        grad, (loss, *gradients) = grad_outputs[0], ctx.saved_tensors
        if grad is None:
            return (None,) * 6
        scaled = _Scaled.forward if torch.compiler.is_compiling() else _Scaled.call
        parts = zip(gradients, ctx.needs, ctx.dtypes, strict=True)
        found = [None if not need else scaled(part, grad, dtype, loss) for part, need, dtype in parts]
        return *found, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """One after the other: each is large, and has a mean of its own."""
        needs = [given or found for given, found in zip(args[4:], _needs(*args[:2]), strict=True)]
        inputs = list(zip(args[:4], in_dims[:4], strict=True))
        slices = ([x if dim is None else x.select(dim, i) for x, dim in inputs] for i in range(info.batch_size))
        results = zip(*(_LinearCrossEntropy.call(*x, *needs) for x in slices), strict=True)
        return tuple(map(torch.stack, results)), (0, 0, 0, 0)


class _Scaled(FirstGradient):
    """The gradient of the loss, times what comes from outside; the loss links it to the inputs."""

    op, instead = "linear_cross_entropy", "F.cross_entropy of the logits"
    generate_vmap_rule = True

    @staticmethod
    def forward(part: Tensor, grad: Tensor, dtype: torch.dtype, loss: Any) -> Tensor:
        return (part * grad).to(dtype)


# One opaque operation for torch.compile, which would otherwise unroll the loop over blocks.
@torch.library.custom_op("hybrids::linear_cross_entropy", mutates_args=())
def _loss_and_gradients(
    x: Tensor, weight: Tensor, targets: Tensor, valid: Tensor, needs_x: bool, needs_weight: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, correct, and the gradients of the loss by `x` and `weight`, each empty where it is not needed."""
    dtype = compute_dtype(x, weight)
    with without_autocast(x.device.type):
        # A row of zeros has finite logits and adds nothing to the gradient of the weight.
        invalid = ~valid[:, None]
        x, targets = x.to(dtype).masked_fill(invalid, 0), targets[:, None].masked_fill(invalid, 0)
        count = valid.sum().clamp(min=1)
        losses, correct, dx, dweight = _by_blocks(x, weight.to(dtype), targets, needs_x, needs_weight)
        loss = losses.masked_fill(invalid, 0).sum() / count
        if needs_x:
            dx.masked_fill_(invalid, 0)
        return loss, correct[:, 0] & valid, dx.div_(count), dweight.div_(count)


@_loss_and_gradients.register_fake
def _(
    x: Tensor, weight: Tensor, targets: Tensor, valid: Tensor, needs_x: bool, needs_weight: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = compute_dtype(x, weight)
    dx = x.new_empty(x.shape if needs_x else 0, dtype=dtype)
    dweight = x.new_empty(weight.shape if needs_weight else 0, dtype=dtype)
    return x.new_empty((), dtype=dtype), torch.empty_like(valid), dx, dweight


def _by_blocks(
    x: Tensor, weight: Tensor, targets: Tensor, needs_x: bool, needs_weight: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss and correctness of each row, and the gradients of the sum of the losses."""
    losses, correct = x.new_empty(len(x), 1), x.new_empty(len(x), 1, dtype=torch.bool)
    dx = x.new_empty(x.shape if needs_x else 0)
    dweight = x.new_zeros(weight.shape if needs_weight else 0)
    size = max(MIN_ROWS, (CPU_BLOCK if x.is_cpu else GPU_BLOCK) // len(weight))
    logits = x.new_empty(min(size, len(x)), len(weight))
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        block = torch.mm(x[rows], weight.t(), out=logits[: len(x) - start])
        losses[rows], correct[rows], z = _exponentiate(block, targets[rows])
        if needs_x or needs_weight:
            block.scatter_(1, targets[rows], block.gather(1, targets[rows]) - z)
        if needs_x:
            torch.mm(block, weight, out=dx[rows]).div_(z)
        if needs_weight:
            dweight.addmm_(block.t(), x[rows] / z)
    return losses, correct, dx, dweight


def _exponentiate(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Turn logits into e, in place; losses, correctness and z of the rows."""
    target = logits.gather(1, targets)
    rival = logits.scatter_(1, targets, -torch.inf).amax(1, keepdim=True)
    top = torch.maximum(rival, target)
    z = logits.scatter_(1, targets, target).sub_(top).exp_().sum(1, keepdim=True)
    return z.log() + top - target, target > rival, z

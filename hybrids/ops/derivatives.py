"""Functions whose gradient is written out, for autograd, `torch.compile` and the transforms of `torch.func` alike."""

from collections.abc import Callable
from typing import Any, no_type_check

import torch
from torch import Tensor
from torch._functorch.utils import unwrap_dead_wrappers

from hybrids.ops.precision import without_autocast


class Function(torch.autograd.Function):
    """PyTorch's, called by `call`."""

    @classmethod
    def call(cls, *args: Any) -> Any:
        """`apply`, which outside of transforms does no more, but reads the signature of `forward` each time: that takes
        as long as a small norm."""
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            return cls.apply(*args)
        return super(torch.autograd.Function, cls).apply(*unwrap_dead_wrappers(args))  # type: ignore[misc]


class FirstGradient(Function):
    """A gradient that is written out and has none of its own.

    As a function, not a mere call in a backward pass: `vmap` finds its rule, and a second derivative is an error.
    """

    op: str
    instead: str
    """What has a second derivative."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept."""

    @classmethod
    def backward(cls, *_: Any) -> Any:  # type: ignore[override]
        raise RuntimeError(f"{cls.op} has no second derivative; take {cls.instead}")


def recurrence(
    forward: Callable[..., tuple[Tensor, ...]],
    gradient: Callable[..., tuple[Tensor | None, ...]],
    *,
    num_tensors: int,
    num_kept: int = 0,
    op: str,
    instead: str,
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Outputs and final state of a recurrence whose gradient is written out, and has none of its own.

    `forward` takes `num_tensors` inputs that are tensors or None, then settings, and gives outputs, state, and what
    its gradient keeps beside the first `num_kept` inputs. `gradient` takes the gradients of outputs and state, which
    of the inputs need one, the settings, and all that was kept, and gives the gradients of the inputs, None for one
    that was not given. Either may work in place on what it has made itself; autocast does not reach the gradient.
    The first axis of all tensors is the batch, which `vmap` lengthens: B in the first of them, a multiple of it in the
    others, or 1 where all rows share one.
    A second derivative of `op` is a RuntimeError that says what to take `instead`.
    """

    class Gradient(FirstGradient):
        @staticmethod
        def forward(*args: Any) -> tuple[Tensor | None, ...]:
            return gradient(*args[:-1])  # the last, an output of the recurrence, links gradients to its inputs

        @staticmethod
        def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
            return _apply_to_rows(Gradient, info.batch_size, in_dims, args)

    @no_type_check  # at run time: torch.compile does not trace around the checks of tests
    class Recurrence(Function):
        @staticmethod
        def forward(*args: Any) -> tuple[Tensor, ...]:
            o, state, *saved = forward(*args)
            return o, state, o.new_empty(len(o), 0), *saved

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
            ctx.save_for_backward(*output[2:3], *inputs[:num_kept], *output[3:])
            ctx.mark_non_differentiable(*output[3:])
            ctx.settings = inputs[num_tensors:]
            if not torch.compiler.is_compiling():  # which knows no other way than zeros for what is not differentiated
                ctx.set_materialize_grads(False)
                ctx.shapes = [x.shape for x in output[:2]]

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
            link, *saved = ctx.saved_tensors
            args = *_fill(grads[:2], link, ctx), ctx.needs_input_grad[:num_tensors], *ctx.settings, *saved
            with without_autocast(link.device.type):
                found = gradient(*args) if torch.compiler.is_compiling() else Gradient.call(*args, link)
            return *found, *(None for _ in ctx.settings)

        @staticmethod
        def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
            return _apply_to_rows(Recurrence, info.batch_size, in_dims, args)

    Gradient.op, Gradient.instead = op, instead
    return lambda *args: Recurrence.call(*args)[:2]


def _fill(grads: tuple[Tensor | None, ...], like: Tensor, ctx: Any) -> list[Tensor]:
    """Zeros where an output was not used."""
    return [like.new_zeros(ctx.shapes[i]) if grad is None else grad for i, grad in enumerate(grads)]


def _apply_to_rows(
    function: type[Function], size: int, in_dims: tuple[Any, ...], args: tuple[Any, ...]
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The rule of `vmap`: outputs, and where their new axis is. `size` rows for each row, by one call."""
    first = args[0].shape
    rows = first[0] if in_dims[0] is None else first[1 if in_dims[0] == 0 else 0]
    joined = (_join(x, dim, size, rows) if isinstance(x, Tensor) else x for x, dim in zip(args, in_dims, strict=True))
    outputs = function.call(*joined)
    apart = tuple(None if x is None else x.unflatten(0, (size, -1)) for x in outputs)
    return apart, tuple(None if x is None else 0 for x in outputs)


def _join(x: Tensor, dim: int | None, size: int, rows: int) -> Tensor:
    x = x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
    if x.shape[1] == 1:  # shared by all rows
        x = x.expand(size, rows, *x.shape[2:])
    return x.flatten(0, 1)

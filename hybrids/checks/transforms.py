"""A check of any layer under the transforms of `torch.func`."""

import functools
import warnings
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vjp, vmap

from hybrids.checks.subject import Subject, assert_same, no_error

NUM_LAYERS = 2
LENGTH, CUT = 70, 67
"""Both pieces have more than one token; the first has more than a chunk of the usual 64, and is a multiple of none."""

Tensors: TypeAlias = dict[str, Tensor]


def transforms_agree_with_a_loop(subject: Subject) -> None:
    """Under `torch.func`, gradients of stacked layers, by example, and through `vmap`, are those of autograd."""
    layers = [_InPieces(subject.module(seed=seed)) for seed in range(NUM_LAYERS)]
    params, buffers = ({name: x.detach() for name, x in part.items()} for part in stack_module_state(layers))
    x, d_y = (_stacked_inputs(subject, seed) for seed in (0, NUM_LAYERS))

    def call(params: Tensors, buffers: Tensors, x: Tensor) -> Tensor:
        return functional_call(layers[0], (params, buffers), (x,), strict=True)

    def gradients(params: Tensors, buffers: Tensors, x: Tensor, d_y: Tensor) -> Tensors:
        return _pull_back(lambda params, x: call(params, buffers, x), params, x, d_y)

    expected = _stack([_by_autograd(layer, *pair) for layer, *pair in zip(layers, x, d_y, strict=True)])
    with no_error("fails under torch.func"), warnings.catch_warnings():
        # Of an operation that vmap does one after the other: as right, and no fault of the layer.
        warnings.filterwarnings("ignore", "There is a performance drop")
        of_layers = vmap(gradients)(params, buffers, x, d_y)
        through = _pull_back(lambda params, x: vmap(call)(params, buffers, x), params, x, d_y)
        first = ({name: x[0] for name, x in part.items()} for part in (params, buffers))
        by_example = vmap(functools.partial(gradients, *first))(x, d_y)
    _assert_all_same(of_layers, expected, "vmap of the gradient over stacked layers")
    _assert_all_same(through, expected, "the gradient of vmap over stacked layers")
    one_layer = _stack([_by_autograd(layers[0], *pair) for pair in zip(x, d_y, strict=True)])
    _assert_all_same(by_example, one_layer, "vmap of the gradient over inputs of one layer")


class _InPieces(nn.Module):
    """A layer on a sequence; a mixer on two pieces of it, the second from a state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Float[Tensor, "B T D"]) -> Tensor:
        result = self.layer(x[:, :CUT])
        if not isinstance(result, tuple):
            return self.layer(x)
        y, state = result
        return torch.cat([y, self.layer(x[:, CUT:], state)[0]], dim=1)


def _stacked_inputs(subject: Subject, seed: int) -> Float[Tensor, "M B T D"]:
    return torch.stack([subject.inputs(2, LENGTH, seed=seed + i) for i in range(NUM_LAYERS)])


def _by_autograd(layer: nn.Module, x: Tensor, d_y: Tensor) -> Tensors:
    params, x = dict(layer.named_parameters()), x.requires_grad_()
    y = layer(x)
    grads = torch.autograd.grad(y, [*params.values(), x], d_y)
    return _named(y.detach(), dict(zip(params, grads, strict=False)), grads[-1])


def _pull_back(function: Any, params: Tensors, x: Tensor, d_y: Tensor) -> Tensors:
    y, back, *_ = vjp(function, params, x)
    return _named(y, *back(d_y))


def _named(y: Tensor, d_params: Tensors, d_x: Tensor) -> Tensors:
    gradients = {**d_params, "the input": d_x}
    return {"the outputs": y, **{f"the gradients of {name}": value for name, value in gradients.items()}}


def _stack(parts: list[Tensors]) -> Tensors:
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def _assert_all_same(got: Tensors, expected: Tensors, how: str) -> None:
    for name, value in expected.items():
        assert_same(got[name], value, f"{how}: {name} differ from autograd's")

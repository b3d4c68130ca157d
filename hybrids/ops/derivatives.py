"""Gradients that are written out, and have none of their own."""

import torch


def refuse_second_derivative(op: str, instead: str) -> None:
    """Raise RuntimeError where the backward pass of `op` is itself to be differentiated.

    `once_differentiable` lets create_graph=True pass, and the gradient then counts as a constant.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(f"{op} has no second derivative; take {instead}")

"""Shapes of the inputs of an op."""

from collections.abc import Mapping

from torch import Tensor


def check_shapes(needed: Mapping[str, tuple[Tensor | None, tuple[int, ...]]]) -> None:
    """Raise ValueError for the first input that has not the shape beside it; None is an input that was not given."""
    for name, (x, shape) in needed.items():
        if x is not None and x.shape != shape:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; {shape} is needed")

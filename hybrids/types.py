"""Axis legend and tensor aliases.

Axes, in every annotation and docstring:
    B batch      T time        D model width    H heads
    K key width  V value width N state width    P queried positions
"""

from typing import TypeAlias

from torch import Tensor

State: TypeAlias = tuple[Tensor, ...]
"""What one mixer carries between calls: a NamedTuple of tensors, batch first, everything included."""

Cache: TypeAlias = tuple[tuple[State, ...], ...]
"""What a backbone carries between calls: for each layer, one State per mixer of that layer."""

"""Compare patterns at equal parameters, equal state or equal cost of a step: the width that makes them so."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hybrids.errors import UserError, check_choice
from hybrids.model.backbone import Backbone
from hybrids.model.unfilled import unfilled

QUANTITIES = ("params", "state", "flops")


class Size(NamedTuple):
    """What a backbone of some width is; one sequence, as declared by its layers (a conformance check holds them)."""

    d_model: int
    params: int
    state: int
    """Elements carried after the context."""
    flops: int
    """Of one decode step after the context."""


def size_of(build: Callable[[int], Backbone], d_model: int, context: int) -> Size:
    """Sizes of the backbone that `build` makes at a width, without making its numbers."""
    with unfilled():
        backbone = build(d_model)
    params = sum(parameter.numel() for parameter in backbone.parameters())
    return Size(d_model, params, backbone.state_elements(context), backbone.step_flops(context))


def match_width(
    build: Callable[[int], Backbone], quantity: str, target: int, context: int, widths: Sequence[int]
) -> Size:
    """The size whose `quantity` comes closest to `target` in ratio, over the `widths` that the layers accept.

    Raises UserError for an unknown quantity, and where no width is accepted or none comes within a factor of 1.5:
    a comparison under that name would not be one.
    """
    check_quantity(quantity)
    sizes, refusal = _accepted(build, context, widths)
    if not sizes:
        tried = f"{widths[0]} ... {widths[-1]}"
        raise UserError(f"match={quantity}: the layers accept none of the widths {tried}; at the last, {refusal}")
    best = min(sizes, key=lambda size: _distance(getattr(size, quantity), target))
    if _distance(getattr(best, quantity), target) > 1.5:
        found = ", ".join(f"{getattr(s, quantity):,} at d_model={s.d_model}" for s in (sizes[0], sizes[-1]))
        raise UserError(f"match={quantity}: no width comes within a factor 1.5 of {target:,}; there are {found}")
    return best


def check_quantity(quantity: str) -> None:
    """UserError for what cannot be matched."""
    check_choice("match", quantity, QUANTITIES)


def _accepted(build: Callable[[int], Backbone], context: int, widths: Sequence[int]) -> tuple[list[Size], str]:
    """Sizes at the widths that all layers accept, and why the last refused one was."""
    sizes, refusal = [], ""
    for width in widths:
        try:
            sizes.append(size_of(build, width, context))
        except UserError as error:  # a width that the heads of some layer do not divide
            refusal = str(error)
    return sizes, refusal


def _distance(value: int, target: int) -> float:
    """The ratio of the larger to the smaller; infinite where one is nothing and the other is not."""
    if value == target:
        return 1.0
    return max(value, target) / min(value, target) if min(value, target) > 0 else float("inf")

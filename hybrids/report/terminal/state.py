"""What each layer of a stack carries and costs per step, declared and measured, beside zoology's numbers.

zoology (https://github.com/HazyResearch/zoology) published accuracy against state size; a mixer that it has gives the
number that zoology's formula gives for it, elements of one layer and one sequence, in `published_sizes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hybrids.errors import UserError
from hybrids.model.backbone import Backbone
from hybrids.model.block import Block
from hybrids.model.measure import count_flops, parameter_bytes, prefill, state_bits, state_elements
from hybrids.registry import name_of
from hybrids.types import State

PUBLISHED = "zoology"
"""The source whose sizes stand in the table: the `state_size` methods of its mixers at commit dbcb60d (NSA without its
window for block-sparse attention)."""


@dataclass(frozen=True)
class LayerPart:
    """One mixer of a layer, or what a layer has beside its mixers; for one sequence at one context."""

    layer: str
    name: str
    kinds: str
    """Shapes of the state tensors, by field."""
    declared_elements: int
    elements: int
    bits: int
    declared_flops: int
    flops: int
    bytes_read: int
    """Parameters and state, once each."""
    published: int | None
    note: str


@torch.no_grad()
def measure_parts(backbone: Backbone, context: int) -> list[LayerPart]:
    """Every mixer of every layer after `context` tokens, and the rest of each layer. Counted on backend torch."""
    backbone.eval()
    parts = []
    for i, (block, layer) in enumerate(zip(backbone.blocks, backbone.pattern.layers, strict=True)):
        assert isinstance(block, Block)
        mixers: list[Any] = list(block.mixers)
        states = [prefill(mixer, block.d_model, context) for mixer in mixers]
        x = next(block.parameters()).new_ones(1, 1, block.d_model)
        label = f"{i} {layer}"
        inside = [_measure_mixer(label, *pair, x, context) for pair in zip(mixers, states, strict=True)]
        parts += [*inside, _measure_rest(label, block, states, x, context, inside)]
    return parts


def _measure_mixer(label: str, mixer: Any, state: State, x: Tensor, context: int) -> LayerPart:
    name, elements, bits = name_of(type(mixer)), state_elements(state), state_bits(state)
    published = next((size for size in mixer.published_sizes(context) if size.source == PUBLISHED), None)
    note = ""
    if published is not None and published.elements != elements:
        theirs = f"{PUBLISHED} counts {published.elements:,} = {published.formula}"
        note = f"{name}: {theirs}, measured {elements:,}: it {published.difference}"
    return LayerPart(
        layer=label,
        name=name,
        kinds=_kinds(state),
        declared_elements=mixer.state_elements(context),
        elements=elements,
        bits=bits,
        declared_flops=mixer.step_flops(context),
        flops=count_flops(lambda: mixer(x, state)),
        bytes_read=parameter_bytes(mixer) + bits // 8,
        published=None if published is None else published.elements,
        note=note,
    )


def _kinds(state: State) -> str:
    named = zip(getattr(state, "_fields", map(str, range(len(state)))), state, strict=True)
    return ", ".join(f"{name} {'x'.join(map(str, x.shape[1:]))}" for name, x in named)


def _measure_rest(
    label: str, block: Block, states: Sequence[State], x: Tensor, context: int, inside: Sequence[LayerPart]
) -> LayerPart:
    """Norms, residuals, gate and channel mixer: the block less its mixers."""
    flops = count_flops(lambda: block(x, tuple(states)))
    return LayerPart(
        layer=label,
        name="norms" if block.channel is None else f"norms, {name_of(type(block.channel))}",
        kinds="",
        declared_elements=0,
        elements=0,
        bits=0,
        declared_flops=block.step_flops(context) - sum(part.declared_flops for part in inside),
        flops=flops - sum(part.flops for part in inside),
        bytes_read=parameter_bytes(block) - sum(map(parameter_bytes, block.mixers)),
        published=None,
        note="",
    )


COLUMNS = (
    "layer",
    "part",
    "bits",
    "FLOPs",
    "bytes read",
    "elements",
    "state tensors",
    "declared",
    "FLOPs declared",
    PUBLISHED,
)
"""By importance: a narrow terminal shows the first. Beside what was measured, what the layers declare."""


def table_rows(parts: Sequence[LayerPart]) -> list[list[str]]:
    """Rows of the table under `COLUMNS`, the totals last; zoology's total over the mixers that it has a formula for."""
    theirs = [part.published for part in parts if part.published is not None]
    rows = [_cells(part.layer, part.name, [part], part.kinds, part.published) for part in parts]
    return [*rows, _cells("total", "", parts, "", sum(theirs) if theirs else None)]


def _cells(layer: str, name: str, parts: Sequence[LayerPart], kinds: str, published: int | None) -> list[str]:
    def total(number: str) -> str:
        return f"{sum(getattr(part, number) for part in parts):,}"

    measured = map(total, ("bits", "flops", "bytes_read", "elements"))
    declared = map(total, ("declared_elements", "declared_flops"))
    return [layer, name, *measured, kinds, *declared, _or_empty(published)]


def notes(parts: Sequence[LayerPart]) -> list[str]:
    """Where zoology's numbers differ and why, each once; and mixers whose declared size is wrong."""
    wrong = [
        f"layer {part.layer}: {part.name} declares {part.declared_elements:,} elements and carries {part.elements:,}"
        for part in parts
        if part.declared_elements != part.elements
    ]
    return [*dict.fromkeys(part.note for part in parts if part.note), *wrong]


def _or_empty(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def read_context(given: Sequence[str]) -> int:
    """The number of tokens in the last of the arguments context=<n>, 1024 without one."""
    text = given[-1].removeprefix("context=") if given else "1024"
    if not text.isdecimal():
        raise UserError(f"context={text} is not a number of tokens; allowed: 0 or more")
    return int(text)

"""What each layer of a stack carries and costs per step, declared and measured, beside zoology's numbers.

zoology (https://github.com/HazyResearch/zoology) published accuracy against state size; `ZOOLOGY` holds its formulas,
elements of one layer and one sequence, by the name under which a mixer is registered here.
n: tokens seen; D: model width; H: heads; K, V: widths of keys and values; N: state width; W: taps of a convolution.
"""

from collections.abc import Callable, Sequence
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


@dataclass(frozen=True)
class Formula:
    """zoology's number of elements that a mixer carries after n tokens."""

    text: str
    elements: Callable[[Any, int], int]
    difference: str
    """Where and why the tensors hold another number."""


def _matrices(mixer: Any, context: int) -> int:
    d_key = mixer.d_key if hasattr(mixer, "d_key") else mixer.head_dim
    return mixer.num_heads * d_key * (mixer.d_value if hasattr(mixer, "d_value") else d_key)


def _blocks(mixer: Any, context: int) -> int:
    compressed = context // mixer.block_size
    return 2 * mixer.d_model * (compressed + mixer.block_size * mixer.num_selected)


_TAILS = "leaves out the inputs that the short convolutions still need"

ZOOLOGY: dict[str, Formula] = {
    "attention": Formula(
        "2 D n", lambda m, n: 2 * m.d_model * n, "takes keys and values of width D, whatever heads there are"
    ),
    "sliding_attention": Formula(
        "2 D window",
        lambda m, n: 2 * m.d_model * m.window,
        "takes a full window from the first token on, and the token itself, which is not carried",
    ),
    "block_sparse_attention": Formula(
        "2 D (n / block + block blocks)", _blocks, "leaves out all keys and values, from which blocks are selected"
    ),
    "based": Formula(
        "H E (V + 1)", lambda m, n: m.num_heads * m.num_features * (m.head_dim + 1), "takes E = f (f + 1) / 2 + f + 1"
    ),
    "mamba": Formula("2 D N", lambda m, n: 2 * m.d_model * m.d_state, f"{_TAILS}, and takes an inner width of 2 D"),
    "mamba2": Formula(
        "2 D N", lambda m, n: 2 * m.d_model * m.d_state, f"{_TAILS} (of x, B and C), and takes an inner width of 2 D"
    ),
    "delta_net": Formula("H K V", _matrices, _TAILS),
    "gated_delta_net": Formula("H K V", _matrices, _TAILS),
    "gla": Formula("H K V", _matrices, "takes the matrices, and convolutions where there are some"),
    "rwkv7": Formula("H K V", _matrices, "leaves out the previous token's input, which the token shift needs"),
    "short_conv": Formula(
        "D W", lambda m, n: m.d_model * m.conv_size, "takes the token itself too, which is not carried"
    ),
}
"""Source: the `state_size` methods of its mixers at commit dbcb60d (NSA without its window for block-sparse)."""


@dataclass(frozen=True)
class Part:
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
    zoology: int | None
    note: str


@torch.no_grad()
def measure_parts(backbone: Backbone, context: int) -> list[Part]:
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


def _measure_mixer(label: str, mixer: Any, state: State, x: Tensor, context: int) -> Part:
    name, elements, bits = name_of(type(mixer)), state_elements(state), state_bits(state)
    formula = ZOOLOGY.get(name)
    theirs = None if formula is None else formula.elements(mixer, context)
    note = ""
    if formula is not None and theirs is not None and theirs != elements:
        note = f"{name}: zoology counts {theirs:,} = {formula.text}, measured {elements:,}: it {formula.difference}"
    return Part(
        layer=label,
        name=name,
        kinds=_kinds(state),
        declared_elements=mixer.state_elements(context),
        elements=elements,
        bits=bits,
        declared_flops=mixer.step_flops(context),
        flops=count_flops(lambda: mixer(x, state)),
        bytes_read=parameter_bytes(mixer) + bits // 8,
        zoology=theirs,
        note=note,
    )


def _kinds(state: State) -> str:
    named = zip(getattr(state, "_fields", map(str, range(len(state)))), state, strict=True)
    return ", ".join(f"{name} {'x'.join(map(str, x.shape[1:]))}" for name, x in named)


def _measure_rest(
    label: str, block: Block, states: Sequence[State], x: Tensor, context: int, inside: Sequence[Part]
) -> Part:
    """Norms, residuals, gate and channel mixer: the block less its mixers."""
    flops = count_flops(lambda: block(x, tuple(states)))
    return Part(
        layer=label,
        name="norms" if block.channel is None else f"norms, {name_of(type(block.channel))}",
        kinds="",
        declared_elements=0,
        elements=0,
        bits=0,
        declared_flops=block.step_flops(context) - sum(part.declared_flops for part in inside),
        flops=flops - sum(part.flops for part in inside),
        bytes_read=parameter_bytes(block) - sum(map(parameter_bytes, block.mixers)),
        zoology=None,
        note="",
    )


COLUMNS = (
    "layer",
    "part",
    "state tensors",
    "elements declared",
    "measured",
    "bits",
    "FLOPs declared",
    "counted",
    "bytes read",
    "zoology",
)


def table_rows(parts: Sequence[Part]) -> list[list[str]]:
    """Rows of the table under `COLUMNS`, the totals last; zoology's total over the mixers that it has a formula for."""
    numbers = ("declared_elements", "elements", "bits", "declared_flops", "flops", "bytes_read")
    rows = [
        [part.layer, part.name, part.kinds, *(f"{getattr(part, name):,}" for name in numbers), _or_empty(part.zoology)]
        for part in parts
    ]
    totals = [f"{sum(getattr(part, name) for part in parts):,}" for name in numbers]
    theirs = [part.zoology for part in parts if part.zoology is not None]
    return [*rows, ["total", "", "", *totals, _or_empty(sum(theirs) if theirs else None)]]


def notes(parts: Sequence[Part]) -> list[str]:
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

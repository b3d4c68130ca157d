"""How the state and the cost of a step grow with the context, layer by layer, measured without training."""

from collections.abc import Sequence
from dataclasses import dataclass

from hybrids.errors import check_number
from hybrids.model.backbone import Backbone
from hybrids.report.terminal.state import LayerPart, measure_parts
from hybrids.training.files import to_csv
from hybrids.triangle.coordinates import Coordinates, Measured, locate, whole_blocks

COLUMNS = (
    *("layer", "Efficiency", "Compactness", "state bits", "bits at 2n", "step FLOPs", "FLOPs at 2n"),
    *("bytes read", "bytes at 2n"),
)
"""By importance: a narrow terminal shows the first."""


@dataclass(frozen=True)
class Growth:
    """A layer, or the whole stack, at the contexts measured."""

    layer: str
    measured: tuple[Measured, ...]
    period: int = 1
    """Of the blocks in which layers of the stack work."""

    def at(self, context: int) -> Measured:
        return next(one for one in self.measured if one.context == context)

    def coordinates(self, context: int) -> Coordinates:
        """Efficiency and Compactness from `context`, or the end of a block that it is in, and twice of that."""
        end = whole_blocks(context, self.period)
        return locate(self.at(end), self.at(2 * end))


def contexts_around(context: int) -> list[int]:
    """`context` and its doubles and halves, from a sixteenth to four times; UserError below 1."""
    check_number("context", context, 1, why="nothing grows from an empty context")
    halves = [context // 2**k for k in range(4, 0, -1) if context >= 2**k]
    return [*halves, context, 2 * context, 4 * context]


def measure_growth(backbone: Backbone, contexts: Sequence[int]) -> list[Growth]:
    """Every layer in order, then the total; backbone only, one sequence.

    Contexts whose double is among them have coordinates; where blocks do not end there, their end is measured, too.
    """
    ends = [whole_blocks(context, backbone.period) for context in contexts if 2 * context in contexts]
    contexts = sorted({*contexts, *ends, *(2 * end for end in ends)})
    tables = {context: measure_parts(backbone, context) for context in contexts}
    labels = list(dict.fromkeys(part.layer for part in tables[contexts[0]]))
    parts = {label: [[p for p in tables[c] if p.layer == label] for c in contexts] for label in labels}
    parts["total"] = [tables[c] for c in contexts]
    sums = {label: tuple(map(_sum, contexts, groups)) for label, groups in parts.items()}
    return [Growth(label, measured, backbone.period) for label, measured in sums.items()]


def _sum(context: int, parts: Sequence[LayerPart]) -> Measured:
    return Measured(
        context=context,
        state_bits=sum(part.bits for part in parts),
        step_flops=sum(part.flops for part in parts),
        step_bytes=sum(part.bytes_read for part in parts),
    )


def table_rows(growths: Sequence[Growth], context: int) -> list[list[str]]:
    """Rows under `COLUMNS`, at `context` and twice of it."""
    rows = []
    for growth in growths:
        once, twice, place = growth.at(context), growth.at(2 * context), growth.coordinates(context)
        counts = [f"{n:,}" for pair in zip(once[1:], twice[1:], strict=True) for n in pair]
        rows.append([growth.layer, f"{place.efficiency:.3f}", f"{place.compactness:.3f}", *counts])
    return rows


def growth_csv(growths: Sequence[Growth]) -> str:
    """Everything measured."""
    rows = [[growth.layer, *one] for growth in growths for one in growth.measured]
    return to_csv(["layer", *Measured._fields], rows)

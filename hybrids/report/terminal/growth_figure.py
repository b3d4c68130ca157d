"""How state and cost grow with the context, as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrids.report.picture import save_picture
from hybrids.report.terminal.growth import Growth


def draw_growth(growths: Sequence[Growth], context: int, path: Path, *, title: str) -> None:
    """State bits and FLOPs of a step against the context, both on logarithmic axes; PNG or SVG by the name."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    total = growths[-1].coordinates(context)
    _draw(left, growths, "state_bits", f"state: Compactness {total.compactness:.2f} at {context}", "bits")
    _draw(right, growths, "step_flops", f"decode step: Efficiency {total.efficiency:.2f} at {context}", "FLOPs")
    for axes in (left, right):
        axes.axvspan(context, 2 * context, color="0.92", zorder=0)
    left.legend(fontsize=8, title="layer", ncols=1 + len(growths) // 9)
    figure.suptitle(title, fontsize=10)
    save_picture(figure, path, dpi=150)


def _draw(axes: Axes, growths: Sequence[Growth], quantity: str, title: str, unit: str) -> None:
    """Layers that cost the same lie on one line, which is named once."""
    curves: dict[tuple[int, ...], list[str]] = {}
    for growth in growths:
        curves.setdefault(tuple(getattr(one, quantity) for one in growth.measured), []).append(growth.layer)
    contexts = [one.context for one in growths[0].measured]
    for values, layers in curves.items():
        look: dict[str, Any] = {"color": "black", "lw": 2} if "total" in layers else {"lw": 1.2}
        axes.plot(contexts, values, marker=".", label=", ".join(layers), **look)
    axes.set_xscale("log", base=2)
    axes.set(yscale="log", xlabel="context (tokens)", ylabel=unit)
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)

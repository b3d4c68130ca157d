"""Each model as a triangle whose corners lie at its Efficiency, Compactness and Recall: more is larger."""

import math
from collections.abc import Iterator, Sequence

import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Still
from plotly.subplots import make_subplots

from hybrids.report.page.compare import Comparison
from hybrids.report.page.figure import Drawing, Figure, Series
from hybrids.report.page.style import Row, by_label, column, hover, marks
from hybrids.report.page.trajectories import COLUMNS, COORDINATES, trajectories

_ANGLES = (90, 210, 330)
"""Degrees of the spokes, in the order of `COORDINATES`: E at the top, C at the left, R at the right."""
_NAMES = "ECR"
_IN_A_ROW = 5
_RINGS = (0.5, 1.0)


def _tabulate(comparison: Comparison) -> Series:
    models = [row for row in trajectories(comparison) if row["kind"] == "model"]
    rows = sorted(
        (row for row in models if row["total"] is not None),
        key=lambda row: (row["letters"], row["label"], row["context"]),
    )
    caption = (
        "Each pattern on three spokes from 0 to 1: Efficiency at the top, Compactness left, Recall right. "
        f"Patterns stand in the order of their number of layers with {comparison.letter}. What reaches further has "
        "more; a model that has learned nothing lies flat, without a corner at Recall. Mean over the seeds."
    )
    return Series("What each pattern has of the three", caption, COLUMNS, rows, list(_notes(models)))


def _notes(models: Sequence[Row]) -> Iterator[str]:
    without = sorted({row["label"] for row in models if row["total"] is None})
    if without:
        yield f"Recall not measured, so not drawn: {', '.join(without)}"
    beyond = sorted(
        {row["label"] for row in models if any(row[key] is not None and row[key] < 0 for key in COORDINATES)}
    )
    if beyond:
        yield f"a coordinate below 0 (growth that is more than in proportion) is drawn at 0: {', '.join(beyond)}"


def _shown(row: Row) -> list[float]:
    """Lengths along the spokes."""
    return [min(max(row[key], 0.0), 1.0) for key in COORDINATES]


def _still(rows: Sequence[Row]) -> Still:
    panels = by_label(rows)
    across, down = min(_IN_A_ROW, len(panels)), math.ceil(len(panels) / _IN_A_ROW)
    figure = Still(figsize=(2.4 * max(across, 2), 2.5 * down + 0.4), layout="constrained")
    look = marks(column(rows, "context"))
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in grid:
        axes.axis("off")
    for axes, (label, models) in zip(grid, panels.items(), strict=False):
        _draw_spokes(axes, label)
        for row in models:
            mark = look[row["context"]]
            xs, ys = zip(*_corners(_shown(row)), strict=True)
            axes.fill(xs, ys, facecolor=mark.colour, alpha=0.12, edgecolor="none")
            axes.plot([*xs, xs[0]], [*ys, ys[0]], **mark.still, ms=4)
    for context, mark in look.items():
        next(iter(figure.axes)).plot([], [], **mark.still, ms=4, label=f"context {context}")
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure


def _draw_spokes(axes: Axes, label: str) -> None:
    for ring in _RINGS:
        xs, ys = zip(*_corners([ring] * 3), strict=True)
        axes.plot([*xs, xs[0]], [*ys, ys[0]], color="0.85", lw=1, zorder=0)
    for (x, y), name in zip(_corners([1.0] * 3), _NAMES, strict=True):
        axes.plot([0, x], [0, y], color="0.7", lw=1, zorder=0)
        axes.text(1.14 * x, 1.14 * y, name, ha="center", va="center", fontsize=9)
    axes.set(xlim=(-1.15, 1.15), ylim=(-0.8, 1.25), aspect="equal")
    axes.set_title(label, fontsize=9)


def _corners(lengths: Sequence[float]) -> list[tuple[float, float]]:
    angles = [math.radians(angle) for angle in _ANGLES]
    return [(r * math.cos(angle), r * math.sin(angle)) for r, angle in zip(lengths, angles, strict=True)]


def _interactive(rows: Sequence[Row]) -> go.Figure:
    panels = by_label(rows)
    across, down = min(_IN_A_ROW, len(panels)), math.ceil(len(panels) / _IN_A_ROW)
    kinds = [[{"type": "polar"}] * across for _ in range(down)]
    figure = make_subplots(down, across, specs=kinds, subplot_titles=list(panels), vertical_spacing=0.18 / down)
    look = marks(column(rows, "context"))
    told: set[int] = set()
    for i, models in enumerate(panels.values()):
        for row in models:
            context, mark = row["context"], look[row["context"]]
            lengths = _shown(row)
            trace = go.Scatterpolar(
                r=[*lengths, lengths[0]],
                theta=[*_NAMES, _NAMES[0]],
                fill="toself",
                fillcolor=_faint(mark.colour),
                line={"color": mark.colour, "dash": mark.dash},
                marker={"symbol": mark.symbol, "size": 7},
                mode="lines+markers",
                name=f"context {context}",
                legendgroup=str(context),
                showlegend=context not in told,
                **hover([row] * 4),
            )
            told.add(context)
            figure.add_trace(trace, row=i // across + 1, col=i % across + 1)
    ring = {"range": [0, 1], "tickvals": [0, *_RINGS], "showticklabels": False}
    spokes = {"rotation": _ANGLES[0], "categoryarray": list(_NAMES)}
    figure.update_polars(radialaxis=ring, angularaxis=spokes, gridshape="linear")
    figure.update_annotations(yshift=14)  # the names of the patterns, clear of the E below
    legend = {"orientation": "h", "y": 1 + 0.25 / down, "yanchor": "bottom"}
    return figure.update_layout(height=250 * down + 90, legend=legend)


def _faint(colour: str) -> str:
    red, green, blue = (round(255 * part) for part in to_rgb(colour))
    return f"rgba({red},{green},{blue},0.1)"


FIGURE = Figure("spokes", 11, _tabulate, {"spokes": Drawing(_still, _interactive)})

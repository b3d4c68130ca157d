"""The triangle: Efficiency, Compactness and Recall of every model, in pairs, with paths between them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Still
from matplotlib.patheffects import withStroke
from plotly.subplots import make_subplots

from hybrids.report.page.compare import Comparison
from hybrids.report.page.figure import Drawing, Figure, Series
from hybrids.report.page.style import SCALE, Row, by_label, column, hover, marks
from hybrids.report.page.trajectories import COLUMNS, in_place, paths, trajectories

PAIRS = (("compactness", "efficiency"), ("compactness", "recall"), ("efficiency", "recall"))
"""Horizontal and vertical axis of the projections."""


def _tabulate(comparison: Comparison) -> Series:
    rows = trajectories(comparison)
    caption = (
        f"Efficiency E, Compactness C and Recall R of each model at its contexts; a path joins the models of one "
        f"family at one context by their number of layers with {comparison.letter}, in the direction of the arrow, "
        "through the mean of those with equally many. Mean over the seeds; the range of R is in the table. E and C say "
        "how things grow, not how large they are: state and cost themselves are below."
    )
    return Series("Efficiency, Compactness, Recall", caption, COLUMNS, rows, list(_notes(comparison, rows)))


def _notes(comparison: Comparison, rows: Sequence[Row]) -> Iterator[str]:
    models = [row for row in rows if row["kind"] == "model"]
    seen = set(column(models, "label"))
    unmeasured = [model.label for model in comparison.models() if model.label not in seen]
    if not seen:
        yield "no result.json holds coordinates"
    elif unmeasured:
        yield f"without coordinates in result.json: {', '.join(unmeasured)}"
    without = sorted({row["label"] for row in models if row["recall"] is None})
    if without:
        yield f"Recall not measured, so not in the panels that need it: {', '.join(without)}"
    depths = {len(run.pattern) for run in comparison.runs}
    if len(depths) > 1 and not all(run.config.get("matched") for run in comparison.runs):
        yield f"patterns of {', '.join(map(str, sorted(depths)))} layers are not matched, so no path joins them"


_TICKS = [0, 0.25, 0.5, 0.75, 1]
_SUM = Normalize(0, 3)

Position = Callable[[Row], tuple[float, float]]


def _pairs_still(rows: Sequence[Row]) -> Still:
    figure = Still(figsize=(12, 4), layout="constrained")
    panels = figure.subplots(1, len(PAIRS))
    for axes, (x, y) in zip(panels, PAIRS, strict=True):
        _draw_places(axes, rows, (x, y), lambda row, x=x, y=y: (row[x], row[y]))
        axes.set_xticks(_TICKS)
        axes.set(xlabel=x.title(), ylabel=y.title(), xlim=(-0.3, 1.3), ylim=(-0.06, 1.1))
        axes.grid(alpha=0.3)
    _add_colour_bar(figure, list(panels))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def _draw_places(axes: Axes, rows: Sequence[Row], needed: Sequence[str], position: Position) -> None:
    """Paths with arrows, then the models on top; labels at the smallest context."""
    found = paths(rows, needed)
    look = marks(family for family, _ in found)
    for family, mark in look.items() if len(look) > 1 else []:
        axes.plot([], [], color=mark.colour, ls=mark.line, label=family)
    for (family, _), vertices in found.items():
        for start, end in pairwise(map(position, vertices)):
            arrow = {"arrowstyle": "-|>", "color": look[family].colour, "ls": look[family].line}
            axes.annotate("", xy=end, xytext=start, arrowprops={**arrow, "shrinkA": 4, "shrinkB": 5})
    contexts = by_label(in_place(rows, "model", needed), "context")
    look = marks(contexts)
    for context, group in contexts.items():
        xs, ys = zip(*map(position, group), strict=True)
        totals = column(group, "total")  # grey without all three coordinates
        colours = ["0.75" if total is None else matplotlib.colormaps[SCALE](_SUM(total)) for total in totals]
        mark = {"marker": look[context].marker, "s": 50, "edgecolors": "black", "zorder": 3}
        axes.scatter(xs, ys, c=colours, **mark)
        axes.scatter([], [], c="white", **mark, label=f"context {context}")
    first = min((context for _, context in found), default=None)
    for (_, context), vertices in found.items():
        if context == first:
            _name_end(axes, vertices[0]["pattern"], position(vertices[0]), position(vertices[1]))
            _name_end(axes, vertices[-1]["pattern"], position(vertices[-1]), position(vertices[-2]))


def _name_end(axes: Axes, label: str, end: tuple[float, float], neighbour: tuple[float, float]) -> None:
    """The name of a model at the end of a path, on the side where the path is not."""
    x, y = end[0] - neighbour[0], end[1] - neighbour[1]
    length = math.hypot(x, y) or 1.0
    sides: dict[str, Any] = {"ha": "left" if x >= 0 else "right", "va": "bottom" if y >= 0 else "top"}
    offset = (10 * x / length, 10 * y / length)
    text = axes.annotate(label, end, offset, textcoords="offset points", fontsize=9, **sides)
    text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _add_colour_bar(figure: Still, axes: list[Axes]) -> None:
    figure.colorbar(ScalarMappable(_SUM, SCALE), ax=axes, label="E + C + R", ticks=[0, 1, 2, 3], shrink=0.8)


_GAP = 2 * "\N{EN SPACE}"
"""Keeps a name clear of the mark that it belongs to."""

TraceAxes = Mapping[str, str]
"""By the name of an axis of a plotly trace, the coordinate on it."""


def _pairs_interactive(rows: Sequence[Row]) -> go.Figure:
    figure = make_subplots(rows=1, cols=len(PAIRS), horizontal_spacing=0.09)
    for i, (x, y) in enumerate(PAIRS, start=1):
        for trace in _traces(rows, go.Scatter, {"x": x, "y": y}):
            trace.showlegend = trace.showlegend is not False and i == 1
            figure.add_trace(trace, row=1, col=i)
        figure.update_xaxes(title_text=x.title(), range=[-0.38, 1.28], tickvals=_TICKS, row=1, col=i)
        figure.update_yaxes(title_text=y.title(), range=[-0.06, 1.12], tickvals=_TICKS, row=1, col=i)
    return _colour(figure, 430)


def _traces(rows: Sequence[Row], kind: Any, axes: TraceAxes) -> list[Any]:
    """A line for each path, with an arrow head at every vertex but the first; then the models."""
    found = paths(rows, axes.values())
    look = marks(family for family, _ in found)
    first = min((context for _, context in found), default=None)
    lines = [
        kind(
            **_along(vertices, axes),
            **(_name_ends(vertices) if context == first else {"mode": "lines+markers"}),
            line={"color": look[family].colour, "width": 1.5, "dash": look[family].dash},
            marker={
                "symbol": "arrow",
                "angleref": "previous",
                "size": [0] + [11] * (len(vertices) - 1),
                "standoff": [0] + [7] * (len(vertices) - 1),
                "color": look[family].colour,
            },
            hoverinfo="skip",
            name=family,
            legendgroup=f"path {family}",
            showlegend=context == first and len(look) > 1,
        )
        for (family, context), vertices in found.items()
    ]
    return lines + _points(in_place(rows, "model", axes.values()), kind, axes)


def _along(rows: Sequence[Row], axes: TraceAxes) -> dict[str, list[float]]:
    return {axis: column(rows, name) for axis, name in axes.items()}


def _name_ends(vertices: Sequence[Row]) -> dict[str, Any]:
    """The first model of a path to its right, the last to its left."""
    between = len(vertices) - 2
    names = [f"{_GAP}{vertices[0]['pattern']}", *[""] * between, vertices[-1]["pattern"]]
    sides = ["middle right", *["middle center"] * between, "top left"]
    return {"mode": "lines+markers+text", "text": names, "textposition": sides, "textfont": {"size": 12}}


def _points(rows: Sequence[Row], kind: Any, axes: TraceAxes) -> list[Any]:
    """A trace for each context, coloured by E + C + R; one more for those without all three, which are grey."""
    look = marks(column(rows, "context"))
    groups = by_label([row for row in rows if row["total"] is not None], "context")
    grey = by_label([row for row in rows if row["total"] is None], "context")
    traces = []
    for suffix, found in (("", groups), (", R not measured", grey)):
        for context, group in found.items():
            fill = {"color": "#bbbbbb"} if suffix else {"color": column(group, "total"), "coloraxis": "coloraxis"}
            look_of_one = {"symbol": look[context].symbol, "size": 11, **fill, "line": {"color": "black", "width": 1}}
            trace = kind(
                **_along(group, axes),
                mode="markers",
                name=f"context {context}{suffix}",
                legendgroup=str(context),
                **hover(group),
                marker=look_of_one,
            )
            traces.append(trace)
    return traces


def _colour(figure: go.Figure, height: int) -> go.Figure:
    bar = {"title": {"text": "E + C + R"}, "tickvals": [0, 1, 2, 3], "len": 0.9}
    figure.update_layout(coloraxis={"colorscale": SCALE, "cmin": 0, "cmax": 3, "colorbar": bar}, height=height)
    return figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})


FIGURE = Figure(
    "triangle",
    10,
    _tabulate,
    {
        "triangle_pairs": Drawing(_pairs_still, _pairs_interactive),
    },
)

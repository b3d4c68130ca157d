"""The triangle in a browser: projections to two coordinates each, and the ternary plot."""

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hybrids.report.page.series import Row
from hybrids.report.page.style import PAIRS, SCALE, by_label, column, hover, marks, on_ternary, paths, places

_GAP = 2 * "\N{EN SPACE}"
"""Keeps a name clear of the mark that it belongs to."""
_TICKS = [0, 0.25, 0.5, 0.75, 1]
_COORDINATES = ("efficiency", "compactness", "recall")


def draw_triangle(rows: list[Row]) -> dict[str, go.Figure]:
    return {"triangle_pairs": _draw_pairs(rows), "triangle_ternary": _draw_ternary(rows)}


def _draw_pairs(rows: list[Row]) -> go.Figure:
    figure = make_subplots(rows=1, cols=len(PAIRS), horizontal_spacing=0.09)
    for i, (x, y) in enumerate(PAIRS, start=1):
        for trace in _paths(rows, (x, y), go.Scatter, lambda v, x=x, y=y: {"x": column(v, x), "y": column(v, y)}):
            trace.showlegend = trace.showlegend and i == 1
            figure.add_trace(trace, row=1, col=i)
        for trace in _points(
            places(rows, (x, y)), go.Scatter, lambda v, x=x, y=y: {"x": column(v, x), "y": column(v, y)}
        ):
            trace.showlegend = i == 1
            figure.add_trace(trace, row=1, col=i)
        figure.update_xaxes(title_text=x.title(), range=[-0.38, 1.28], tickvals=_TICKS, row=1, col=i)
        figure.update_yaxes(title_text=y.title(), range=[-0.06, 1.12], tickvals=_TICKS, row=1, col=i)
    return _colour(figure, 430)


def _draw_ternary(rows: list[Row]) -> go.Figure:
    def place(v: list[Row]) -> dict[str, list[float]]:
        return {"a": column(v, "recall"), "b": column(v, "efficiency"), "c": column(v, "compactness")}

    shown = on_ternary(rows)
    traces = [
        *_paths(shown, _COORDINATES, go.Scatterternary, place),
        *_points(places(shown, _COORDINATES), go.Scatterternary, place),
    ]
    figure = go.Figure(traces)
    figure.update_traces(cliponaxis=False)
    axes = {"a": "Recall", "b": "Efficiency", "c": "Compactness"}
    look = {"showticklabels": False, "dtick": 0.25, "gridcolor": "#dddddd", "linecolor": "#666666"}
    ternary = {f"{axis}axis": {"title": {"text": name}, **look} for axis, name in axes.items()}
    figure.update_layout(ternary={"sum": 1, **ternary})
    return _colour(figure, 560)


def _paths(rows: list[Row], needed: tuple[str, ...], kind: Any, place: Callable[[list[Row]], dict]) -> list[Any]:
    """A line for each path, with an arrow head at every vertex but the first."""
    found = paths(rows, needed)
    look = marks(family for family, _ in found)
    first = min((context for _, context in found), default=None)
    is_one = len(look) == 1
    return [
        kind(
            **place(vertices),
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
            showlegend=context == first and not is_one,
        )
        for (family, context), vertices in found.items()
    ]


def _name_ends(vertices: list[Row]) -> dict[str, Any]:
    """The first model of a path to its right, the last to its left."""
    between = len(vertices) - 2
    names = [f"{_GAP}{vertices[0]['pattern']}", *[""] * between, vertices[-1]["pattern"]]
    sides = ["middle right", *["middle center"] * between, "top left"]
    return {"mode": "lines+markers+text", "text": names, "textposition": sides, "textfont": {"size": 12}}


def _points(rows: list[Row], kind: Any, place: Callable[[list[Row]], dict]) -> list[Any]:
    """A trace for each context, coloured by E + C + R; one more for those without all three, which are grey."""
    look = marks(by_label(rows, "context"))
    complete = by_label([row for row in rows if row["total"] is not None], "context")
    partial = by_label([row for row in rows if row["total"] is None], "context")
    groups = [(context, group) for parts in (complete, partial) for context, group in parts.items()]
    return [
        kind(
            **place(group),
            mode="markers",
            name=f"context {context}" + ("" if group in complete.values() else ", R not measured"),
            legendgroup=str(context),
            **hover(group),
            marker={
                "symbol": look[context].symbol,
                "size": 11,
                **_fill(group),
                "line": {"color": "black", "width": 1},
            },
        )
        for context, group in groups
    ]


def _fill(rows: list[Row]) -> dict[str, Any]:
    totals = column(rows, "total")
    return {"color": "#bbbbbb"} if None in totals else {"color": totals, "coloraxis": "coloraxis"}


def _colour(figure: go.Figure, height: int) -> go.Figure:
    bar = {"title": {"text": "E + C + R"}, "tickvals": [0, 1, 2, 3], "len": 0.9}
    figure.update_layout(coloraxis={"colorscale": SCALE, "cmin": 0, "cmax": 3, "colorbar": bar}, height=height)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return figure

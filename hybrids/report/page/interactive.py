"""The figures of a report in a browser, with hover: each from its table alone."""

import math
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hybrids.report.page.further_interactive import draw_capacity, draw_effective, effective_points
from hybrids.report.page.interactive_triangle import draw_triangle
from hybrids.report.page.series import Row, Series
from hybrids.report.page.style import (
    SCALE,
    UTILISATIONS,
    by_label,
    column,
    describe,
    hover,
    logarithmic,
    marks,
    merge_equal,
    state_ends,
)


def draw(series: Series) -> dict[str, go.Figure]:
    """The figures of one table by name: several only for the triangle."""
    return {name: _lay_out(figure) for name, figure in _DRAW[series.name](list(series.rows)).items()}


def _lay_out(figure: go.Figure) -> go.Figure:
    figure.update_layout(template="plotly_white", font={"size": 14}, margin={"l": 70, "r": 30, "t": 50, "b": 60})
    figure.update_layout(hoverlabel={"align": "left"}, legend={"groupclick": "toggleitem"})
    return figure


def _draw_recalled(rows: list[Row]) -> dict[str, go.Figure]:
    figure = go.Figure()
    ends = state_ends(rows)
    for share in UTILISATIONS:
        line = {"color": "black" if share == 1 else "#888888", "dash": "solid" if share == 1 else "dot", "width": 1.5}
        name = "r = s, the law" if share == 1 else f"r = {100 * share:g} % of s"
        ys = [share * end for end in ends]
        figure.add_trace(go.Scatter(x=ends, y=ys, mode="lines", line=line, name=name, hoverinfo="skip"))
    look = marks(column(rows, "label"))
    for label, group in by_label(rows).items():
        figure.add_trace(
            go.Scatter(
                x=column(group, "state_bits"),
                y=column(group, "drawn_at"),
                error_y=_interval(group),
                mode="markers",
                name=label,
                **hover(group),
                marker={
                    "symbol": _symbols(group, look[label].symbol),
                    "size": 9,
                    "color": look[label].colour,
                    "opacity": 0.8,
                },
            )
        )
    figure.add_traces(effective_points(rows, look))
    broken = [row for row in rows if row["law_broken"]]
    figure.add_trace(
        go.Scatter(
            x=column(broken, "state_bits"),
            y=column(broken, "drawn_at"),
            mode="markers",
            name="breaks the law",
            marker={"symbol": "circle-open", "size": 20, "color": "#b3261e", "line": {"width": 3}},
            hoverinfo="skip",
            showlegend=bool(broken),
        )
    )
    figure.update_xaxes(title_text="state after the last fact (bits)", **logarithmic(ends))
    heights = [min(column(rows, "drawn_at")) / 2, max(*column(rows, "drawn_at"), ends[1])]
    span = [math.log10(height) for height in heights]
    figure.update_yaxes(title_text="recalled bits", range=span, **logarithmic(heights))
    figure.update_layout(height=560)
    return {"recalled_by_state": figure}


def _symbols(rows: list[Row], symbol: str) -> list[str]:
    return [symbol if row["recalled_bits"] > 0 else f"{symbol}-open" for row in rows]


def _interval(rows: list[Row]) -> dict[str, Any]:
    """Bars of the interval; none where nothing was recalled or no interval is known."""
    known = [None not in (row["recalled_low"], row["recalled_high"]) and row["recalled_bits"] > 0 for row in rows]
    above = [row["recalled_high"] - row["recalled_bits"] if k else 0 for row, k in zip(rows, known, strict=True)]
    below = [row["recalled_bits"] - row["recalled_low"] if k else 0 for row, k in zip(rows, known, strict=True)]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1}


def _draw_bands(rows: list[Row], x: str, title: str) -> go.Figure:
    """Accuracy with the range over the seeds."""
    figure = go.Figure()
    look = marks(column(rows, "label"))
    for label, group in by_label(rows).items():
        ordered = sorted(group, key=lambda row: row[x])
        xs, colour = column(ordered, x), look[label].colour
        band = column(ordered, "high") + column(ordered, "low")[::-1]
        figure.add_trace(
            go.Scatter(
                x=xs + xs[::-1],
                y=band,
                fill="toself",
                fillcolor=colour,
                opacity=0.15,
                line={"width": 0},
                hoverinfo="skip",
                legendgroup=label,
                showlegend=False,
            )
        )
        hollow = [look[label].symbol if row.get("chosen", True) else f"{look[label].symbol}-open" for row in ordered]
        figure.add_trace(
            go.Scatter(
                x=xs,
                y=column(ordered, "accuracy"),
                mode="lines+markers",
                name=label,
                legendgroup=label,
                line={"color": colour, "dash": look[label].dash},
                marker={"symbol": hollow, "size": 9},
                **hover(ordered),
            )
        )
    figure.update_xaxes(title_text=title, type="log", tickmode="array", tickvals=sorted(set(column(rows, x))))
    figure.update_yaxes(title_text="test accuracy", range=[-0.03, 1.05])
    figure.update_layout(height=480, legend={"groupclick": "togglegroup"})
    return figure


def _draw_accuracy(rows: list[Row]) -> dict[str, go.Figure]:
    figure = _draw_bands(rows, "facts", "number of facts")
    figure.add_hline(y=0.9, line={"color": "#888888", "dash": "dot"})
    return {"accuracy_by_facts": figure}


def _draw_rates(rows: list[Row]) -> dict[str, go.Figure]:
    return {"learning_rates": _draw_bands(rows, "learning_rate", "learning rate")}


def _draw_growth(rows: list[Row]) -> dict[str, go.Figure]:
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.12)
    curves = merge_equal(rows, ("context", "state_bits", "step_flops"))
    look = marks(curves)
    for label, group in curves.items():
        for i, quantity in enumerate(("state_bits", "step_flops"), start=1):
            figure.add_trace(
                go.Scatter(
                    x=column(group, "context"),
                    y=column(group, quantity),
                    mode="lines+markers",
                    name=label,
                    legendgroup=label,
                    showlegend=i == 1,
                    line={"color": look[label].colour, "dash": look[label].dash},
                    marker={"symbol": look[label].symbol, "size": 8},
                    **hover(group),
                ),
                row=1,
                col=i,
            )
    contexts = sorted(set(column(rows, "context")))
    figure.update_xaxes(title_text="context (tokens)", type="log", tickmode="array", tickvals=contexts)
    figure.update_yaxes(title_text="state (bits)", **logarithmic(column(rows, "state_bits")), row=1, col=1)
    figure.update_yaxes(title_text="one decode step (FLOPs)", **logarithmic(column(rows, "step_flops")), row=1, col=2)
    figure.update_layout(height=440, legend={"groupclick": "togglegroup"})
    return {"growth": figure}


def _draw_placement(rows: list[Row]) -> dict[str, go.Figure]:
    scores = [score for score in ("accuracy", "recall") if any(row[score] is not None for row in rows)]
    figure = make_subplots(rows=1, cols=len(scores), subplot_titles=scores, shared_yaxes=True)
    labels, layers = list(by_label(rows)), sorted(set(column(rows, "layer")))
    by_place = {(row["label"], row["layer"]): row for row in rows}
    for i, score in enumerate(scores, start=1):
        cells = [[_score(by_place.get((label, layer)), score) for layer in layers] for label in labels]
        figure.add_trace(
            go.Heatmap(
                x=layers,
                y=labels,
                z=cells,
                texttemplate="%{z:.2f}",
                xgap=2,
                ygap=2,
                coloraxis="coloraxis",
                text=[[_text(by_place.get((label, layer))) for layer in layers] for label in labels],
                hoverinfo="text",
            ),
            row=1,
            col=i,
        )
        figure.update_xaxes(title_text="layer", dtick=1, showgrid=False, zeroline=False, row=1, col=i)
    figure.update_yaxes(showgrid=False, zeroline=False, type="category", autorange="reversed")
    figure.update_layout(coloraxis={"colorscale": SCALE, "cmin": 0, "cmax": 1}, height=170 + 34 * len(labels))
    figure.update_layout(plot_bgcolor="#ebebeb")
    return {"placement": figure}


def _text(row: Row | None) -> str:
    return "" if row is None else describe(row)


def _score(row: Row | None, score: str) -> float | None:
    return row[score] if row is not None and row["holds_letter"] else None


_DRAW: dict[str, Callable[[list[Row]], dict[str, go.Figure]]] = {
    "triangle": draw_triangle,
    "recalled_by_state": _draw_recalled,
    "effective_bits": draw_effective,
    "capacity": draw_capacity,
    "accuracy_by_facts": _draw_accuracy,
    "growth": _draw_growth,
    "learning_rates": _draw_rates,
    "placement": _draw_placement,
}

"""Effective bits and capacity in a browser, with hover: each from its table alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hybrids.report.page.series import Row
from hybrids.report.page.style import Mark, by_label, column, hover, logarithmic, marks, with_effective
from hybrids.studies.effective_bits.measure import KEPT

_TOLD = (
    *("facts", "low", "high", "coverage", "is_lower_bound", "never_learned", "seeds"),
    *("learning_rate", "window_decades", "state_bits", "bound", "utilisation", "steps"),
)
"""Columns that the label of a capacity shows."""


def effective_points(rows: Sequence[Row], look: Mapping[str, Mark]) -> list[go.Scatter]:
    """In the figure of recalled bits: thin lines from runs to crosses at their effective bits."""
    traces = []
    for number, (label, group) in enumerate(by_label(with_effective(rows)).items()):
        xs = [x for row in group for x in (row["state_bits"], row["effective_bits"], None)]
        ys = [y for row in group for y in (row["drawn_at"], row["effective_recalled"], None)]
        line = {"color": look[label].colour, "width": 1, "dash": "dash"}
        traces.append(
            go.Scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip", legendgroup="effective", showlegend=False)
        )
        traces.append(
            go.Scatter(
                x=column(group, "effective_bits"),
                y=column(group, "effective_recalled"),
                mode="markers",
                name="effective bits",
                legendgroup="effective",
                showlegend=number == 0,
                marker={"symbol": "x", "size": 9, "color": look[label].colour},
                **hover(group),
            )
        )
    return traces


def draw_effective(rows: list[Row]) -> dict[str, go.Figure]:
    figure = go.Figure()
    look = marks(column(rows, "label"))
    for label, group in by_label(rows).items():
        mark = look[label]
        for number, run in enumerate(by_label(group, "run").values()):
            ordered = sorted(run, key=lambda row: row["total_bits"])
            best = [row["is_smallest"] for row in ordered]
            figure.add_trace(
                go.Scatter(
                    x=column(ordered, "total_bits"),
                    y=column(ordered, "share_kept"),
                    mode="lines+markers",
                    name=label,
                    legendgroup=label,
                    showlegend=number == 0,
                    line={"color": mark.colour, "dash": mark.dash},
                    marker={
                        "symbol": ["circle-open" if is_best else mark.symbol for is_best in best],
                        "size": [16 if is_best else 8 for is_best in best],
                        "line": {"width": 2},
                    },
                    **hover(ordered),
                )
            )
    figure.add_hline(y=KEPT, line={"color": "#888888", "dash": "dot"})
    figure.update_xaxes(title_text="state after the last fact (bits)", **logarithmic(column(rows, "total_bits")))
    top = max(1.06, 1.03 * max(column(rows, "share_kept")))
    figure.update_yaxes(title_text="share of the recalled bits kept", range=[-0.03, top])
    figure.update_layout(height=480, legend={"groupclick": "togglegroup"})
    return {"effective_bits": figure}


def draw_capacity(rows: list[Row]) -> dict[str, go.Figure]:
    titles = ("facts recalled with accuracy 0.9, K*", "learning rate")
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06)
    look = marks(column(rows, "label"))
    for row in rows:
        colour = look[row["label"]].colour
        traces = ((1, _facts(row, colour)), (2, _tried(row)), (2, _window(row, colour)))
        for panel, trace in traces:
            figure.add_trace(trace, row=1, col=panel)
    for panel, title in enumerate(titles, start=1):
        figure.update_xaxes(title_text=title, type="log", row=1, col=panel)
    found = [number for row in rows for number in (row["facts"], row["low"], row["high"]) if number is not None]
    ticks = [2**k for k in range(20) if 2**k <= 1.3 * max([*found, 2])]
    span = [math.log10(min([*found, 1]) / 1.3), math.log10(max([*found, 2]) * 1.3)]
    figure.update_xaxes(tickmode="array", tickvals=ticks, range=span, row=1, col=1)
    rates = sorted({float(rate) for row in rows for rate in row["rates"].split()})
    figure.update_xaxes(tickmode="array", tickvals=rates, ticktext=[f"{rate:g}" for rate in rates], row=1, col=2)
    order = {"type": "category", "categoryorder": "array", "categoryarray": column(rows, "label"), "automargin": True}
    figure.update_yaxes(**order, autorange="reversed")
    figure.update_layout(height=300 + 40 * len(rows), showlegend=False)
    return {"capacity": figure}


def _facts(row: Row, colour: str) -> go.Scatter:
    """K* with its range; a triangle for a lower bound, a word at 1 for none."""
    if row["facts"] is None:
        return go.Scatter(
            x=[1],
            y=[row["label"]],
            mode="text",
            textposition="middle right",
            text=["no seed learned"],
            hoverinfo="skip",
        )
    above, below = (0, 0) if row["low"] is None else (row["high"] - row["facts"], row["facts"] - row["low"])
    return go.Scatter(
        x=[row["facts"]],
        y=[row["label"]],
        mode="markers",
        error_x={"type": "data", "symmetric": False, "array": [above], "arrayminus": [below], "thickness": 1.5},
        marker={"symbol": "triangle-right" if row["is_lower_bound"] else "circle", "size": 12, "color": colour},
        **_hover([row]),
    )


def _hover(rows: Sequence[Row]) -> dict[str, Any]:
    """Not all of the row: plotly drops a label that is higher than the figure."""
    return hover([{key: row[key] for key in ("label", *_TOLD)} for row in rows])


def _tried(row: Row) -> go.Scatter:
    rates = [float(rate) for rate in row["rates"].split()]
    marker = {"symbol": "line-ns-open", "size": 12, "color": "#888888", "line": {"width": 1}}
    return go.Scatter(x=rates, y=[row["label"]] * len(rates), mode="markers", marker=marker, hoverinfo="skip")


def _window(row: Row, colour: str) -> go.Scatter:
    """The window as a line, a marker at the rate chosen."""
    ends = [row["window_low"], row["window_high"]] if row["window_low"] is not None else []
    xs = [row["learning_rate"], *ends]
    return go.Scatter(
        x=xs,
        y=[row["label"]] * len(xs),
        mode="lines+markers",
        line={"color": colour, "width": 4},
        marker={"size": [11] + [0] * len(ends), "opacity": 1},
        **_hover([row] * len(xs)),
    )

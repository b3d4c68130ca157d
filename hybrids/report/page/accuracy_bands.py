"""Accuracy with its range over the seeds, against a number: two figures draw it."""

from collections.abc import Sequence
from statistics import fmean

import plotly.graph_objects as go
from matplotlib.figure import Figure as Still

from hybrids.report.page.style import Row, add_legend, by_label, column, curve, marks

BAND = ("accuracy", "low", "high", "seeds")
"""Columns of a band."""


def band(scores: Sequence[float]) -> Row:
    """Mean and range of the accuracies of seeds, under `BAND`."""
    return {"accuracy": fmean(scores), "low": min(scores), "high": max(scores), "seeds": len(scores)}


def draw_bands_still(rows: Sequence[Row], x: str, title: str) -> Still:
    """A line for each label with its band, against column `x`; hollow where a row says that it is not `chosen`."""
    figure = Still(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    look = marks(column(rows, "label"))
    for label, group in by_label(rows).items():
        ordered, mark = sorted(group, key=lambda row: row[x]), look[label]
        xs = column(ordered, x)
        axes.fill_between(xs, column(ordered, "low"), column(ordered, "high"), color=mark.colour, alpha=0.15, lw=0)
        axes.plot(xs, column(ordered, "accuracy"), **mark.still, label=label)
        for row in ordered:
            if not row.get("chosen", True):
                axes.plot(row[x], row["accuracy"], mark.marker, color=mark.colour, mfc="white")
    axes.set_xscale("log")
    ticks = sorted(set(column(rows, x)))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], rotation=45 if len(ticks) > 8 else 0)
    axes.minorticks_off()
    axes.set(xlabel=title, ylabel="test accuracy", ylim=(-0.03, 1.05))
    axes.grid(alpha=0.3)
    add_legend(figure, axes)
    return figure


def draw_bands_interactive(rows: Sequence[Row], x: str, title: str) -> go.Figure:
    """The same in a browser."""
    figure = go.Figure()
    look = marks(column(rows, "label"))
    for label, group in by_label(rows).items():
        ordered, mark = sorted(group, key=lambda row: row[x]), look[label]
        xs = column(ordered, x)
        symbols = [mark.symbol if row.get("chosen", True) else f"{mark.symbol}-open" for row in ordered]
        area = go.Scatter(
            x=xs + xs[::-1],
            y=column(ordered, "high") + column(ordered, "low")[::-1],
            fill="toself",
            fillcolor=mark.colour,
            opacity=0.15,
            line={"width": 0},
            hoverinfo="skip",
            legendgroup=label,
            showlegend=False,
        )
        line = curve(ordered, x, "accuracy", label=label, mark=mark, symbol=symbols, size=9)
        figure.add_traces([area, go.Scatter(**line)])
    figure.update_xaxes(title_text=title, type="log", tickmode="array", tickvals=sorted(set(column(rows, x))))
    figure.update_yaxes(title_text="test accuracy", range=[-0.03, 1.05])
    return figure.update_layout(height=480)

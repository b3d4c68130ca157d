"""How many facts a pattern learns to recall, and at which learning rates, as `hybrids capacity` finds it."""

import math
from collections import Counter
from collections.abc import Sequence

import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Still
from plotly.subplots import make_subplots

from hybrids.report.page.compare import Comparison, join_names
from hybrids.report.page.figure import Drawing, Figure, Series
from hybrids.report.page.style import Row, column, hover, marks
from hybrids.studies.capacity.record import Found

_FOUND = ("facts", "low", "high", "coverage", "is_lower_bound", "never_learned", "seeds")
_RATES = ("learning_rate", "window_low", "window_high", "window_decades", "rates")
_SIZES = ("d_model", "parameters", "state_bits", "bound", "utilisation", "confirmed", "steps")
_AS_RECORDED = (
    *("search", "pattern", "facts", "coverage", "is_lower_bound"),
    *("window_decades", "state_bits", "bound", "utilisation", "confirmed"),
)


def _tabulate(comparison: Comparison) -> Series:
    """K* and the window of learning rates, by pattern and search."""
    rows, notes = [], []
    for label, found in zip(_labels(comparison), comparison.searches, strict=True):
        if found.runs:
            rows.append({"label": label, **_numbers(found)})
        if found.runs and found.facts is None:
            notes.append(f"{label}: no K*, for no seed learned to recall even one fact with accuracy 0.9")
        if found.reasons:
            notes.append(f"{label}: a lower bound: {'; '.join(found.reasons)}")
        if found.missing:
            notes.append(f"{label}: not trained: {', '.join(found.missing)}; the same hybrids capacity command goes on")
    if not comparison.searches:
        notes.append("no search for a capacity has used these runs; hybrids capacity makes one")
    caption = (
        "K*, the largest number of facts recalled with accuracy 0.9: median and range over the seeds other than the "
        "one that the learning rate was chosen on (in the table: how likely such a range covers the median of all "
        "seeds); seeds that never learned are counted apart, in the table. A triangle is a lower bound, for the reason "
        "told below. Beside it the learning rates tried and the window of those that reach half of the best K*."
    )
    return Series("Capacity", caption, ("label", "search", "pattern", *_FOUND, *_RATES, *_SIZES), rows, notes)


def _labels(comparison: Comparison) -> list[str]:
    """Pattern and what sets its runs apart from those of the others; the search too, where that is the same."""
    by_path = {run.path.resolve(): run for run in comparison.runs}
    trials = Comparison(
        [by_path[path] for found in comparison.searches for path in found.runs if path in by_path], comparison.letter
    )
    labels = []
    for found in comparison.searches:
        run = next((by_path[path] for path in found.runs if path in by_path), None)
        labels.append(join_names(found.pattern, "" if run is None else trials.describe(run, task=False)))
    times = Counter(labels)
    pairs = zip(labels, comparison.searches, strict=True)
    return [label if times[label] == 1 else join_names(label, found.search) for label, found in pairs]


def _numbers(found: Found) -> Row:
    low, high = found.interval or (None, None)
    return {name: getattr(found, name) for name in _AS_RECORDED} | {
        "low": low,
        "high": high,
        "never_learned": found.num_never_learned,
        "seeds": found.num_seeds,
        "learning_rate": found.rate,
        "window_low": min(found.window, default=None),
        "window_high": max(found.window, default=None),
        "rates": " ".join(f"{rate:g}" for rate in found.rates),
        "d_model": found.size["d_model"],
        "parameters": found.size["params"],
        "steps": max(trial["steps"] for trial in found.trials),
    }


_TITLES = ("facts recalled with accuracy 0.9, K*", "learning rate")
"""Of the two panels."""


def _facts_axis(rows: Sequence[Row]) -> tuple[float, float, list[int]]:
    """Both ends, and powers of two between them."""
    found = [number for row in rows for number in (row["facts"], row["low"], row["high"]) if number is not None]
    top = 1.3 * max([*found, 2])
    return min([*found, 1]) / 1.3, top, [2**k for k in range(20) if 2**k <= top]


def _tried(row: Row) -> list[float]:
    return [float(rate) for rate in row["rates"].split()]


def _draw_still(rows: Sequence[Row]) -> Still:
    figure = Still(figsize=(10, 1.8 + 0.4 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    look = marks(column(rows, "label"))
    for height, row in enumerate(rows):
        _draw_facts(panels[0], height, row, look[row["label"]].colour)
        _draw_window(panels[1], height, row, look[row["label"]].colour)
    for axes, name in zip(panels, _TITLES, strict=True):
        axes.set(xscale="log", xlabel=name)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    low, high, ticks = _facts_axis(rows)
    panels[0].set_xlim(low, high)
    panels[0].set_xticks(ticks, [str(tick) for tick in ticks])
    rates = sorted({rate for row in rows for rate in _tried(row)})
    panels[1].set_xticks(rates, [f"{rate:g}" for rate in rates], rotation=45 if len(rates) > 6 else 0)
    panels[0].set_yticks(range(len(rows)), column(rows, "label"))
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _draw_facts(axes: Axes, height: int, row: Row, colour: str) -> None:
    if row["facts"] is None:
        place = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "va": "center", "fontsize": 8}
        axes.annotate("no seed learned", (0, height), (6, 0), **place)
        return
    if row["low"] is not None:
        axes.plot([row["low"], row["high"]], [height, height], "|-", color=colour, lw=1.5, ms=9)
    axes.plot(row["facts"], height, ">" if row["is_lower_bound"] else "o", color=colour, ms=9)


def _draw_window(axes: Axes, height: int, row: Row, colour: str) -> None:
    tried = _tried(row)
    axes.plot(tried, [height] * len(tried), "|", color="0.5", ms=10)
    if row["window_low"] is not None:
        axes.plot([row["window_low"], row["window_high"]], [height, height], color=colour, lw=5, alpha=0.4)
    axes.plot(row["learning_rate"], height, "o", color=colour)


def _draw_interactive(rows: Sequence[Row]) -> go.Figure:
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06)
    look = marks(column(rows, "label"))
    for row in rows:
        colour = look[row["label"]].colour
        figure.add_trace(_facts_trace(row, colour), row=1, col=1)
        figure.add_traces(_window_traces(row, colour), rows=1, cols=2)
    for panel, title in enumerate(_TITLES, start=1):
        figure.update_xaxes(title_text=title, type="log", row=1, col=panel)
    low, high, ticks = _facts_axis(rows)
    span = [math.log10(low), math.log10(high)]
    figure.update_xaxes(tickmode="array", tickvals=ticks, range=span, row=1, col=1)
    rates = sorted({rate for row in rows for rate in _tried(row)})
    figure.update_xaxes(tickmode="array", tickvals=rates, ticktext=[f"{rate:g}" for rate in rates], row=1, col=2)
    order = {"type": "category", "categoryorder": "array", "categoryarray": column(rows, "label"), "automargin": True}
    figure.update_yaxes(**order, autorange="reversed")
    return figure.update_layout(height=300 + 40 * len(rows), showlegend=False)


def _facts_trace(row: Row, colour: str) -> go.Scatter:
    """K* with its range; a triangle for a lower bound, a word at 1 for none."""
    if row["facts"] is None:
        words = {"mode": "text", "textposition": "middle right", "text": ["no seed learned"]}
        return go.Scatter(x=[1], y=[row["label"]], **words, hoverinfo="skip")
    above, below = (0, 0) if row["low"] is None else (row["high"] - row["facts"], row["facts"] - row["low"])
    return go.Scatter(
        x=[row["facts"]],
        y=[row["label"]],
        mode="markers",
        error_x={"type": "data", "symmetric": False, "array": [above], "arrayminus": [below], "thickness": 1.5},
        marker={"symbol": "triangle-right" if row["is_lower_bound"] else "circle", "size": 12, "color": colour},
        **hover([_told(row)]),
    )


def _window_traces(row: Row, colour: str) -> list[go.Scatter]:
    """The rates tried; the window as a line, with a marker at the rate chosen."""
    tried = _tried(row)
    marker = {"symbol": "line-ns-open", "size": 12, "color": "#888888", "line": {"width": 1}}
    ticks = go.Scatter(x=tried, y=[row["label"]] * len(tried), mode="markers", marker=marker, hoverinfo="skip")
    ends = [row["window_low"], row["window_high"]] if row["window_low"] is not None else []
    xs = [row["learning_rate"], *ends]
    window = go.Scatter(
        x=xs,
        y=[row["label"]] * len(xs),
        mode="lines+markers",
        line={"color": colour, "width": 4},
        marker={"size": [11] + [0] * len(ends), "opacity": 1},
        **hover([_told(row)] * len(xs)),
    )
    return [ticks, window]


def _told(row: Row) -> Row:
    """Not all of the row: plotly drops a label that is higher than the figure."""
    rest = ("learning_rate", "window_decades", "state_bits", "bound", "utilisation", "steps")
    return {key: row[key] for key in ("label", *_FOUND, *rest)}


FIGURE = Figure("capacity", 50, _tabulate, {"capacity": Drawing(_draw_still, _draw_interactive)})

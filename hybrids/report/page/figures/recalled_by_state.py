"""Bits recalled through the state against the bits of the state, beside the law r = s."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go
from matplotlib.figure import Figure as Still

from hybrids.report.page.collect import ReportedRun, held_bits, law_broken
from hybrids.report.page.compare import Comparison
from hybrids.report.page.figure import Drawing, Figure, Series
from hybrids.report.page.style import UTILISATIONS, Row, add_legend, by_label, column, logarithmic, marks, points
from hybrids.studies.effective_bits.rounded import OUTDATED

_EFFECTIVE = ("effective_bits", "effective_recalled", "effective_utilisation")
_SETTINGS = ("label", "context", "learning_rate", "seed")
_RECALLED = ("recalled_bits", "recalled_low", "recalled_high", "offered_bits")


def _tabulate(comparison: Comparison) -> Series:
    """Every run at every context; what recalled nothing has no place on a logarithmic axis and stands at its edge."""
    places = [(group, run, place) for group in comparison.groups() for run in group.runs for place in run.places]
    rows = []
    for group, run, place in places:
        if (recalled := place["recalled_bits"]) is not None:
            rows.append(
                _effective(run, place["context"])
                | {"label": group.label, "context": place["context"], "learning_rate": group.rate, "seed": run.seed}
                | {"state_bits": held_bits(place)}
                | {name: place[name] for name in _RECALLED}
                | {"utilisation": recalled / held_bits(place) if held_bits(place) else None}
                | {"law_broken": law_broken(place), "run": run.name}
            )
    positive = [row["recalled_bits"] for row in rows if row["recalled_bits"] > 0]
    edge = 10.0 ** math.floor(math.log10(min(positive, default=1.0)) - 0.5)
    for row in rows:
        row["drawn_at"] = row["recalled_bits"] if row["recalled_bits"] > 0 else edge
    caption = (
        "Bits recalled through the state against the bits of the state after the last fact, every run at every "
        "context, with its 95 % interval. No model can stand above the line r = s; the lines below it are of constant "
        "utilisation r / s. Where hybrids bits has measured a run, a thin line leads to a cross at its effective bits."
    )
    columns = (*_SETTINGS, "state_bits", *_RECALLED, "utilisation", "law_broken", "drawn_at", "run", *_EFFECTIVE)
    none = len(rows) - len(positive)
    notes = [f"{none} of {len(rows)} points recalled nothing; they are hollow, at the lower edge"] if none else []
    narrow = list({run.name: 0 for _, run, place in places if place["recalled_bits"] and not place.get("interval")})
    named = f"{', '.join(narrow[:3])}{f' and {len(narrow) - 3} more runs' if len(narrow) > 3 else ''}"
    notes += [f"intervals of earlier hybrids, too narrow where errors are rare: {named}"] if narrow else []
    outdated = list(dict.fromkeys(run.name for _, run, _ in places if run.rounded and run.rounded.is_outdated))
    notes += [f"effective bits of {', '.join(outdated)}: rounded {OUTDATED}"] if outdated else []
    return Series("Recalled bits and state", caption, columns, rows, notes)


def _effective(run: ReportedRun, context: int) -> Row:
    """The smallest rounded state that keeps what is recalled, where it was measured at this context."""
    rounded = run.rounded if run.rounded is not None and run.rounded.context == context else None
    best = rounded and rounded.smallest
    if rounded is None or best is None:
        return dict.fromkeys(_EFFECTIVE)
    return dict(zip(_EFFECTIVE, (best.total, best.recalled.bits, rounded.utilisation), strict=True))


def _with_effective(rows: Sequence[Row]) -> list[Row]:
    """Rows whose effective bits were measured, and can stand on logarithmic axes."""
    return [row for row in rows if row["effective_bits"] is not None and row["effective_recalled"] > 0]


def _state_ends(rows: Sequence[Row]) -> list[float]:
    """What the axis of state bits spans, so that effective bits lie inside."""
    least = [*column(rows, "state_bits"), *column(_with_effective(rows), "effective_bits")]
    return [min(least) / 2, max(column(rows, "state_bits")) * 2]


def _recall_ends(rows: Sequence[Row]) -> list[float]:
    """What the axis of recalled bits spans."""
    return [min(column(rows, "drawn_at")) / 2, max(*column(rows, "drawn_at"), _state_ends(rows)[1])]


def _has_interval(row: Row) -> bool:
    """Whether its interval is known and can be drawn."""
    return row["recalled_bits"] > 0 and None not in (row["recalled_low"], row["recalled_high"])


def _draw_still(rows: Sequence[Row]) -> Still:
    figure = Still(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    ends, (bottom, top) = _state_ends(rows), _recall_ends(rows)
    for share in UTILISATIONS:
        colour, dash = ("black", "-") if share == 1 else ("0.6", ":")
        axes.plot(ends, [share * end for end in ends], color=colour, ls=dash, lw=1)
        text = "r = s" if share == 1 else f"{100 * share:g} %"
        name = axes.text(ends[1], share * ends[1], text, fontsize=8, ha="right", va="bottom", clip_on=True)
        name.set_in_layout(False)  # it may lie outside, where it would leave no room for the axes
    look = marks(column(rows, "label"))
    for label, group in by_label(rows).items():
        mark = {"color": look[label].colour, "marker": look[label].marker, "ls": "", "ms": 6}
        some = [row for row in group if row["recalled_bits"] > 0]
        none = [row for row in group if row["recalled_bits"] <= 0]
        axes.plot(column(some, "state_bits"), column(some, "drawn_at"), **mark, label=label)
        axes.plot(column(none, "state_bits"), column(none, "drawn_at"), **mark, mfc="none")
        known = [row for row in some if _has_interval(row)]
        low = [max(row["recalled_low"], 1e-9) for row in known]  # a logarithmic axis has no zero
        axes.vlines(column(known, "state_bits"), low, column(known, "recalled_high"), color=mark["color"], lw=1)
    for row in (effective := _with_effective(rows)):
        colour = look[row["label"]].colour
        ends_of_line = [row["state_bits"], row["effective_bits"]], [row["drawn_at"], row["effective_recalled"]]
        axes.plot(*ends_of_line, color=colour, lw=0.7, ls="--")
        axes.plot(row["effective_bits"], row["effective_recalled"], "x", color=colour, ms=7, mew=1.8)
    if effective:
        axes.plot([], [], "x", color="0.3", ms=7, mew=1.8, label="effective bits")
    for row in rows:
        if row["law_broken"]:
            axes.plot(row["state_bits"], row["drawn_at"], "o", mfc="none", mec="#b3261e", ms=14, mew=2)
    axes.set(xscale="log", yscale="log", xlabel="state after the last fact (bits)", ylabel="recalled bits")
    axes.set_ylim(bottom, 2 * top)
    axes.grid(alpha=0.3)
    add_legend(figure, axes)
    return figure


def _draw_interactive(rows: Sequence[Row]) -> go.Figure:
    figure = go.Figure()
    ends, heights = _state_ends(rows), _recall_ends(rows)
    for share in UTILISATIONS:
        line = {"color": "black" if share == 1 else "#888888", "dash": "solid" if share == 1 else "dot", "width": 1.5}
        name = "r = s, the law" if share == 1 else f"r = {100 * share:g} % of s"
        ys = [share * end for end in ends]
        figure.add_trace(go.Scatter(x=ends, y=ys, mode="lines", line=line, name=name, hoverinfo="skip"))
    look = marks(column(rows, "label"))
    for label, group in by_label(rows).items():
        symbol = look[label].symbol
        symbols = [symbol if row["recalled_bits"] > 0 else f"{symbol}-open" for row in group]
        above = [row["recalled_high"] - row["recalled_bits"] if _has_interval(row) else 0 for row in group]
        below = [row["recalled_bits"] - row["recalled_low"] if _has_interval(row) else 0 for row in group]
        trace = go.Scatter(
            **points(group, "state_bits", "drawn_at"),
            error_y={"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1},
            mode="markers",
            name=label,
            marker={"symbol": symbols, "size": 9, "color": look[label].colour, "opacity": 0.8},
        )
        figure.add_trace(trace)
    for number, (label, group) in enumerate(by_label(_with_effective(rows)).items()):
        figure.add_traces(_effective_traces(group, look[label].colour, is_first=number == 0))
    broken = [row for row in rows if row["law_broken"]]
    rings = go.Scatter(
        x=column(broken, "state_bits"),
        y=column(broken, "drawn_at"),
        mode="markers",
        name="breaks the law",
        marker={"symbol": "circle-open", "size": 20, "color": "#b3261e", "line": {"width": 3}},
        hoverinfo="skip",
        showlegend=bool(broken),
    )
    figure.add_trace(rings)
    figure.update_xaxes(title_text="state after the last fact (bits)", **logarithmic(ends))
    span = [math.log10(height) for height in heights]
    figure.update_yaxes(title_text="recalled bits", range=span, **logarithmic(heights))
    return figure.update_layout(height=560)


def _effective_traces(rows: Sequence[Row], colour: str, *, is_first: bool) -> list[go.Scatter]:
    """Thin lines from runs to crosses at their effective bits."""
    lines = go.Scatter(
        x=[x for row in rows for x in (row["state_bits"], row["effective_bits"], None)],
        y=[y for row in rows for y in (row["drawn_at"], row["effective_recalled"], None)],
        mode="lines",
        line={"color": colour, "width": 1, "dash": "dash"},
        hoverinfo="skip",
        legendgroup="effective",
        showlegend=False,
    )
    crosses = go.Scatter(
        **points(rows, "effective_bits", "effective_recalled"),
        mode="markers",
        name="effective bits",
        legendgroup="effective",
        showlegend=is_first,
        marker={"symbol": "x", "size": 9, "color": colour},
    )
    return [lines, crosses]


FIGURE = Figure("recalled_by_state", 20, _tabulate, {"recalled_by_state": Drawing(_draw_still, _draw_interactive)})

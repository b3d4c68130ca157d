"""State, and cost of one decode step, against the tokens seen."""

from collections.abc import Iterable, Sequence

import plotly.graph_objects as go
from matplotlib.figure import Figure as Still
from plotly.subplots import make_subplots

from hybrids.report.page.compare import Comparison, join_names
from hybrids.report.page.figure import Drawing, Figure, Series
from hybrids.report.page.style import Row, add_legend, by_label, column, curve, logarithmic, marks

_QUANTITIES = {"state_bits": "state (bits)", "step_flops": "one decode step (FLOPs)"}


def _tabulate(comparison: Comparison) -> Series:
    columns = ("label", "context", "state_bits", "step_flops", "step_bytes")
    rows = {}
    for model in comparison.models():
        label = join_names(model.pattern, model.setting)
        for sizes in model.first.places or [model.first.result]:
            rows[label, sizes["context"]] = {"label": label, **{key: sizes[key] for key in columns[1:]}}
    caption = "State, and cost of one decode step, against the tokens seen: backbone only, one sequence."
    return Series("State and step cost", caption, columns, list(rows.values()))


def _curves(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by label, where labels whose rows are equal share one curve and its name."""
    curves: dict[tuple[int, ...], list[str]] = {}
    groups = by_label(rows)
    for label, group in groups.items():
        curves.setdefault(tuple(row[key] for row in group for key in ("context", *_QUANTITIES)), []).append(label)
    named = {}
    for labels in curves.values():
        name = ", ".join(labels) if len(labels) <= 4 else f"{', '.join(labels[:3])} and {len(labels) - 3} more"
        named[name] = groups[labels[0]]
    return named


def _draw_still(rows: Sequence[Row]) -> Still:
    figure = Still(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    curves = _curves(rows)
    look = marks(curves)
    contexts = sorted(set(column(rows, "context")))
    for axes, (quantity, name) in zip(panels, _QUANTITIES.items(), strict=True):
        for label, group in curves.items():
            axes.plot(column(group, "context"), column(group, quantity), **look[label].still, label=label)
        axes.set(xscale="log", yscale="log", xlabel="context (tokens)", ylabel=name)
        axes.set_xticks(contexts, [str(context) for context in contexts])
        axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axes.grid(alpha=0.3)
    add_legend(figure, panels[0])
    return figure


def _draw_interactive(rows: Sequence[Row]) -> go.Figure:
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.12)
    curves = _curves(rows)
    look = marks(curves)
    for label, group in curves.items():
        for i, quantity in enumerate(_QUANTITIES, start=1):
            line = curve(group, "context", quantity, label=label, mark=look[label])
            figure.add_trace(go.Scatter(**line, showlegend=i == 1), row=1, col=i)
    contexts = sorted(set(column(rows, "context")))
    figure.update_xaxes(title_text="context (tokens)", type="log", tickmode="array", tickvals=contexts)
    for i, (quantity, name) in enumerate(_QUANTITIES.items(), start=1):
        figure.update_yaxes(title_text=name, **logarithmic(column(rows, quantity)), row=1, col=i)
    return figure.update_layout(height=440)


FIGURE = Figure("growth", 60, _tabulate, {"growth": Drawing(_draw_still, _draw_interactive)})

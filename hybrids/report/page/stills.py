"""The figures of a report as PNG and SVG: the same tables as in the browser, for a paper."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from hybrids.report.page.further_stills import draw_capacity, draw_effective, draw_effective_points
from hybrids.report.page.legend import add_legend
from hybrids.report.page.series import Row, Series
from hybrids.report.page.style import (
    PAIRS,
    SCALE,
    UTILISATIONS,
    by_label,
    column,
    marks,
    merge_equal,
    on_ternary,
    paths,
    places,
    state_ends,
)

_COORDINATES = ("efficiency", "compactness", "recall")
_SUM = Normalize(0, 3)
_CORNERS = {"recall": (0.5, math.sqrt(3) / 2), "efficiency": (0.0, 0.0), "compactness": (1.0, 0.0)}

Position = Callable[[Row], tuple[float, float]]


def save(series: Series, folder: Path) -> list[str]:
    """Write every figure of a table as <name>.png and <name>.svg; the names."""
    figures = _DRAW[series.name](list(series.rows))
    with matplotlib.rc_context({"svg.hashsalt": series.name}):  # the same table makes the same file
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=150)
            figure.set_layout_engine("none")  # it has been laid out, which takes longer than drawing
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    return list(figures)


def _draw_triangle(rows: list[Row]) -> dict[str, Figure]:
    return {"triangle_pairs": _draw_pairs(rows), "triangle_ternary": _draw_ternary(rows)}


def _draw_pairs(rows: list[Row]) -> Figure:
    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = figure.subplots(1, len(PAIRS))
    for axes, (x, y) in zip(panels, PAIRS, strict=True):

        def position(row: Row, x: str = x, y: str = y) -> tuple[float, float]:
            return row[x], row[y]

        _draw_places(axes, rows, (x, y), position)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axes.set(xlabel=x.title(), ylabel=y.title(), xlim=(-0.3, 1.3), ylim=(-0.06, 1.1))
        axes.grid(alpha=0.3)
    _colour_bar(figure, list(panels))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def _draw_ternary(rows: list[Row]) -> Figure:
    figure = Figure(figsize=(6.5, 5.6), layout="constrained")
    axes = figure.subplots()
    for k in range(5):  # lines of constant share, a quarter apart
        for corner in _CORNERS:
            _draw_share(axes, corner, k / 4)
    for corner, (x, y) in _CORNERS.items():
        is_top = corner == "recall"
        axes.annotate(
            corner.title(),
            (x, y),
            xytext=(0, 6 if is_top else -6),
            textcoords="offset points",
            ha="center",
            va="bottom" if is_top else "top",
        )
    _draw_places(axes, on_ternary(rows), _COORDINATES, _in_triangle)
    axes.set(xlim=(-0.12, 1.12), ylim=(-0.1, 0.98), aspect="equal")
    axes.axis("off")
    _colour_bar(figure, [axes])
    axes.legend(loc="upper left", frameon=False)
    return figure


def _in_triangle(row: Row) -> tuple[float, float]:
    total = sum(row[key] for key in _COORDINATES)
    weights = {key: row[key] / total for key in _COORDINATES}
    return tuple(sum(weights[key] * _CORNERS[key][axis] for key in _COORDINATES) for axis in (0, 1))  # pyright: ignore[reportReturnType]


def _draw_share(axes: Axes, corner: str, share: float) -> None:
    """The line on which one coordinate has a fixed share of the sum."""
    others = [key for key in _COORDINATES if key != corner]
    ends = [_in_triangle({corner: share, others[i]: 1 - share, others[1 - i]: 0.0}) for i in (0, 1)]
    axes.plot(*zip(*ends, strict=True), color="0.4" if share == 0 else "0.85", lw=1, zorder=0)


def _draw_places(axes: Axes, rows: list[Row], needed: Sequence[str], position: Position) -> None:
    """Paths with arrows, then the models on top; labels at the smallest context."""
    found = paths(rows, needed)
    look = marks(family for family, _ in found)
    for family, mark in look.items() if len(look) > 1 else []:
        axes.plot([], [], color=mark.colour, ls=mark.line, label=family)
    for (family, _), vertices in found.items():
        mark = look[family]
        points = [position(row) for row in vertices]
        for start, end in pairwise(points):
            arrow = {"arrowstyle": "-|>", "color": mark.colour, "ls": mark.line, "shrinkA": 4, "shrinkB": 5}
            axes.annotate("", xy=end, xytext=start, arrowprops=arrow)
    shown = places(rows, needed)
    contexts = by_label(shown, "context")
    look = marks(contexts)
    for context, group in contexts.items():
        xs, ys = zip(*map(position, group), strict=True)
        colours = [_colour_of(row["total"]) for row in group]
        marker = look[context].marker
        axes.scatter(xs, ys, c=colours, marker=marker, s=50, edgecolors="black", zorder=3)
        axes.scatter([], [], c="white", marker=marker, s=50, edgecolors="black", label=f"context {context}")
    first = min((context for _, context in found), default=None)
    for (_, context), vertices in found.items():
        if context == first:
            _name_end(axes, vertices[0]["pattern"], position(vertices[0]), position(vertices[1]))
            _name_end(axes, vertices[-1]["pattern"], position(vertices[-1]), position(vertices[-2]))


def _name_end(axes: Axes, label: str, end: tuple[float, float], neighbour: tuple[float, float]) -> None:
    """The name of a model at the end of a path, on the side where the path is not."""
    x, y = end[0] - neighbour[0], end[1] - neighbour[1]
    length = math.hypot(x, y) or 1.0
    text = axes.annotate(
        label,
        end,
        xytext=(10 * x / length, 10 * y / length),
        textcoords="offset points",
        fontsize=9,
        ha="left" if x >= 0 else "right",
        va="bottom" if y >= 0 else "top",
    )
    text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _colour_of(total: float | None) -> Any:
    """Grey without all three coordinates."""
    return "0.75" if total is None else matplotlib.colormaps[SCALE](_SUM(total))


def _colour_bar(figure: Figure, axes: list[Axes]) -> None:
    scalars = ScalarMappable(_SUM, SCALE)
    figure.colorbar(scalars, ax=axes, label="E + C + R", ticks=[0, 1, 2, 3], shrink=0.8)


def _draw_recalled(rows: list[Row]) -> dict[str, Figure]:
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    ends = state_ends(rows)
    for share in UTILISATIONS:
        is_law = share == 1
        axes.plot(
            ends, [share * end for end in ends], color="black" if is_law else "0.6", ls="-" if is_law else ":", lw=1
        )
        text = "r = s" if is_law else f"{100 * share:g} %"
        name = axes.text(ends[1], share * ends[1], text, fontsize=8, ha="right", va="bottom", clip_on=True)
        name.set_in_layout(False)  # it may lie outside, where it would leave no room for the axes
    look = marks(column(rows, "label"))
    for label, group in by_label(rows).items():
        mark = look[label]
        some = [row for row in group if row["recalled_bits"] > 0]
        none = [row for row in group if row["recalled_bits"] <= 0]
        look_of_one = {"color": mark.colour, "marker": mark.marker, "ls": "", "ms": 6}
        axes.plot(column(some, "state_bits"), column(some, "drawn_at"), **look_of_one, label=label)
        axes.plot(column(none, "state_bits"), column(none, "drawn_at"), **look_of_one, mfc="none")
        known = [row for row in some if None not in (row["recalled_low"], row["recalled_high"])]
        low = [max(row["recalled_low"], 1e-9) for row in known]  # a logarithmic axis has no zero
        axes.vlines(column(known, "state_bits"), low, column(known, "recalled_high"), color=mark.colour, lw=1)
    draw_effective_points(axes, rows, look)
    for row in rows:
        if row["law_broken"]:
            axes.plot(row["state_bits"], row["drawn_at"], "o", mfc="none", mec="#b3261e", ms=14, mew=2)
    axes.set(xscale="log", yscale="log", xlabel="state after the last fact (bits)", ylabel="recalled bits")
    axes.set_ylim(min(column(rows, "drawn_at")) / 2, 2 * max(*column(rows, "drawn_at"), ends[1]))
    axes.grid(alpha=0.3)
    add_legend(figure, axes)
    return {"recalled_by_state": figure}


def _draw_bands(rows: list[Row], x: str, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    look = marks(column(rows, "label"))
    for label, group in by_label(rows).items():
        ordered, mark = sorted(group, key=lambda row: row[x]), look[label]
        xs, ys = column(ordered, x), column(ordered, "accuracy")
        axes.fill_between(xs, column(ordered, "low"), column(ordered, "high"), color=mark.colour, alpha=0.15, lw=0)
        axes.plot(xs, ys, color=mark.colour, ls=mark.line, marker=mark.marker, label=label)
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
    return figure, axes


def _draw_accuracy(rows: list[Row]) -> dict[str, Figure]:
    figure, axes = _draw_bands(rows, "facts", "number of facts")
    axes.axhline(0.9, color="0.6", ls=":", lw=1)
    return {"accuracy_by_facts": figure}


def _draw_rates(rows: list[Row]) -> dict[str, Figure]:
    return {"learning_rates": _draw_bands(rows, "learning_rate", "learning rate")[0]}


def _draw_growth(rows: list[Row]) -> dict[str, Figure]:
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    curves = merge_equal(rows, ("context", "state_bits", "step_flops"))
    look = marks(curves)
    names = {"state_bits": "state (bits)", "step_flops": "one decode step (FLOPs)"}
    for axes, (quantity, name) in zip(panels, names.items(), strict=True):
        for label, group in curves.items():
            mark = look[label]
            xs, ys = column(group, "context"), column(group, quantity)
            axes.plot(xs, ys, color=mark.colour, ls=mark.line, marker=mark.marker, label=label)
        axes.set(xscale="log", yscale="log", xlabel="context (tokens)", ylabel=name)
        contexts = sorted(set(column(rows, "context")))
        axes.set_xticks(contexts, [str(context) for context in contexts])
        axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axes.grid(alpha=0.3)
    add_legend(figure, panels[0])
    return {"growth": figure}


def _draw_placement(rows: list[Row]) -> dict[str, Figure]:
    scores = [score for score in ("accuracy", "recall") if any(row[score] is not None for row in rows)]
    labels, layers = list(by_label(rows)), sorted(set(column(rows, "layer")))
    size = (2.5 + len(scores) * (1 + 0.6 * len(layers)), 1.5 + 0.4 * len(labels))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    image = None
    for axes, score in zip(panels, scores, strict=True):
        cells = [[math.nan] * len(layers) for _ in labels]
        for row in rows:
            if row["holds_letter"] and row[score] is not None:
                y, x, value = labels.index(row["label"]), layers.index(row["layer"]), row[score]
                cells[y][x] = value
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.5 else "black")
        colours = matplotlib.colormaps[SCALE].with_extremes(bad="0.92")
        image = axes.imshow(cells, vmin=0, vmax=1, cmap=colours, aspect="auto")
        axes.set(title=score, xlabel="layer", xticks=range(len(layers)), yticks=range(len(labels)))
        axes.set_xticklabels([str(layer) for layer in layers])
        axes.set_yticklabels(labels)
    assert image is not None
    figure.colorbar(image, ax=list(panels))
    return {"placement": figure}


_DRAW: dict[str, Callable[[list[Row]], dict[str, Figure]]] = {
    "triangle": _draw_triangle,
    "recalled_by_state": _draw_recalled,
    "effective_bits": draw_effective,
    "capacity": draw_capacity,
    "accuracy_by_facts": _draw_accuracy,
    "growth": _draw_growth,
    "learning_rates": _draw_rates,
    "placement": _draw_placement,
}

"""Colours, marks, labels and legends that the figures share, in a browser and as stills."""

import math
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
"""Okabe and Ito's, told apart by colour-blind readers; without their yellow, which is too light for a line."""

SCALE = "viridis"
"""Even in lightness, so that it tells colour-blind readers the same."""

UTILISATIONS = (1.0, 0.1, 0.01, 0.001)
"""Lines of constant r / s; the first is the law."""

LONG = 36
"""Letters of a label from which on a legend at the side would leave no room for the figure."""

Row = dict[str, Any]
"""Of the table of a figure."""

M = TypeVar("M", bound=Mapping[str, Any])


class Mark(NamedTuple):
    """How one curve looks; never by colour alone."""

    colour: str
    marker: str
    """Of matplotlib."""
    symbol: str
    """Of plotly."""
    line: str
    """Of matplotlib."""
    dash: str
    """Of plotly."""

    @property
    def still(self) -> dict[str, Any]:
        """Settings of a line of matplotlib."""
        return {"color": self.colour, "ls": self.line, "marker": self.marker}


_MARKERS = (("o", "circle"), ("s", "square"), ("D", "diamond"), ("^", "triangle-up"), ("v", "triangle-down"))
_LINES = (("-", "solid"), ("--", "dash"), (":", "dot"), ("-.", "dashdot"))


def marks(labels: Iterable[Any]) -> dict[Any, Mark]:
    """A look for every label, in the order given; none is repeated before 140 of them."""
    looks = {}
    for i, label in enumerate(dict.fromkeys(labels)):
        marker, symbol = _MARKERS[i % len(_MARKERS)]
        line, dash = _LINES[i // len(COLOURS) % len(_LINES)]
        looks[label] = Mark(COLOURS[i % len(COLOURS)], marker, symbol, line, dash)
    return looks


def by_label(rows: Iterable[M], *keys: str) -> dict[Any, list[M]]:
    """Rows by their label, or by the value of another column or of several, in the order of first use."""
    value = itemgetter(*keys or ("label",))
    groups: dict[Any, list[M]] = {}
    for row in rows:
        groups.setdefault(value(row), []).append(row)
    return groups


def column(rows: Iterable[Row], key: str) -> list[Any]:
    return [row[key] for row in rows]


def describe(row: Row) -> str:
    """A row of a table as the lines of a hover label."""
    told = {key: value for key, value in row.items() if value is not None and key not in ("label", "kind", "drawn_at")}
    lines = [f"{key.replace('_', ' ')}: {spell(value)}" for key, value in told.items() if value != ""]
    return "<br>".join([f"<b>{row['label']}</b>", *lines])


def spell(value: Any) -> str:
    """A cell as a person reads it."""
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def hover(rows: Iterable[Row]) -> dict[str, Any]:
    """Settings of a plotly trace that shows the row of the table behind every point."""
    return {"text": [describe(row) for row in rows], "hoverinfo": "text"}


def points(rows: Sequence[Row], x: str, y: str) -> dict[str, Any]:
    """Settings of a plotly trace with a point for every row, at two of its columns, that shows the row."""
    return {"x": column(rows, x), "y": column(rows, y), **hover(rows)}


def curve(rows: Sequence[Row], x: str, y: str, *, label: str, mark: Mark, **marker: Any) -> dict[str, Any]:
    """Settings of a plotly trace that joins such points; `marker` is what sets its markers apart."""
    return {
        **points(rows, x, y),
        "mode": "lines+markers",
        "name": label,
        "legendgroup": label,
        "line": {"color": mark.colour, "dash": mark.dash},
        "marker": {"symbol": mark.symbol, "size": 8, **marker},
    }


def logarithmic(values: Sequence[float]) -> dict[str, Any]:
    """Settings of a logarithmic plotly axis: powers of ten where there are some, else round numbers between them."""
    low, high = math.log10(min(values)), math.log10(max(values))
    if high - low > 1.5:
        return {"type": "log", "exponentformat": "power", "dtick": 1}
    steps = (1, 2, 5) if high - low > 0.7 else (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    ticks = [step * 10**power for power in range(math.floor(low) - 1, math.ceil(high) + 1) for step in steps]
    return {"type": "log", "tickvals": ticks, "tickformat": "~s"}


def add_legend(figure: Figure, axes: Axes) -> None:
    """At the right of a still; below, in a higher figure, where a label is long."""
    handles, labels = axes.get_legend_handles_labels()
    if max(map(len, labels), default=0) < LONG:
        figure.legend(handles, labels, loc="outside right center", fontsize=8)
        return
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.3 + 0.17 * len(labels))
    figure.legend(handles, labels, loc="outside lower center", fontsize=8)

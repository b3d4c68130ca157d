"""Colours, marks and numbers that the interactive and the still figures share."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
"""Okabe and Ito's, told apart by colour-blind readers; without their yellow, which is too light for a line."""

SCALE = "viridis"
"""Even in lightness, so that it tells colour-blind readers the same."""

UTILISATIONS = (1.0, 0.1, 0.01, 0.001)
"""Lines of constant r / s; the first is the law."""

FIGURES = (
    "triangle_pairs",
    "triangle_ternary",
    "recalled_by_state",
    "effective_bits",
    "accuracy_by_facts",
    "capacity",
    "growth",
    "learning_rates",
    "placement",
)
"""Names of the files that a report can have."""

PAIRS = (("compactness", "efficiency"), ("compactness", "recall"), ("efficiency", "recall"))
"""Horizontal and vertical axis of the projections."""


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


def by_label(rows: Iterable[dict[str, Any]], key: str = "label") -> dict[Any, list[dict[str, Any]]]:
    """Rows by the value of one column, in the order of first use."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def column(rows: Sequence[dict[str, Any]], key: str) -> list[Any]:
    return [row[key] for row in rows]


def paths(rows: Iterable[dict[str, Any]], needed: Sequence[str]) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Vertices of every path with all `needed` coordinates, by family and context; a single vertex is no path."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        if row["kind"] == "path" and None not in [row[key] for key in needed]:
            found.setdefault((row["family"], row["context"]), []).append(row)
    return {key: vertices for key, vertices in found.items() if len(vertices) > 1}


def places(rows: Iterable[dict[str, Any]], needed: Sequence[str]) -> list[dict[str, Any]]:
    """The models with all `needed` coordinates."""
    return [row for row in rows if row["kind"] == "model" and None not in [row[key] for key in needed]]


def on_ternary(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that a ternary plot can hold: no coordinate negative, and not all nothing."""
    keys = ("efficiency", "compactness", "recall")
    complete = [row for row in rows if None not in [row[key] for key in keys]]
    return [row for row in complete if min(row[key] for key in keys) >= 0 and sum(row[key] for key in keys) > 0]


def with_effective(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of recalled bits whose effective bits were measured, and can stand on logarithmic axes."""
    return [row for row in rows if row["effective_bits"] is not None and row["effective_recalled"] > 0]


def state_ends(rows: Sequence[dict[str, Any]]) -> list[float]:
    """What the axis of state bits spans, so that effective bits lie inside."""
    least = [*column(rows, "state_bits"), *column(with_effective(rows), "effective_bits")]
    return [min(least) / 2, max(column(rows, "state_bits")) * 2]


def describe(row: dict[str, Any]) -> str:
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


def hover(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Settings of a plotly trace that shows the row of the table behind every point."""
    return {"text": [describe(row) for row in rows], "hoverinfo": "text"}


def logarithmic(values: Sequence[float]) -> dict[str, Any]:
    """Settings of a logarithmic plotly axis: powers of ten where there are some, else round numbers between them."""
    low, high = math.log10(min(values)), math.log10(max(values))
    if high - low > 1.5:
        return {"type": "log", "exponentformat": "power", "dtick": 1}
    steps = (1, 2, 5) if high - low > 0.7 else (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    ticks = [step * 10**power for power in range(math.floor(low) - 1, math.ceil(high) + 1) for step in steps]
    return {"type": "log", "tickvals": ticks, "tickformat": "~s"}


def merge_equal(rows: Iterable[dict[str, Any]], keys: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Rows by label, where labels whose rows are equal in `keys` share one curve and its name."""
    curves: dict[tuple[Any, ...], list[str]] = {}
    groups = by_label(rows)
    for label, group in groups.items():
        curves.setdefault(tuple(row[key] for row in group for key in keys), []).append(label)
    return {_join(labels): groups[labels[0]] for labels in curves.values()}


def _join(labels: Sequence[str], most: int = 4) -> str:
    shown = labels if len(labels) <= most else labels[: most - 1]
    further = f" and {len(labels) - len(shown)} more" if len(shown) < len(labels) else ""
    return ", ".join(shown) + further

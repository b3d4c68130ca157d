"""What a figure of a report is: a table of numbers, and how it is drawn from that table alone.

A module in `figures` announces one as its `FIGURE`; nothing else in the tree names it.
"""

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib
import plotly.graph_objects as go
from matplotlib.figure import Figure as Still

from hybrids.report.page import figures
from hybrids.report.page.compare import Comparison
from hybrids.report.page.style import Row
from hybrids.report.picture import save_picture
from hybrids.training.files import to_csv


@dataclass(frozen=True)
class Series:
    """A figure as numbers."""

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    """Without rows there is no figure."""
    notes: Sequence[str] = ()
    """What is not drawn, and why."""

    def to_csv(self) -> str:
        return to_csv(self.columns, self.rows)


@dataclass(frozen=True)
class Drawing:
    """A picture of a table: for a paper, and in a browser with hover."""

    still: Callable[[Sequence[Row]], Still]
    interactive: Callable[[Sequence[Row]], go.Figure]


@dataclass(frozen=True)
class Figure:
    """A table and its drawings."""

    name: str
    """Of the CSV file."""
    order: int
    """Its place on the page: ascending."""
    tabulate: Callable[[Comparison], Series]
    drawings: Mapping[str, Drawing]
    """By the name of their files."""

    def save_stills(self, rows: Sequence[Row], folder: Path) -> None:
        """Write every drawing as <name>.png and <name>.svg."""
        with matplotlib.rc_context({"svg.hashsalt": self.name}):  # the same table makes the same file
            for name, drawing in self.drawings.items():
                still = drawing.still(rows)
                save_picture(still, folder / f"{name}.png", dpi=150)
                still.set_layout_engine("none")  # it has been laid out, which takes longer than drawing
                save_picture(still, folder / f"{name}.svg", metadata={"Date": None})

    def to_html(self, rows: Sequence[Row]) -> dict[str, str]:
        """Every drawing, by name, as a part of a page that has plotly."""
        # plotly reads some marks of HTML in a text
        rows = [{key: escape(v, quote=False) if isinstance(v, str) else v for key, v in row.items()} for row in rows]
        parts = {}
        for name, drawing in self.drawings.items():
            figure = drawing.interactive(rows)
            margin = {"l": 70, "r": 30, "t": 50, "b": 60}
            figure.update_layout(
                template="plotly_white", font={"size": 14}, margin=margin, hoverlabel={"align": "left"}
            )
            height = f"{figure.to_dict()['layout']['height']}px"
            options: dict[str, Any] = {"full_html": False, "include_plotlyjs": False, "default_height": height}
            parts[name] = figure.to_html(**options, div_id=name, config=_PLOTLY)
        return parts


_PLOTLY = {"displaylogo": False, "responsive": True, "plotlyServerURL": ""}


def find_figures() -> list[Figure]:
    """The figures of all modules in `figures`, in the order of the page."""
    modules = (import_module(f"{figures.__name__}.{found.name}") for found in pkgutil.iter_modules(figures.__path__))
    return sorted((module.FIGURE for module in modules), key=lambda figure: figure.order)

"""The atlas as a picture: Efficiency against Compactness, every architecture named."""

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrids.report.picture import save_picture
from hybrids.report.terminal.atlas import AtlasRow

CLASSES = {
    "EC": ("tab:blue", "E and C hold, R fails"),
    "Ec": ("tab:purple", "E holds, C up to logarithms, R fails"),
    "ec": ("tab:cyan", "E and C up to logarithms, R fails"),
    "R": ("tab:red", "only R holds"),
    "eR": ("tab:orange", "R, and E up to logarithms: C alone is given up"),
    "e": ("tab:olive", "only E, up to logarithms"),
    "-": ("0.45", "none"),
}
"""Colour and meaning of every class, in the order of the key."""

_APART = 0.008
"""Architectures closer than this in both coordinates share a marker."""

_SPACING = 0.024
"""Least vertical distance between labels."""


class _Cluster:
    """Architectures of one class at one place."""

    def __init__(self, row: AtlasRow) -> None:
        self.y, self.x = row.coordinates
        self.label, self.rows = row.properties.label, [row]

    def holds(self, row: AtlasRow) -> bool:
        y, x = row.coordinates
        return self.label == row.properties.label and abs(x - self.x) < _APART and abs(y - self.y) < _APART


def draw_atlas(rows: Sequence[AtlasRow], path: Path) -> None:
    """Numbered markers, and the numbers' names beside them; PNG or SVG by the name."""
    clusters: list[_Cluster] = []
    for row in rows:
        home = next((cluster for cluster in clusters if cluster.holds(row)), None)
        if home is None:
            clusters.append(_Cluster(row))
        else:
            home.rows.append(row)
    clusters.sort(key=lambda cluster: (list(CLASSES).index(cluster.label), -cluster.y, cluster.x))
    figure = Figure(figsize=(17, 10), layout="constrained")
    *panels, key = figure.subplots(1, 3, width_ratios=[5, 2, 7])
    for axes, (low, high) in zip(panels, _panels([cluster.x for cluster in clusters]), strict=False):
        _draw(axes, [(i, cluster) for i, cluster in enumerate(clusters, 1) if low <= cluster.x <= high])
    _frame(panels[0], panels[1], rows[0].context)
    _write_key(key, clusters)
    save_picture(figure, path, dpi=130)


def _panels(places: Sequence[float]) -> list[tuple[float, float]]:
    """Ranges of Compactness that the panels show: cut at the widest gap, if a third of the axis is empty there."""
    ordered = sorted(places)
    gap, low, high = max(((b - a, a, b) for a, b in pairwise(ordered)), default=(0.0, 0.0, 0.0))
    return [(ordered[0], low), (high, ordered[-1])] if gap > 1 / 3 else [(ordered[0], ordered[-1])]


def _draw(axes: Axes, numbered: Sequence[tuple[int, _Cluster]]) -> None:
    """Markers; those at the left edge have their numbers on the left of them, the others on the right."""
    left = min(cluster.x for _, cluster in numbered)
    right = max(cluster.x for _, cluster in numbered)
    margin = max(0.2 * (right - left), 0.02)
    axes.set_xlim(left - 1.5 * margin, right + 1.5 * margin)
    for is_edge, side in ((True, -1), (False, 1)):
        chosen = [pair for pair in numbered if (pair[1].x - left < margin / 6) == is_edge]
        heights = _spread([cluster.y for _, cluster in chosen])
        for (number, cluster), height in zip(chosen, heights, strict=True):
            colour, _ = CLASSES[cluster.label]
            axes.scatter([cluster.x], [cluster.y], s=30 + 3 * len(cluster.rows), color=colour, zorder=3)
            note = axes.annotate(
                str(number),
                (cluster.x, cluster.y),
                xytext=((left if is_edge else cluster.x) + 0.7 * side * margin, height),
                color=colour,
                fontsize=9,
                va="center",
                ha="right" if is_edge else "left",
                arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkB": 2},
            )
            note.set_in_layout(False)  # inside its axes; to lay out around a hundred takes seconds


def _spread(heights: Sequence[float]) -> list[float]:
    """Heights in the same order, `_SPACING` apart, each group that had to move centred where it was."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    groups: list[list[float]] = []  # each with what its heights would be if the spacing were nothing
    for rank, i in enumerate(order):
        groups.append([heights[i] - rank * _SPACING])
        while len(groups) > 1 and fmean(groups[-1]) < fmean(groups[-2]):
            last = groups.pop()
            groups[-1] += last
    middles = [fmean(group) for group in groups for _ in group]
    moved = {i: middle + rank * _SPACING for rank, (i, middle) in enumerate(zip(order, middles, strict=True))}
    return [moved[i] for i in range(len(heights))]


def _frame(first: Axes, second: Axes, context: int) -> None:
    for axes in (first, second):
        axes.set(ylim=(-0.03, 1.1), yticks=[0, 0.2, 0.4, 0.6, 0.8, 1.0])
        axes.grid(alpha=0.3)
    second.tick_params(labelleft=False)
    if not second.collections:
        second.axis("off")
    cut = "   (axis cut)" if second.collections else ""
    first.set(xlabel=f"Compactness: 1 - log2 s(2n)/s(n){cut}", ylabel="Efficiency: 1 - log2 f(2n)/f(n)")
    first.set_title(f"by their formulas at n = {context:,}, common widths", fontsize=10)


def _write_key(axes: Axes, clusters: Sequence[_Cluster]) -> None:
    axes.axis("off")
    lines: list[tuple[str, str, bool]] = []
    for label, (colour, meaning) in CLASSES.items():
        chosen = [(i, cluster) for i, cluster in enumerate(clusters, 1) if cluster.label == label]
        if chosen:
            lines.append((f"{label}: {meaning}", colour, True))
        for number, cluster in chosen:
            names = ", ".join(row.architecture.title for row in cluster.rows)
            wrapped = textwrap.wrap(f"{number}  {names}", 92, subsequent_indent="     ")
            lines += [(text, colour, False) for text in wrapped]
    for i, (text, colour, is_head) in enumerate(lines):
        y = 1 - (i + 0.5) / max(len(lines), 40)
        weight = "bold" if is_head else "normal"
        line = axes.text(0, y, text, color=colour, fontsize=8.5, weight=weight, transform=axes.transAxes, va="center")
        line.set_in_layout(False)

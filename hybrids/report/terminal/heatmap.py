"""Accuracy over a grid of two sizes (decoded, where the task is), as a picture with the training point marked."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hybrids.report.picture import save_picture
from hybrids.training.grid import GridCell, decoded_scores


def draw_heatmap(cells: Sequence[GridCell], trained: Mapping[str, int], path: Path, *, title: str) -> None:
    """Write a PNG: first size across, second size upwards (one row if there is one size only).

    Grey where the task does not fit; a frame around the sizes that the model was trained on. Further sizes are
    held at their trained value, or at their first one if that is not in the grid.
    """
    first, *others = cells[0].sizes
    second = others[0] if others else ""  # without one, all stand in one row
    shown = _fix_further_sizes(cells, trained, others[1:])
    across = sorted({cell.sizes[first] for cell in shown})
    upwards = sorted({cell.sizes.get(second, 0) for cell in shown})
    values = [[math.nan] * len(across) for _ in upwards]
    for cell in shown:
        accuracy = cell.decoded.get("accuracy", cell.accuracy)
        if accuracy is not None:
            values[upwards.index(cell.sizes.get(second, 0))][across.index(cell.sizes[first])] = accuracy
    figure = Figure(figsize=(1.6 + 0.8 * len(across), 1.6 + 0.6 * len(upwards)), layout="constrained")
    axes = figure.subplots()
    colours = matplotlib.colormaps["viridis"].with_extremes(bad="0.88")
    image = axes.imshow(values, origin="lower", vmin=0, vmax=1, cmap=colours, aspect="auto")
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            if not math.isnan(value):
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.6 else "black")
    axes.set_xticks(range(len(across)), [str(v) for v in across])
    axes.set_yticks(range(len(upwards)), [str(v) if second else "" for v in upwards])
    axes.set(xlabel=first, ylabel=second)
    axes.set_title(title, fontsize=10)
    x, y = trained[first], trained.get(second, 0)
    if x in across and y in upwards:
        corner = (across.index(x) - 0.5, upwards.index(y) - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="red", linewidth=2.5))
        axes.set_xlabel(f"{first}   (red frame: trained here)")
    figure.colorbar(image, ax=axes, label="accuracy, decoded" if decoded_scores(cells) else "accuracy")
    save_picture(figure, path, dpi=150)


def _fix_further_sizes(cells: Sequence[GridCell], trained: Mapping[str, int], names: Sequence[str]) -> list[GridCell]:
    shown = list(cells)
    for name in names:
        present = {cell.sizes[name] for cell in shown}
        value = trained[name] if trained[name] in present else min(present)
        shown = [cell for cell in shown if cell.sizes[name] == value]
    return shown

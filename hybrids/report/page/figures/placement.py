"""In which layers the compared letter stands, and what comes of it."""

import math
from collections.abc import Sequence
from statistics import fmean

import matplotlib
import plotly.graph_objects as go
from matplotlib.figure import Figure as Still
from plotly.subplots import make_subplots

from hybrids.report.page.compare import Comparison
from hybrids.report.page.figure import Drawing, Figure, Series
from hybrids.report.page.style import SCALE, Row, by_label, column, describe


def _tabulate(comparison: Comparison) -> Series:
    """Layer by layer, of models whose compared letter stands in some layers but not in all."""
    letter = comparison.letter
    models = [model for model in comparison.models() if len(set(comparison.holds_letter(model.first))) == 2]
    rows, notes = [], []
    for model in models:
        scores = [run.result["test"]["accuracy"] or 0.0 for run in model.runs]
        found = [place["recall"] for run in model.runs for place in run.places[:1]]
        recalls = [recall for recall in found if recall is not None]
        told = {"accuracy": fmean(scores), "recall": fmean(recalls) if recalls else None, "seeds": len(scores)}
        for layer, holds in enumerate(comparison.holds_letter(model.first)):
            rows.append({"label": model.label, "layer": layer, "holds_letter": holds, **told})
    if len({model.pattern for model in models}) < 2:
        rows, notes = [], [f"fewer than two patterns have {letter} in some of their layers but not in all"]
    caption = f"Where {letter} stands, and the test accuracy and Recall (at the training context) that come of it."
    columns = ("label", "layer", "holds_letter", "accuracy", "recall", "seeds")
    return Series(f"Placement of {letter}", caption, columns, rows, notes)


def _scores(rows: Sequence[Row]) -> list[str]:
    """The columns that have numbers: a panel each."""
    return [score for score in ("accuracy", "recall") if any(row[score] is not None for row in rows)]


def _draw_still(rows: Sequence[Row]) -> Still:
    scores, labels, layers = _scores(rows), list(by_label(rows)), sorted(set(column(rows, "layer")))
    size = (2.5 + len(scores) * (1 + 0.6 * len(layers)), 1.5 + 0.4 * len(labels))
    figure = Still(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for axes, score in zip(panels, scores, strict=True):
        cells = [[math.nan] * len(layers) for _ in labels]
        for row in rows:
            if row["holds_letter"] and row[score] is not None:
                y, x, value = labels.index(row["label"]), layers.index(row["layer"]), row[score]
                cells[y][x] = value
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.5 else "black")
        colours = matplotlib.colormaps[SCALE].with_extremes(bad="0.92")
        axes.imshow(cells, vmin=0, vmax=1, cmap=colours, aspect="auto")
        axes.set(title=score, xlabel="layer")
        axes.set_xticks(range(len(layers)), layers)
        axes.set_yticks(range(len(labels)), labels)
    figure.colorbar(panels[-1].images[0], ax=list(panels))
    return figure


def _draw_interactive(rows: Sequence[Row]) -> go.Figure:
    scores, labels, layers = _scores(rows), list(by_label(rows)), sorted(set(column(rows, "layer")))
    figure = make_subplots(rows=1, cols=len(scores), subplot_titles=scores, shared_yaxes=True)
    by_place = {(row["label"], row["layer"]): row for row in rows}
    grid = [[by_place.get((label, layer)) for layer in layers] for label in labels]  # a model may have fewer layers
    for i, score in enumerate(scores, start=1):
        cells = go.Heatmap(
            x=layers,
            y=labels,
            z=[[row[score] if row and row["holds_letter"] else None for row in line] for line in grid],
            texttemplate="%{z:.2f}",
            xgap=2,
            ygap=2,
            coloraxis="coloraxis",
            text=[[describe(row) if row else "" for row in line] for line in grid],
            hoverinfo="text",
        )
        figure.add_trace(cells, row=1, col=i)
        figure.update_xaxes(title_text="layer", dtick=1, showgrid=False, zeroline=False, row=1, col=i)
    figure.update_yaxes(showgrid=False, zeroline=False, type="category", autorange="reversed")
    figure.update_layout(coloraxis={"colorscale": SCALE, "cmin": 0, "cmax": 1}, height=170 + 34 * len(labels))
    return figure.update_layout(plot_bgcolor="#ebebeb")


FIGURE = Figure("placement", 80, _tabulate, {"placement": Drawing(_draw_still, _draw_interactive)})

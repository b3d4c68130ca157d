"""Test accuracy against the number of facts."""

from collections.abc import Sequence

import plotly.graph_objects as go
from matplotlib.figure import Figure as Still

from hybrids.report.page.accuracy_bands import BAND, band, draw_bands_interactive, draw_bands_still
from hybrids.report.page.compare import Comparison, join_names
from hybrids.report.page.figure import Drawing, Figure, Series
from hybrids.report.page.style import Row


def _tabulate(comparison: Comparison) -> Series:
    facts = comparison.facts
    key = f"accuracy/{facts}="
    found: dict[tuple[str, int], list[float]] = {}
    for model in comparison.models():
        task = comparison.describe(model.first, task=True, without=[f"task.{facts}"])
        label = join_names(model.pattern, model.setting, task)
        for run in model.runs:
            for name, score in run.result["test"].items():
                if name.startswith(key) and score is not None:
                    found.setdefault((label, int(name.removeprefix(key))), []).append(score)
    rows = [{"label": label, "facts": count, **band(scores)} for (label, count), scores in found.items()]
    notes = () if rows else (_why_none(comparison),)
    caption = (
        f"Test accuracy against the number of facts ({facts}), mean and range over the seeds, each model at the "
        "learning rate with the best mean validation accuracy."
    )
    return Series("Accuracy and number of facts", caption, ("label", "facts", *BAND), rows, notes)


def _why_none(comparison: Comparison) -> str:
    names = {name for run in comparison.runs for name in run.result["test"] if "/" in name}
    slices = ", ".join(sorted({name.removeprefix("accuracy/").partition("=")[0] for name in names})) or "no slices"
    if comparison.facts is None:
        return f"the tasks name no slice of the scores that counts facts; there are {slices}, and --facts takes one"
    return f"no test score is split by {comparison.facts}; there are {slices}"


def _draw_still(rows: Sequence[Row]) -> Still:
    figure = draw_bands_still(rows, "facts", "number of facts")
    figure.axes[0].axhline(0.9, color="0.6", ls=":", lw=1)
    return figure


def _draw_interactive(rows: Sequence[Row]) -> go.Figure:
    figure = draw_bands_interactive(rows, "facts", "number of facts")
    return figure.add_hline(y=0.9, line={"color": "#888888", "dash": "dot"})


FIGURE = Figure("accuracy_by_facts", 40, _tabulate, {"accuracy_by_facts": Drawing(_draw_still, _draw_interactive)})

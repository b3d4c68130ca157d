"""How wide the window of learning rates is: test accuracy against the learning rate."""

from functools import partial

from hybrids.report.page.accuracy_bands import BAND, band, draw_bands_interactive, draw_bands_still
from hybrids.report.page.compare import Comparison
from hybrids.report.page.figure import Drawing, Figure, Series


def _tabulate(comparison: Comparison) -> Series:
    chosen = {id(model.first) for model in comparison.models()}
    rows = []
    for group in comparison.groups():
        if group.rate is not None:
            told = band([run.result["test"]["accuracy"] or 0.0 for run in group.runs])
            is_chosen = id(group.first) in chosen
            rows.append({"label": group.label, "learning_rate": group.rate, **told, "chosen": is_chosen})
    notes = ()
    if len({row["learning_rate"] for row in rows}) < 2:
        rows = []
        notes = (
            "all runs have one learning rate; nothing says how wide a window is, and a failure at one rate is no limit",
        )
    caption = (
        "Test accuracy against the learning rate, mean and range over the seeds (a diverged run counts as 0); the "
        "filled marker is the rate that the other figures show, chosen by validation accuracy."
    )
    return Series("Learning-rate windows", caption, ("label", "learning_rate", *BAND, "chosen"), rows, notes)


_AXIS = {"x": "learning_rate", "title": "learning rate"}
_DRAWING = Drawing(partial(draw_bands_still, **_AXIS), partial(draw_bands_interactive, **_AXIS))
FIGURE = Figure("learning_rates", 70, _tabulate, {"learning_rates": _DRAWING})

"""Effective bits and capacity as PNG and SVG, from their tables alone."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrids.report.page.legend import add_legend
from hybrids.report.page.series import Row
from hybrids.report.page.style import Mark, by_label, column, marks, with_effective
from hybrids.studies.effective_bits.measure import KEPT


def draw_effective_points(axes: Axes, rows: Sequence[Row], look: Mapping[str, Mark]) -> None:
    """In the figure of recalled bits: a thin line from a run to the cross at its effective bits."""
    shown = with_effective(rows)
    for row in shown:
        ends = [row["state_bits"], row["effective_bits"]], [row["drawn_at"], row["effective_recalled"]]
        colour = look[row["label"]].colour
        axes.plot(*ends, color=colour, lw=0.7, ls="--")
        axes.plot(row["effective_bits"], row["effective_recalled"], "x", color=colour, ms=7, mew=1.8)
    if shown:
        axes.plot([], [], "x", color="0.3", ms=7, mew=1.8, label="effective bits")


def draw_effective(rows: list[Row]) -> dict[str, Figure]:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.axhline(KEPT, color="0.5", ls=":", lw=1)
    look = marks(column(rows, "label"))
    for label, group in by_label(rows).items():
        mark = look[label]
        for number, run in enumerate(by_label(group, "run").values()):
            ordered = sorted(run, key=lambda row: row["total_bits"])
            axes.plot(
                column(ordered, "total_bits"),
                column(ordered, "share_kept"),
                color=mark.colour,
                ls=mark.line,
                marker=mark.marker,
                ms=5,
                label=label if number == 0 else None,
            )
            best = [row for row in run if row["is_smallest"]]
            axes.plot(
                column(best, "total_bits"), column(best, "share_kept"), "o", mfc="none", mec=mark.colour, ms=13, mew=1.5
            )
    axes.set(xscale="log", xlabel="state after the last fact (bits)", ylabel="share of the recalled bits kept")
    axes.set_ylim(-0.03, max(1.06, 1.03 * max(column(rows, "share_kept"))))
    axes.grid(alpha=0.3)
    add_legend(figure, axes)
    return {"effective_bits": figure}


def draw_capacity(rows: list[Row]) -> dict[str, Figure]:
    figure = Figure(figsize=(10, 1.8 + 0.4 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    look = marks(column(rows, "label"))
    for height, row in enumerate(rows):
        _draw_facts(panels[0], height, row, look[row["label"]].colour)
        _draw_window(panels[1], height, row, look[row["label"]].colour)
    for axes, name in zip(panels, ("facts recalled with accuracy 0.9, K*", "learning rate"), strict=True):
        axes.set(xscale="log", xlabel=name)
        axes.grid(alpha=0.3)
    found = [number for row in rows for number in (row["facts"], row["low"], row["high"]) if number is not None]
    panels[0].set_xlim(min([*found, 1]) / 1.3, max([*found, 2]) * 1.3)
    ticks = [2**k for k in range(20) if 2**k <= 1.3 * max([*found, 2])]
    panels[0].set_xticks(ticks, [str(tick) for tick in ticks])
    rates = sorted({float(rate) for row in rows for rate in row["rates"].split()})
    panels[1].set_xticks(rates, [f"{rate:g}" for rate in rates], rotation=45 if len(rates) > 6 else 0)
    for axes in panels:
        axes.minorticks_off()
    panels[0].set_yticks(range(len(rows)), column(rows, "label"))
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return {"capacity": figure}


def _draw_facts(axes: Axes, height: int, row: Row, colour: str) -> None:
    if row["facts"] is None:
        place = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "va": "center", "fontsize": 8}
        axes.annotate("no seed learned", (0, height), (6, 0), **place)
        return
    if row["low"] is not None:
        axes.plot([row["low"], row["high"]], [height, height], "|-", color=colour, lw=1.5, ms=9)
    axes.plot(row["facts"], height, ">" if row["is_lower_bound"] else "o", color=colour, ms=9)


def _draw_window(axes: Axes, height: int, row: Row, colour: str) -> None:
    tried = [float(rate) for rate in row["rates"].split()]
    axes.plot(tried, [height] * len(tried), "|", color="0.5", ms=10)
    if row["window_low"] is not None:
        axes.plot([row["window_low"], row["window_high"]], [height, height], color=colour, lw=5, alpha=0.4)
    axes.plot(row["learning_rate"], height, "o", color=colour)

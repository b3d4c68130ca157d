"""What is still recalled through a state that is rounded to fewer bits, as `hybrids bits` measures it."""

from collections.abc import Iterator, Sequence
from typing import Any

import plotly.graph_objects as go
from matplotlib.figure import Figure as Still

from hybrids.report.page.compare import Comparison
from hybrids.report.page.figure import Drawing, Figure, Series
from hybrids.report.page.style import Row, add_legend, by_label, column, curve, logarithmic, marks
from hybrids.studies.effective_bits.rounded import KEPT, OUTDATED, Rounded

_STATE = ("label", "learning_rate", "seed", "context", "state", "bits_per_element", "total_bits")
_RECALL = ("recalled_bits", "recalled_low", "recalled_high", "surely", "share_kept", "utilisation")


def _tabulate(comparison: Comparison) -> Series:
    """Every run of the models shown, its state as stored and as rounded; nothing of one that recalls nothing."""
    rows, notes, unmeasured = [], [], []
    for model in comparison.models():
        for run in model.runs:
            shared = {"label": model.label, "learning_rate": model.rate, "seed": run.seed, "run": run.name}
            if run.rounded is None:  # without recalled bits at the context of training hybrids bits refuses a run
                recalled = [place["recalled_bits"] for place in run.places if place["context"] == run.result["context"]]
                unmeasured += [run.name] if any(bits is not None for bits in recalled) else []
            elif run.rounded.is_learned:
                rows += [shared | row for row in _states(run.rounded)]
            else:
                notes.append(f"{run.name}: nothing was recalled for sure, so nothing can be kept")
    outdated = [
        run.name for model in comparison.models() for run in model.runs if run.rounded and run.rounded.is_outdated
    ]
    notes += [f"{', '.join(outdated)}: rounded {OUTDATED}; hybrids bits measures it again"] if outdated else []
    if not rows and not notes:
        notes.append("hybrids bits <folder of runs> measures it")
    elif unmeasured:
        notes.append(f"not measured, which hybrids bits does: {', '.join(unmeasured)}")
    caption = (
        "Share of the recalled bits that is kept when the state after the last fact is rounded to fewer bits per "
        "element, against the bits of the rounded state; each model at the learning rate with the best mean "
        f"validation accuracy, a line for each seed. The ring is at its effective bits: the smallest state that keeps "
        f"{KEPT:.0%} (dotted). The levels of the rounding are fixed on validation examples."
    )
    return Series("Effective bits", caption, (*_STATE, *_RECALL, "is_smallest", "run"), rows, notes)


def _states(rounded: Rounded) -> Iterator[Row]:
    for state, bits, total, found in rounded.states:
        yield {
            "context": rounded.context,
            "state": state,
            "bits_per_element": bits,
            "total_bits": total,
            "recalled_bits": found.bits,
            "recalled_low": found.low,
            "recalled_high": found.high,
            "surely": found.surely,
            "share_kept": rounded.share_kept(found),
            "utilisation": found.bits / total,
            "is_smallest": rounded.smallest is not None and (state, total) == ("rounded", rounded.smallest.total),
        }


def _curves(rows: Sequence[Row]) -> Iterator[tuple[str, bool, list[Row]]]:
    """For every run its label, whether it is the first of that label, and its rows by the size of the state."""
    for label, group in by_label(rows).items():
        for number, run in enumerate(by_label(group, "run").values()):
            yield label, number == 0, sorted(run, key=lambda row: row["total_bits"])


def _shares(rows: Sequence[Row]) -> list[float]:
    """What the axis of the share kept spans."""
    return [-0.03, max(1.06, 1.03 * max(column(rows, "share_kept")))]


def _draw_still(rows: Sequence[Row]) -> Still:
    figure = Still(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.axhline(KEPT, color="0.5", ls=":", lw=1)
    look = marks(column(rows, "label"))
    for label, is_first, run in _curves(rows):
        mark = look[label]
        xs, ys, name = column(run, "total_bits"), column(run, "share_kept"), label if is_first else None
        axes.plot(xs, ys, **mark.still, ms=5, label=name)
        best = [row for row in run if row["is_smallest"]]
        ring = {"mfc": "none", "mec": mark.colour, "ms": 13, "mew": 1.5}
        axes.plot(column(best, "total_bits"), column(best, "share_kept"), "o", **ring)
    axes.set(xscale="log", xlabel="state after the last fact (bits)", ylabel="share of the recalled bits kept")
    axes.set_ylim(*_shares(rows))
    axes.grid(alpha=0.3)
    add_legend(figure, axes)
    return figure


def _draw_interactive(rows: Sequence[Row]) -> go.Figure:
    figure = go.Figure()
    look = marks(column(rows, "label"))
    for label, is_first, run in _curves(rows):
        mark, best = look[label], column(run, "is_smallest")
        ring: dict[str, Any] = {
            "symbol": ["circle-open" if is_best else mark.symbol for is_best in best],
            "size": [16 if is_best else 8 for is_best in best],
            "line": {"width": 2},
        }
        line = curve(run, "total_bits", "share_kept", label=label, mark=mark, **ring)
        figure.add_trace(go.Scatter(**line, showlegend=is_first))
    figure.add_hline(y=KEPT, line={"color": "#888888", "dash": "dot"})
    figure.update_xaxes(title_text="state after the last fact (bits)", **logarithmic(column(rows, "total_bits")))
    figure.update_yaxes(title_text="share of the recalled bits kept", range=_shares(rows))
    return figure.update_layout(height=480)


FIGURE = Figure("effective_bits", 30, _tabulate, {"effective_bits": Drawing(_draw_still, _draw_interactive)})

"""What a rounded state keeps, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from hybrids.report.page.style import COLOURS
from hybrids.report.picture import save_picture
from hybrids.studies.effective_bits.rounded import KEPT, Rounded


def draw_rounded(rounded: Rounded, path: Path, *, title: str) -> None:
    """Recalled bits, with their 95 % interval, against the bits of the state as stored and as rounded."""
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.subplots()
    stored, totals = rounded.stored, [entry.total for entry in rounded.curve]
    recalled = [entry.recalled for entry in rounded.curve]
    axes.plot(totals, [found.bits for found in recalled], "o-", color=COLOURS[0], label="rounded")
    axes.vlines(totals, [found.low for found in recalled], [found.high for found in recalled], color=COLOURS[0], lw=1)
    axes.plot(
        stored.state_bits, stored.recalled.bits, "s", color="black", label=f"stored, {rounded.bits_stored:g} bits"
    )
    axes.vlines(stored.state_bits, stored.recalled.low, stored.recalled.high, color="black", lw=1)
    if rounded.is_learned:
        axes.axhline(KEPT * stored.recalled.bits, color="0.5", ls=":", lw=1, label=f"{KEPT:.0%} kept")
    if rounded.smallest is not None:
        place = rounded.smallest.total, rounded.smallest.recalled.bits
        axes.plot(*place, "o", mfc="none", mec=COLOURS[1], ms=13, mew=2, label="smallest that is enough")
    for entry in rounded.curve:
        axes.annotate(
            str(entry.bits), (entry.total, entry.recalled.bits), (4, 5), textcoords="offset points", fontsize=8
        )
    _frame(axes, [*totals, stored.state_bits], stored.offered)
    axes.set_title(title, fontsize=10)
    save_picture(figure, path, dpi=150)


def _frame(axes, totals: Sequence[int], offered: float) -> None:  # noqa: ANN001
    """Logarithmic in the state, from 0 in what is recalled; the law where it lies inside."""
    low, high, top = min(totals) / 1.5, 1.5 * max(totals), 1.12 * offered
    law = [low + k * (min(high, top) - low) / 50 for k in range(51)] if low < top else []
    axes.plot(law, law, color="black", lw=1, label="r = s" if law else None)
    axes.axhline(offered, color="0.5", lw=1, label="offered")
    axes.set(xscale="log", xlabel="state after the last fact (bits)", ylabel="recalled bits", ylim=(-0.03 * top, top))
    axes.set_xlim(low, high)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))

"""Effective bits of runs: tables for the terminal, and the picture beside the file."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from hybrids.report.page.style import COLOURS
from hybrids.report.picture import save_picture
from hybrids.studies.effective_bits.measure import KEPT, Rounded

COLUMNS = ("state", "bits per element", "state bits", "recalled bits", "95 % interval", "share kept", "utilisation")


def table_rows(rounded: Rounded) -> list[list[str]]:
    """Rows under `COLUMNS`, one for each state; the smallest that is enough is marked."""
    rows = []
    for name, bits, total, found in rounded.states:
        share = rounded.share_kept(found)
        is_smallest = rounded.smallest is not None and (name, total) == ("rounded", rounded.smallest.total)
        rows.append(
            [
                f"{name}, smallest that keeps {KEPT:.0%}" if is_smallest else name,
                f"{bits:g}",
                f"{total:,}",
                f"{found.bits:,.1f}",
                f"{found.low:,.1f} to {found.high:,.1f}",
                "" if share is None else f"{share:.3f}",
                f"{found.bits / total:.2g}",
            ]
        )
    return rows


SUMMARY_COLUMNS = (
    "run",
    "recalled bits",
    "state bits",
    "utilisation",
    "bits per element",
    "effective bits",
    "recalled there",
    "utilisation of them",
    "remark",
)


def summary_row(name: str, rounded: Rounded) -> list[str]:
    """One line under `SUMMARY_COLUMNS`."""
    found, total, best = rounded.stored.recalled, rounded.stored.state_bits, rounded.smallest
    line = [name, f"{found.bits:,.1f}", f"{total:,}", f"{rounded.stored.utilisation:.2g}"]
    if best is None or rounded.utilisation is None:
        return [*line, "none", "none", "", "", note(rounded)]
    numbers = (f"{best.bits}", f"{best.total:,}", f"{best.recalled.bits:,.1f}", f"{rounded.utilisation:.2g}")
    return [*line, *numbers, note(rounded)]


def note(rounded: Rounded) -> str:
    """Why there are no effective bits, or that there may be fewer; empty where there is nothing to say."""
    if not rounded.is_learned:
        told = "nothing was recalled for sure (the lower 99.9 % limit is 0 bits"
        return f"{told} with {rounded.num_examples:,} examples), so nothing can be kept"
    if rounded.smallest is None:
        return f"no rounded state keeps {KEPT:.0%}; try more than {rounded.curve[0].bits} bits per element"
    return "at most: these are the fewest bits tried" if rounded.is_at_most else ""


def sentence(rounded: Rounded) -> str:
    """What the measurement says of one run."""
    best, utilisation = rounded.smallest, rounded.utilisation
    if best is None or utilisation is None:
        return f"effective bits: none; {note(rounded)}"
    share = best.total / rounded.stored.state_bits
    told = f"effective bits: {best.total:,} ({best.bits} per element, {share:.3g} of those stored), utilisation "
    told += f"{utilisation:.3g} of them, {rounded.stored.utilisation:.3g} of those stored"
    return f"{told}; {note(rounded)}" if note(rounded) else told


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

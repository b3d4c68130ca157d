"""Effective bits of runs: tables for the terminal, and the picture beside the file."""

from hybrids.studies.effective_bits.rounded import KEPT, Rounded

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

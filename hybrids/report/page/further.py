"""The tables of what further commands have measured on the runs of a report: effective bits, and capacity."""

from collections import Counter
from collections.abc import Iterator, Sequence

from hybrids.report.page.collect import ReportedRun
from hybrids.report.page.compare import Comparison
from hybrids.report.page.series import Row, Series
from hybrids.studies.capacity.record import Found
from hybrids.studies.effective_bits.measure import KEPT

_STATE = ("label", "learning_rate", "seed", "context", "state", "bits_per_element", "total_bits")
_RECALL = ("recalled_bits", "recalled_low", "recalled_high", "surely", "share_kept", "utilisation")


def effective_bits(comparison: Comparison) -> Series:
    """Every run of the models shown, its state as stored and as rounded by `hybrids bits`."""
    runs = [(model, run) for model in comparison.models() for run in model.runs]
    measured = [(model, run) for model, run in runs if run.rounded is not None]
    rows = []
    for model, run in measured:
        shared = {"label": model.label, "learning_rate": model.rate, "seed": run.seed, "run": run.name}
        rows += [shared | row for row in _states(run)]
    unlearned = [run.name for _, run in measured if run.rounded is not None and not run.rounded.is_learned]
    notes = [f"{name}: nothing was recalled for sure, so nothing can be kept" for name in unlearned]
    if not measured:
        notes.append("hybrids bits <folder of runs> measures it")
    elif unmeasured := [run.name for _, run in runs if run.rounded is None and _has_recall(run)]:
        notes.append(f"not measured, which hybrids bits does: {', '.join(unmeasured)}")
    caption = (
        "Share of the recalled bits that is kept when the state after the last fact is rounded to fewer bits per "
        "element, against the bits of the rounded state; each model at the learning rate with the best mean "
        f"validation accuracy, a line for each seed. The ring is at its effective bits: the smallest state that keeps "
        f"{KEPT:.0%} (dotted). The steps of the rounding are fixed on validation examples."
    )
    columns = (*_STATE, *_RECALL, "is_smallest", "run")
    return Series("effective_bits", "Effective bits", caption, columns, tuple(rows), tuple(notes))


def _has_recall(run: ReportedRun) -> bool:
    """Whether recalled bits are known at the context of training: without them hybrids bits refuses the run."""
    return any(place.context == run.result["context"] and place.recalled_bits is not None for place in run.places)


def _states(run: ReportedRun) -> Iterator[Row]:
    """The states of a measured run; nothing of one that recalls nothing, which has no share to show."""
    rounded = run.rounded
    if rounded is None or not rounded.is_learned:
        return
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


_FOUND = ("facts", "low", "high", "coverage", "is_lower_bound", "never_learned", "seeds")
_RATES = ("learning_rate", "window_low", "window_high", "window_decades", "rates")
_SIZES = ("d_model", "parameters", "state_bits", "bound", "utilisation", "confirmed", "steps")


def capacity(comparison: Comparison, searches: Sequence[Found]) -> Series:
    """What `hybrids capacity` found from runs of this report: K* and the window of learning rates, by pattern."""
    labels = _labels(comparison, searches)
    rows, notes = [], []
    for label, found in zip(labels, searches, strict=True):
        if found.runs:
            rows.append({"label": label, "search": found.search, "pattern": found.pattern, **_numbers(found)})
        if found.runs and found.facts is None:
            notes.append(f"{label}: no K*, for no seed learned to recall even one fact with accuracy 0.9")
        if found.reasons:
            notes.append(f"{label}: a lower bound: {'; '.join(found.reasons)}")
        if found.missing:
            notes.append(f"{label}: not trained: {', '.join(found.missing)}; the same hybrids capacity command goes on")
    if not searches:
        notes.append("no search for a capacity has used these runs; hybrids capacity makes one")
    caption = (
        "K*, the largest number of facts recalled with accuracy 0.9: median and range over the seeds other than the "
        "one that the learning rate was chosen on (in the table: how likely such a range covers the median of all "
        "seeds); seeds that never learned are counted apart, in the table. A triangle is a lower bound, for the reason "
        "told below. Beside it the learning rates tried and the window of those that reach half of the best K*."
    )
    columns = ("label", "search", "pattern", *_FOUND, *_RATES, *_SIZES)
    return Series("capacity", "Capacity", caption, columns, tuple(rows), tuple(notes))


def _labels(comparison: Comparison, searches: Sequence[Found]) -> list[str]:
    """Pattern and what sets its runs apart from those of the others; the search too, where that is the same."""
    by_path = {run.path.resolve(): run for run in comparison.runs}
    trials = [by_path[path] for found in searches for path in found.runs if path in by_path]
    comparison = Comparison(trials, comparison.letter)
    labels = []
    for found in searches:
        run = next((by_path[path] for path in found.runs if path in by_path), None)
        setting = "" if run is None else comparison.describe(run, task=False)
        labels.append(" · ".join(part for part in (found.pattern, setting) if part))
    times = Counter(labels)
    return [
        label if times[label] == 1 else f"{label} · {one.search}" for label, one in zip(labels, searches, strict=True)
    ]


def _numbers(found: Found) -> Row:
    low, high = found.interval or (None, None)
    return {
        "facts": found.facts,
        "low": low,
        "high": high,
        "coverage": found.coverage,
        "is_lower_bound": found.is_lower_bound,
        "never_learned": found.num_never_learned,
        "seeds": found.num_seeds,
        "learning_rate": found.rate,
        "window_low": min(found.window, default=None),
        "window_high": max(found.window, default=None),
        "window_decades": found.window_decades,
        "rates": " ".join(f"{rate:g}" for rate in found.rates),
        "d_model": found.d_model,
        "parameters": found.parameters,
        "state_bits": found.state_bits,
        "bound": found.bound,
        "utilisation": found.utilisation,
        "confirmed": found.confirmed,
        "steps": found.steps,
    }

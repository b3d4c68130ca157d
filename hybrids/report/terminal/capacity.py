"""The table of a capacity search."""

from collections.abc import Iterator

from hybrids.studies.capacity.plan import Plan
from hybrids.studies.capacity.record import Outcome
from hybrids.studies.capacity.search import THRESHOLD, Capacity

CEILING_COLUMNS = (
    "pattern",
    "d_model",
    "parameters",
    "step FLOPs",
    "state bits after the facts",
    "facts",
    "alphabet",
    "largest measurable utilisation",
)


def ceiling_row(plan: Plan) -> list[object]:
    """What can be shown at most, under `CEILING_COLUMNS`."""
    size, most = plan.size, plan.ceiling
    numbers = (size.params, size.flops, most.state_bits, most.facts, most.num_symbols)
    return [plan.pattern, size.d_model, *(f"{value:,}" for value in numbers), f"{most.utilisation:.4f}"]


COLUMNS = (
    "pattern",
    "K*",
    "interval",
    "never learned",
    "rate",
    "window (decades)",
    "d_model",
    "parameters",
    "step FLOPs",
    "state bits",
    "K at most",
    "utilisation",
    "steps",
    "K alone",
    "",
)


def table_row(outcome: Outcome) -> list[str]:
    """One line of the table; state bits are those after the last of K* facts, before any query."""
    size = [outcome.size.d_model, f"{outcome.size.params:,}", f"{outcome.size.flops:,}"]
    found, at = outcome.capacity, outcome.at_capacity
    if found is None:
        return [outcome.pattern, *[""] * 5, *map(str, size), *[""] * 5, "the budget was spent before the first run"]
    steps = sorted({trial.steps for trial in found.trials})
    budget = f"{len(found.trials)} x {'-'.join(f'{n:,}' for n in dict.fromkeys((steps[0], steps[-1])))}"
    return [
        outcome.pattern,
        "none" if found.facts is None else f"{found.facts:.2f}",
        _interval(found),
        f"{found.num_never_learned} of {found.num_seeds}",
        f"{found.rate:g}",
        f"{found.window_decades:.2f}",
        *map(str, size),
        "" if at is None else f"{at.state_bits:,}",
        "" if outcome.bound is None else f"{outcome.bound:,.1f}",
        "" if outcome.utilisation is None else f"{outcome.utilisation:.4f}",
        budget,
        "" if outcome.confirmed is None else str(outcome.confirmed),
        "; ".join(_remarks(found)),
    ]


def _remarks(found: Capacity) -> Iterator[str]:
    if found.reasons:
        yield f"lower bound: {'; '.join(found.reasons)}"
    dips = sorted({facts for trial in found.trials if trial.rate == found.rate for facts in trial.dips})
    if dips:
        yield f"below {THRESHOLD} also at fewer facts: {', '.join(map(str, dips))}"


def _interval(found: Capacity) -> str:
    if found.interval is None or found.coverage is None:
        return "none"
    low, high = found.interval
    return f"{low:.2f} to {high:.2f} ({found.coverage:.1%})"

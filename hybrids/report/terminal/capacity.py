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
    "remarks",
    "utilisation",
    "rate",
    "never learned",
    "state bits",
    "K at most",
    "window (decades)",
    "d_model",
    "parameters",
    "step FLOPs",
    "steps",
    "K alone",
)
"""By importance: a narrow terminal shows the first."""

MEANINGS = {
    "K*": "the largest number of facts at which the accuracy is 0.9, from runs on 1 ... max_facts facts",
    "interval": "the range of K* over the seeds after the first, and how often such a range covers the median",
    "utilisation": "recalled bits at K* over the state bits there, which are those after the last fact",
    "rate": "the learning rate that was best on the first seed",
    "never learned": "seeds that stayed below 0.9 even with one fact; they are not in the interval",
    "K at most": "facts that the state could hold if every bit of it were used",
    "window (decades)": "how far the learning rate may move, as a power of ten, with K* above half of its best",
    "steps": "runs x steps of each",
    "K alone": "the largest number of facts that a run learned that was trained on that number alone (--confirm)",
}


def table_row(outcome: Outcome) -> list[str]:
    """One line of the table; state bits are those after the last of K* facts, before any query."""
    size = {"d_model": outcome.size.d_model, "parameters": outcome.size.params, "step FLOPs": outcome.size.flops}
    cells = {"pattern": outcome.pattern, **{name: f"{value:,}" for name, value in size.items()}}
    found, at = outcome.capacity, outcome.at_capacity
    if found is None:
        cells["remarks"] = "the budget was spent before the first run"
    else:
        steps = sorted({trial.steps for trial in found.trials})
        cells |= {
            "K*": "none" if found.facts is None else f"{found.facts:.2f}",
            "interval": _interval(found),
            "remarks": "; ".join(_remarks(found)),
            "utilisation": "" if outcome.utilisation is None else f"{outcome.utilisation:.4f}",
            "rate": f"{found.rate:g}",
            "never learned": f"{found.num_never_learned} of {found.num_seeds}",
            "state bits": "" if at is None else f"{at.state_bits:,}",
            "K at most": "" if outcome.bound is None else f"{outcome.bound:,.1f}",
            "window (decades)": f"{found.window_decades:.2f}",
            "steps": f"{len(found.trials)} x {'-'.join(f'{n:,}' for n in dict.fromkeys((steps[0], steps[-1])))}",
            "K alone": "" if outcome.confirmed is None else str(outcome.confirmed),
        }
    return [cells.get(column, "") for column in COLUMNS]


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

"""What a capacity search has found, as a table, as curves and as one record."""

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from hybrids.record import write_file
from hybrids.trials import Ceiling
from hybrids.triangle.bound import max_facts, min_state_bits
from hybrids.triangle.capacity import THRESHOLD, Capacity
from hybrids.triangle.match import Size

VERSION = 1
"""Of capacity.json."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was found for one pattern."""

    pattern: str
    size: Size
    capacity: Capacity | None
    """None where the budget was spent before the first run."""
    at_most: Ceiling
    at_capacity: Ceiling | None
    """At the found number of facts, rounded up; None where no fact is recalled."""
    missing: Sequence[str] = ()
    confirmed: int | None = None
    """The largest number of facts recalled by a run that is trained on that number alone; None where not asked."""

    @property
    def facts(self) -> float | None:
        return None if self.capacity is None else self.capacity.facts

    @property
    def bound(self) -> float | None:
        """Most facts that the state can give back at the error of the threshold."""
        at = self.at_capacity
        return None if at is None else max_facts(at.state_bits, at.num_symbols, 1 - THRESHOLD)

    @property
    def utilisation(self) -> float | None:
        """Bits that K* facts at the error of the threshold need, over the bits of the state."""
        at = self.at_capacity
        if at is None or self.facts is None:
            return None
        return min_state_bits(self.facts, at.num_symbols, 1 - THRESHOLD) / at.state_bits

    @property
    def breaks_the_law(self) -> bool:
        """More facts than the state can hold: a leak in the task, or a state that is under-counted."""
        return self.utilisation is not None and self.utilisation > 1


def facts_asked(capacity: Capacity | None) -> int | None:
    """The found number of facts as examples can have it: rounded up."""
    return None if capacity is None or capacity.facts is None else math.ceil(capacity.facts)


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


def curve_rows(outcomes: Sequence[Outcome]) -> Iterator[Sequence[object]]:
    """Header, and one row per pattern, run and number of facts."""
    yield ("pattern", "rate", "seed", "facts", "accuracy", "steps", "run")
    for outcome in outcomes:
        for trial in outcome.capacity.trials if outcome.capacity else ():
            for facts, accuracy in sorted(trial.curve.items()):
                yield (outcome.pattern, trial.rate, trial.seed, facts, accuracy, trial.steps, trial.run)


def write(folder: Path, outcomes: Sequence[Outcome], asked: dict[str, Any]) -> tuple[Path, Path]:
    """capacity.json with all that was `asked` and found, curves.csv with the curves behind it."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {"version": VERSION, "asked": asked, "patterns": [_record(outcome) for outcome in outcomes]}
    paths = folder / "capacity.json", folder / "curves.csv"
    write_file(paths[0], json.dumps(record, indent=2) + "\n")
    text = StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(curve_rows(outcomes))
    write_file(paths[1], text.getvalue())
    return paths


def _record(outcome: Outcome) -> dict[str, Any]:
    found, at = outcome.capacity, outcome.at_capacity
    record = {
        "pattern": outcome.pattern,
        "size": outcome.size._asdict(),
        "at_most": outcome.at_most._asdict(),
        "missing": list(outcome.missing),
    }
    if found is None:
        return record
    return record | {
        "facts": found.facts,
        "interval": found.interval,
        "coverage": found.coverage,
        "rate": found.rate,
        "window": found.window,
        "window_decades": found.window_decades,
        "num_seeds": found.num_seeds,
        "num_never_learned": found.num_never_learned,
        "is_lower_bound": bool(found.reasons),
        "reasons": found.reasons,
        "at_capacity": None if at is None else at._asdict(),
        "bound": outcome.bound,
        "utilisation": outcome.utilisation,
        "confirmed": outcome.confirmed,
        "trials": [
            {**trial._asdict(), "capacity": trial.capacity, "curve": {str(k): v for k, v in trial.curve.items()}}
            for trial in found.trials
        ],
    }

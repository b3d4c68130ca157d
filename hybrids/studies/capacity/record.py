"""What searches for a capacity have found: capacity.json, written and read, and the curves behind it."""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from hybrids.errors import UserError
from hybrids.studies.capacity.search import THRESHOLD, Capacity
from hybrids.studies.capacity.trials import Ceiling
from hybrids.training.files import write_file
from hybrids.triangle.bound import max_facts, min_state_bits
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


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one search found for one pattern."""

    search: str
    pattern: str
    runs: tuple[Path, ...]
    """Resolved folders of the trials."""
    rates: tuple[float, ...]
    """Tried on the first seed."""
    steps: int | None
    """Most steps of a trial."""
    facts: float | None
    """K*; None where no seed learned, or nothing was trained."""
    interval: tuple[float, float] | None
    coverage: float | None
    rate: float | None
    window: tuple[float, ...]
    window_decades: float | None
    num_seeds: int
    num_never_learned: int
    reasons: tuple[str, ...]
    """Why K* is a lower bound."""
    missing: tuple[str, ...]
    d_model: int
    parameters: int
    state_bits: int | None
    """After the last of K* facts."""
    bound: float | None
    """Most facts that this state can give back."""
    utilisation: float | None
    confirmed: int | None

    @property
    def is_lower_bound(self) -> bool:
        return bool(self.reasons)

    @property
    def breaks_law(self) -> bool:
        """Whether K* facts need more bits than the state has."""
        return self.utilisation is not None and self.utilisation > 1


def beside(folder: Path, runs: Iterable[Path]) -> list[Path]:
    """Records that may tell of these runs, or of this folder: <runs_dir>/capacity/*/capacity.json."""
    found = {path.resolve() for run in runs for path in run.resolve().parent.glob("capacity/*/capacity.json")}
    found |= {path.resolve() for path in (folder / "capacity.json", *folder.glob("capacity/*/capacity.json"))}
    return sorted(path for path in found if path.is_file())


def trial_folders(record: Path) -> list[Path]:
    """Run folders of all trials of a record, in its order; UserError for a damaged one."""
    return list(dict.fromkeys(run for found in read(record) for run in found.runs))


def read(record: Path) -> list[Found]:
    """What a search found, pattern by pattern; UserError for a damaged record or one of another version."""
    name = f"capacity/{record.parent.name}/{record.name}"
    try:
        content = json.loads(record.read_text())
        if content["version"] != VERSION:
            raise UserError(f"it has version {content['version']}, this hybrids reads version {VERSION}")
        return [_read(record, entry) for entry in content["patterns"]]
    except KeyError as error:
        raise UserError(f"{name} cannot be used: it has no {error}") from None
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{name} cannot be used: {error}; the same hybrids capacity command writes it again") from None


def _read(record: Path, entry: Mapping[str, Any]) -> Found:
    trials, at, interval = entry.get("trials", []), entry.get("at_capacity"), entry.get("interval")
    first = trials[0]["seed"] if trials else None
    runs_dir = record.resolve().parent.parent.parent  # trials name their runs from where the search was started
    low_high = None if interval is None else (float(interval[0]), float(interval[1]))
    return Found(
        search=record.parent.name,
        pattern=str(entry["pattern"]),
        runs=tuple((runs_dir / Path(trial["run"]).name).resolve() for trial in trials),
        rates=tuple(float(trial["rate"]) for trial in trials if trial["seed"] == first),
        steps=max((int(trial["steps"]) for trial in trials), default=None),
        facts=_number(entry.get("facts")),
        interval=low_high,
        coverage=_number(entry.get("coverage")),
        rate=_number(entry.get("rate")),
        window=tuple(map(float, entry.get("window", []))),
        window_decades=_number(entry.get("window_decades")),
        num_seeds=int(entry.get("num_seeds", 0)),
        num_never_learned=int(entry.get("num_never_learned", 0)),
        reasons=tuple(map(str, entry.get("reasons", []))),
        missing=tuple(map(str, entry["missing"])),
        d_model=int(entry["size"]["d_model"]),
        parameters=int(entry["size"]["params"]),
        state_bits=None if at is None else int(at["state_bits"]),
        bound=_number(entry.get("bound")),
        utilisation=_number(entry.get("utilisation")),
        confirmed=None if entry.get("confirmed") is None else int(entry["confirmed"]),
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)

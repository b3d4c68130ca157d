"""What searches for a capacity have found: capacity.json, written and read, and the curves behind it."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from hybrids.errors import UserError
from hybrids.studies.capacity.search import THRESHOLD, Capacity
from hybrids.studies.validation import explain_refusal
from hybrids.training.files import to_csv, write_file
from hybrids.training.identity import check_seal, seal
from hybrids.training.read import parse_json, read_json, read_text
from hybrids.triangle.bound import max_facts, min_state_bits
from hybrids.triangle.match import Size

VERSION = 1
"""Of capacity.json."""


class Ceiling(NamedTuple):
    """What examples of so many facts can show at most."""

    facts: int
    num_symbols: int
    state_bits: int
    """Of one sequence after the last fact and before any query, at the dtype stored."""
    utilisation: float
    """Share of the state that is used where every fact is recalled."""


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
    def law_broken(self) -> bool:
        """More facts than the state can hold: a leak in the task, or a state that is under-counted."""
        return self.utilisation is not None and self.utilisation > 1


def facts_asked(capacity: Capacity | None) -> int | None:
    """The found number of facts as examples can have it: rounded up."""
    return None if capacity is None or capacity.facts is None else math.ceil(capacity.facts)


_CURVE_COLUMNS = ("pattern", "rate", "seed", "facts", "accuracy", "steps", "run")


def _curve_rows(outcomes: Sequence[Outcome]) -> Iterator[Sequence[object]]:
    """One row per pattern, run and number of facts."""
    for outcome in outcomes:
        for trial in outcome.capacity.trials if outcome.capacity else ():
            for facts, accuracy in sorted(trial.curve.items()):
                yield (outcome.pattern, trial.rate, trial.seed, facts, accuracy, trial.steps, trial.run)


def write(folder: Path, outcomes: Sequence[Outcome], asked: dict[str, Any]) -> tuple[Path, Path]:
    """capacity.json with all that was `asked` and found, curves.csv with the curves behind it."""
    folder.mkdir(parents=True, exist_ok=True)
    record = seal({"version": VERSION, "asked": asked, "patterns": [_record(outcome) for outcome in outcomes]})
    paths = folder / "capacity.json", folder / "curves.csv"
    write_file(paths[0], json.dumps(record, indent=2) + "\n")
    write_file(paths[1], to_csv(_CURVE_COLUMNS, _curve_rows(outcomes)))
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


class FoundSize(TypedDict):
    """Of `Size`, what a reader of the record needs."""

    d_model: PositiveInt
    params: NonNegativeInt


class FoundState(TypedDict):
    """Of the state after the last of K* facts."""

    state_bits: NonNegativeInt


class FoundTrial(TypedDict):
    """Of `Trial`, what a reader of the record needs."""

    rate: PositiveFloat
    seed: NonNegativeInt
    steps: NonNegativeInt
    run: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one search found for one pattern, as recorded; no trials where the budget was spent before the first."""

    pattern: str
    size: FoundSize
    missing: tuple[str, ...]
    facts: NonNegativeFloat | None = None
    """K*; None where no seed learned, or nothing was trained."""
    interval: tuple[NonNegativeFloat, NonNegativeFloat] | None = None
    coverage: Annotated[float, Field(ge=0, le=1)] | None = None
    rate: PositiveFloat | None = None
    window: tuple[PositiveFloat, ...] = ()
    window_decades: NonNegativeFloat | None = None
    num_seeds: NonNegativeInt = 0
    num_never_learned: NonNegativeInt = 0
    reasons: tuple[str, ...] = ()
    """Why K* is a lower bound."""
    at_capacity: FoundState | None = None
    bound: NonNegativeFloat | None = None
    """Most facts that this state can give back."""
    utilisation: NonNegativeFloat | None = None
    confirmed: NonNegativeInt | None = None
    trials: tuple[FoundTrial, ...] = ()
    record: Path = Path("capacity.json")
    """The file that it was read from."""

    @property
    def search(self) -> str:
        return self.record.parent.name

    @cached_property
    def runs(self) -> tuple[Path, ...]:
        """Resolved folders of the trials, which name them from where the search was started."""
        runs_dir = self.record.resolve().parent.parent.parent
        return tuple((runs_dir / Path(trial["run"]).name).resolve() for trial in self.trials)

    @property
    def rates(self) -> list[float]:
        """Tried on the first seed."""
        return [trial["rate"] for trial in self.trials if trial["seed"] == self.trials[0]["seed"]]

    @property
    def state_bits(self) -> int | None:
        """Of the state after the last of K* facts."""
        return None if self.at_capacity is None else self.at_capacity["state_bits"]

    @property
    def is_lower_bound(self) -> bool:
        return bool(self.reasons)

    @property
    def law_broken(self) -> bool:
        """Whether K* facts need more bits than the state has."""
        return self.utilisation is not None and self.utilisation > 1


class Record(TypedDict):
    """What a reader of capacity.json needs of it."""

    version: Literal[1]  # VERSION
    patterns: list[Found]


def beside(folder: Path, runs: Iterable[Path]) -> list[Path]:
    """Records that may tell of these runs, or of this folder: <runs_dir>/capacity/*/capacity.json."""
    found = {path.resolve() for run in runs for path in run.resolve().parent.glob("capacity/*/capacity.json")}
    found |= {path.resolve() for path in (folder / "capacity.json", *folder.glob("capacity/*/capacity.json"))}
    return sorted(path for path in found if path.is_file())


def trial_folders(record: Path) -> list[Path]:
    """Run folders of all trials of a record, in its order; UserError for a damaged one."""
    return list(dict.fromkeys(run for found in read(record) for run in found.runs))


def asks_for(folder: Path, patterns: Sequence[str], asked: Mapping[str, Any]) -> bool:
    """Whether a record is there that was asked for the same; its runs are compared where they are read."""
    try:
        record = read_json(folder / "capacity.json")
    except UserError:
        return False
    match record:
        case {"asked": {"rates": list(rates), "seeds": seeds, "max_facts": max_facts}, "patterns": list(found)}:
            same = (sorted(set(rates)), seeds, max_facts)
            names = [one.get("pattern") for one in found if isinstance(one, Mapping)]
            return names == list(patterns) and same == (sorted(set(asked["rates"])), asked["seeds"], asked["max_facts"])
    return False


def read(record: Path) -> list[Found]:
    """What a search found, pattern by pattern; UserError for a damaged record or one of another version."""
    try:
        text = read_text(record)
        check_seal(parse_json(text), "it")  # measured before it is checked
        content = TypeAdapter(Record).validate_json(text, strict=True)
    except (ValidationError, UserError) as error:
        why = explain_refusal(error) if isinstance(error, ValidationError) else str(error)
        name = f"capacity/{record.parent.name}/{record.name}"
        raise UserError(f"{name} cannot be used: {why}; the same hybrids capacity command writes it again") from None
    return [replace(found, record=record) for found in content["patterns"]]

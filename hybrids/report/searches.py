"""The capacity searches whose runs a report shows, as their records say: capacity.json of `hybrids capacity`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrids.report.capacity import VERSION


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
    """Run folders of all trials of a record, in its order; ValueError for a damaged one."""
    return list(dict.fromkeys(run for found in read(record) for run in found.runs))


def read(record: Path) -> list[Found]:
    """What a search found, pattern by pattern; ValueError for a damaged record or one of another version."""
    name = f"capacity/{record.parent.name}/{record.name}"
    try:
        content = json.loads(record.read_text())
        if content["version"] != VERSION:
            raise ValueError(f"it has version {content['version']}, this hybrids reads version {VERSION}")
        return [_read(record, entry) for entry in content["patterns"]]
    except KeyError as error:
        raise ValueError(f"{name} cannot be used: it has no {error}") from None
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise ValueError(f"{name} cannot be used: {error}; the same hybrids capacity command writes it again") from None


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

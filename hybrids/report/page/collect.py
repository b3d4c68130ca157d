"""The runs in a folder, for a report on them, and what is not there with the reason."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from hybrids.errors import UserError, printable
from hybrids.pattern import Pattern
from hybrids.registry import get
from hybrids.report.page.usable import Optim, check_usable
from hybrids.studies.capacity.record import Found, beside, read, trial_folders
from hybrids.studies.effective_bits.record import read_rounded
from hybrids.studies.effective_bits.rounded import OUTDATED, Rounded
from hybrids.studies.validation import explain_refusal
from hybrids.training.read import read_json
from hybrids.training.record import Result, RunFolder
from hybrids.triangle.place import Place


class Cell(TypedDict):
    """What a sweep notes of a cell, in cell.json."""

    overrides: list[str]
    folder: str | None
    error: str | None


class Settings(TypedDict):
    """Of config.yaml, what a report needs beside the identity."""

    optim: NotRequired[Optim]


_CELL, _SETTINGS = TypeAdapter(Cell), TypeAdapter(Settings)


def held_bits(place: Place) -> int:
    """Bits of the state that the facts were read through."""
    return place["state_bits"] if place["facts_state_bits"] is None else place["facts_state_bits"]


def law_broken(place: Place) -> bool:
    """Whether more was recalled, beyond doubt, than the state holds: as recorded, or by the recorded numbers."""
    return place["law_broken"] or (place["surely"] is not None and place["surely"] > held_bits(place))


@dataclass(frozen=True)
class ReportedRun:
    """A finished run as a report needs it."""

    name: str
    path: Path
    pattern: Pattern
    config: Mapping[str, Any]
    """config.yaml; empty where it is lost."""
    result: Result
    rounded: Rounded | None = None
    """What `hybrids bits` measured; None where it has not, or its file is damaged."""

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.result["identity"]

    @property
    def places(self) -> list[Place]:
        """By context; none in results before there were any."""
        return sorted(self.result.get("triangle") or (), key=lambda place: place["context"])

    @property
    def seed(self) -> int:
        return self.identity["seed"]

    @property
    def rate(self) -> float | None:
        """Learning rate; None where config.yaml is lost and the rate was the default."""
        return self.identity["optim"].get("lr", self.config.get("optim", {}).get("lr"))


@dataclass(frozen=True)
class Missing:
    """A run, or a file of what was measured on runs, that the report cannot show."""

    name: str
    reason: str


@dataclass(frozen=True)
class Collection:
    """What a folder holds."""

    folder: Path
    runs: tuple[ReportedRun, ...]
    missing: tuple[Missing, ...]
    searches: tuple[Found, ...] = ()
    """What searches for a capacity found, pattern by pattern, where a trial of theirs is among the runs."""


def facts_slice(runs: Iterable[ReportedRun]) -> str | None:
    """The slice of the scores that counts facts, as the tasks of the runs say; None where they do not, or differ."""
    slices = set()
    for name in {run.identity["task"]["name"] for run in runs}:
        try:
            slices.add(get("task", name).cls.facts_slice)
        except UserError:  # a plugin that is not installed here
            slices.add(None)
    return slices.pop() if len(slices) == 1 else None


def collect(folder: Path) -> Collection:
    """The runs of a sweep (`*/cell.json`) or of a capacity search (`capacity.json`), or the run folders inside
    `folder`; what cannot be read is listed.

    Raises UserError where there is no folder, or nothing in it is a run.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give one that holds runs: runs/sweeps/<date> or runs")
    runs: dict[Path, ReportedRun] = {}
    missing: list[Missing] = []
    for name, place in _find(folder):
        if isinstance(place, Missing):
            missing.append(place)
            continue
        known = runs.get(place.resolve())
        if known is not None:
            missing.append(Missing(name, f"the same run as {known.name}, shown once"))
            continue
        run = _read(name, place)
        if isinstance(run, Missing):
            missing.append(run)
        else:
            runs[place.resolve()] = run
    if not runs and not missing:
        raise UserError(f"{folder} holds no runs: neither */cell.json of a sweep nor */result.json{_nearby(folder)}")
    single = _one_of_each(list(runs.values()), missing)
    shown = _of_one_method([_add_rounded(run, missing) for run in single], missing)
    found = tuple(_find_searches(folder, shown, missing))
    told = [Missing(printable(one.name), printable(one.reason, 400)) for one in missing]
    return Collection(folder, tuple(replace(run, name=printable(run.name)) for run in shown), tuple(told), found)


def _one_of_each(runs: Sequence[ReportedRun], missing: list[Missing]) -> list[ReportedRun]:
    """Of runs with one identity, the one that counts: it bears its own name, or is the first; the rest is `missing`."""
    groups: dict[str, list[ReportedRun]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run.identity, sort_keys=True), []).append(run)
    chosen = []
    for group in groups.values():
        counts = next((run for run in group if run.path.name == run.result.get("id")), group[0])
        chosen.append(counts)
        for run in group:
            if run is not counts:
                is_copy = run.result == counts.result
                what = "a copy of" if is_copy else "another training of the settings and the seed of"
                missing.append(Missing(run.name, f"{what} {counts.name}, which is shown"))
    return chosen


def _find(folder: Path) -> Iterator[tuple[str, Path | Missing]]:
    """What stands for a run in `folder`: its run folder, or why it has none."""
    if (folder / "capacity.json").exists():
        for run in trial_folders(folder / "capacity.json"):
            yield run.name, run if run.is_dir() else Missing(run.name, f"its folder {run} is gone")
        return
    inside = sorted(
        (path for path in folder.iterdir() if path.is_dir()),
        key=lambda path: (int(path.name), "") if path.name.isdecimal() else (10**9, path.name),  # cells by number
    )
    is_sweep = any((path / "cell.json").exists() for path in inside)
    for path in inside:
        if (path / "cell.json").exists():
            yield _open_cell(folder, path / "cell.json")
        elif (path / "result.json").exists() or (path / "config.yaml").exists():
            is_old = "~" in path.name and (path.parent / path.name.rpartition("~")[0]).is_dir()
            yield path.name, Missing(path.name, "set aside by rerun=true; the newer run counts") if is_old else path
        elif is_sweep and path.name.isdecimal():
            yield path.name, Missing(f"cell {path.name}", "not finished: it has no cell.json")


def read_cell(file: Path) -> Cell:
    """What a sweep has noted of a cell; UserError for a damaged file."""
    try:
        return _CELL.validate_python(read_json(file))
    except ValidationError as error:
        raise UserError(f"{file.name} is damaged: {explain_refusal(error)}") from None
    except UserError as error:
        raise UserError(f"{file.name} is damaged: {error}") from None


def _open_cell(sweep: Path, file: Path) -> tuple[str, Path | Missing]:
    name = f"cell {file.parent.name}"
    try:
        cell = read_cell(file)
    except UserError as error:
        return name, Missing(name, str(error))
    name = f"{name}: {' '.join(cell['overrides'])}"
    if cell["folder"] is None:
        return name, Missing(name, f"failed: {cell['error']}")
    given = Path(cell["folder"])
    # a relative folder counts from where the sweep was started, which is the working folder or above the sweep
    for start in (Path(), *sweep.resolve().parents):
        if (start / given).is_dir():
            return str(given), start / given
    return name, Missing(name, f"its folder {given} is gone")


def _read(name: str, path: Path) -> ReportedRun | Missing:
    try:
        result = RunFolder(path).read_result()
        if result is None:
            return Missing(name, "not finished: it has no result.json")
        check_usable(result)
        return ReportedRun(name, path, Pattern.parse(result["identity"]["pattern"]), _settings(path), result)
    except (UserError, OSError) as error:
        return Missing(name, f"result.json cannot be used: {str(error).replace(str(path) + '/', '')}")


def _add_rounded(run: ReportedRun, missing: list[Missing]) -> ReportedRun:
    """The run with its effective bits; without them where their file is damaged, which is `missing` then."""
    try:
        return replace(run, rounded=read_rounded(run.path))
    except UserError as error:
        missing.append(Missing(f"{run.name}, effective bits", str(error)))
        return run


def _of_one_method(runs: list[ReportedRun], missing: list[Missing]) -> list[ReportedRun]:
    """The runs, without effective bits of an earlier rounding where others have those of the present one."""
    measured = [run.rounded.is_outdated for run in runs if run.rounded is not None]
    if all(measured) or not any(measured):
        return runs
    kept = []
    for run in runs:
        if run.rounded is not None and run.rounded.is_outdated:
            reason = f"not comparable: rounded {OUTDATED}; hybrids bits measures it again"
            missing.append(Missing(f"{run.name}, effective bits", reason))
        kept.append(replace(run, rounded=None) if run.rounded and run.rounded.is_outdated else run)
    return kept


def _find_searches(folder: Path, runs: list[ReportedRun], missing: list[Missing]) -> Iterator[Found]:
    """What was found from these runs; records that cannot be read, or were never written, are `missing`.

    A run is shared by all searches that ask for it, and its group is that of the first: so the records say which runs
    are theirs, and the group only which record should be there.
    """
    known, records = {run.path.resolve() for run in runs}, beside(folder, [run.path for run in runs])
    for record in records:
        try:
            found = read(record)
        except UserError as error:
            missing.append(Missing(record.parent.name, str(error)))
            continue
        if any(known & set(one.runs) for one in found):
            yield from (one for one in found if known & set(one.runs) or not one.runs)
    groups = {str((run.config.get("logger") or {}).get("group")) for run in runs}
    for group in sorted(groups - {f"capacity-{record.parent.name}" for record in records}):
        if group.startswith("capacity-"):
            reason = "the search has no capacity.json: it was stopped; the same hybrids capacity command goes on"
            missing.append(Missing(group.removeprefix("capacity-"), reason))


def _settings(path: Path) -> dict[str, Any]:
    """config.yaml; a damaged one costs only the settings that stand at their default."""
    try:
        config = RunFolder(path).read_config()
        _SETTINGS.validate_python(config, strict=True)
        return config
    except (ValueError, OSError):
        return {}


def _nearby(folder: Path) -> str:
    """Folders inside that do hold runs."""
    patterns = [f"{depth}/{name}" for depth in ("*/*", "*/*/*") for name in ("cell.json", "result.json")]
    inside = sorted({str(file.parent.parent) for pattern in patterns for file in folder.glob(pattern)})
    return f"; folders with runs: {', '.join(inside[:5])}{', ...' if len(inside) > 5 else ''}" if inside else ""

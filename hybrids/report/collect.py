"""The runs in a folder, for a report on them, and what is not there with the reason."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrids.pattern import Pattern
from hybrids.record import RunFolder

_NOT_FINISHED = "not finished: it has no result.json"


@dataclass(frozen=True)
class Place:
    """An entry of `triangle` in a result: a model at one context."""

    context: int
    state_bits: int
    step_flops: int
    step_bytes: int
    efficiency: float
    compactness: float
    recall: float | None
    recalled_bits: float | None
    recalled_low: float | None
    recalled_high: float | None
    surely: float | None
    offered_bits: float | None
    facts_state_bits: int | None
    law_broken: bool

    @property
    def held_bits(self) -> int:
        """Bits of the state that the facts were read through."""
        return self.state_bits if self.facts_state_bits is None else self.facts_state_bits

    @property
    def breaks_law(self) -> bool:
        """Whether more was recalled, beyond doubt, than the state holds: as recorded, or by the recorded numbers."""
        return self.law_broken or (self.surely is not None and self.surely > self.held_bits)


@dataclass(frozen=True)
class ReportedRun:
    """A finished run as a report needs it."""

    name: str
    pattern: Pattern
    config: Mapping[str, Any]
    """config.yaml; empty where it is lost."""
    result: Mapping[str, Any]
    places: tuple[Place, ...]

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.result["identity"]

    @property
    def seed(self) -> int:
        return self.identity["seed"]

    @property
    def rate(self) -> float | None:
        """Learning rate; None where config.yaml is lost and the rate was the default."""
        return self.identity["optim"].get("lr", self.config.get("optim", {}).get("lr"))


@dataclass(frozen=True)
class Missing:
    """A run that the report cannot show."""

    name: str
    reason: str


@dataclass(frozen=True)
class Collection:
    """What a folder holds."""

    folder: Path
    runs: tuple[ReportedRun, ...]
    missing: tuple[Missing, ...]


def collect(folder: Path) -> Collection:
    """The runs of a sweep (`*/cell.json`), or the run folders inside `folder`; what cannot be read is listed.

    Raises ValueError where there is no folder, or nothing in it is a run.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give one that holds runs: runs/sweeps/<date> or runs")
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
        raise ValueError(f"{folder} holds no runs: neither */cell.json of a sweep nor */result.json{_nearby(folder)}")
    return Collection(folder, tuple(runs.values()), tuple(missing))


def _find(folder: Path) -> Iterator[tuple[str, Path | Missing]]:
    """What stands for a run in `folder`: its run folder, or why it has none."""
    inside = sorted((path for path in folder.iterdir() if path.is_dir()), key=_order)
    is_sweep = any((path / "cell.json").exists() for path in inside)
    for path in inside:
        if (path / "cell.json").exists():
            yield _open_cell(folder, path / "cell.json")
        elif (path / "result.json").exists() or (path / "config.yaml").exists():
            is_old = "~" in path.name and (path.parent / path.name.rpartition("~")[0]).is_dir()
            yield path.name, Missing(path.name, "set aside by rerun=true; the newer run counts") if is_old else path
        elif is_sweep and path.name.isdigit():
            yield path.name, Missing(f"cell {path.name}", "not finished: it has no cell.json")


def _order(path: Path) -> tuple[int, str]:
    """Cells by number, then the rest by name."""
    return (int(path.name), "") if path.name.isdigit() else (10**9, path.name)


def _open_cell(sweep: Path, file: Path) -> tuple[str, Path | Missing]:
    name = f"cell {file.parent.name}"
    try:
        cell = json.loads(file.read_text())
        name = f"{name}: {' '.join(cell['overrides'])}"
        if cell["folder"] is None:
            return name, Missing(name, f"failed: {cell['error']}")
        given = Path(cell["folder"])
    except (ValueError, KeyError, TypeError) as error:
        return name, Missing(name, f"cell.json is damaged ({error})")
    # a relative folder counts from where the sweep was started, which is the working folder or above the sweep
    for start in (Path(), *sweep.resolve().parents):
        if (start / given).is_dir():
            return str(given), start / given
    return name, Missing(name, f"its folder {given} is gone")


def _read(name: str, path: Path) -> ReportedRun | Missing:
    try:
        result = RunFolder(path).read_result()
        if result is None:
            return Missing(name, _NOT_FINISHED)
        return _check(ReportedRun(name, Pattern.parse(result["identity"]["pattern"]), _settings(path), result, ()))
    except KeyError as error:
        return Missing(name, f"result.json cannot be used: it has no {error}")
    except (ValueError, TypeError, AttributeError, OSError) as error:
        return Missing(name, f"result.json cannot be used: {str(error).replace(str(path) + '/', '')}")


def _settings(path: Path) -> dict[str, Any]:
    """config.yaml; a damaged one costs only the settings that stand at their default."""
    try:
        return RunFolder(path).read_config()
    except (ValueError, OSError):
        return {}


def _check(run: ReportedRun) -> ReportedRun:
    """The run with its places read; KeyError, TypeError or ValueError where a number that every report needs is not
    one."""
    result = run.result
    for key in ("context", "state_bits", "step_flops", "step_bytes", "steps", "seconds", "chance_accuracy"):
        _number(result[key], key)
    for key in ("total", "backbone"):
        _number(result["parameters"][key], f"parameters.{key}")
    for scores in (result["val"], result["test"]):
        _optional(scores["accuracy"], "accuracy")
    for mapping in (run.identity["letters"], run.identity["task"], result["code"], result["hardware"], run.config):
        dict(mapping)
    _number(run.seed, "seed")
    _optional(run.rate, "optim.lr")
    places = tuple(sorted(map(_place, result.get("triangle") or ()), key=lambda place: place.context))
    return ReportedRun(run.name, run.pattern, run.config, result, places)


def _place(entry: Mapping[str, Any]) -> Place:
    held = _optional(entry.get("facts_state_bits"), "facts_state_bits")
    return Place(
        context=int(_number(entry["context"], "context")),
        state_bits=int(_number(entry["state_bits"], "state_bits")),
        step_flops=int(_number(entry["step_flops"], "step_flops")),
        step_bytes=int(_number(entry["step_bytes"], "step_bytes")),
        efficiency=_number(entry["efficiency"], "efficiency"),
        compactness=_number(entry["compactness"], "compactness"),
        recall=_optional(entry.get("recall"), "recall"),
        recalled_bits=_optional(entry.get("recalled_bits"), "recalled_bits"),
        recalled_low=_optional(entry.get("recalled_low"), "recalled_low"),
        recalled_high=_optional(entry.get("recalled_high"), "recalled_high"),
        surely=_optional(entry.get("surely"), "surely"),
        offered_bits=_optional(entry.get("offered_bits"), "offered_bits"),
        facts_state_bits=None if held is None else int(held),
        law_broken=bool(entry.get("law_broken")),
    )


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{key} is {value!r}, not a number")
    return float(value)


def _optional(value: Any, key: str) -> float | None:
    return None if value is None else _number(value, key)


def _nearby(folder: Path) -> str:
    """Folders inside that do hold runs."""
    patterns = [f"{depth}/{name}" for depth in ("*/*", "*/*/*") for name in ("cell.json", "result.json")]
    inside = sorted({str(file.parent.parent) for pattern in patterns for file in folder.glob(pattern)})
    return f"; folders with runs: {', '.join(inside[:5])}{', ...' if len(inside) > 5 else ''}" if inside else ""

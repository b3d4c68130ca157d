"""The command `bits`: how many bits of a trained model's state matter."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from hybrids.cli.programs import COMMANDS, run_program
from hybrids.config.build import open_run
from hybrids.errors import UserError, suggest
from hybrids.report.page.collect import collect
from hybrids.report.terminal import effective_bits as bits
from hybrids.report.terminal.tables import print_rows
from hybrids.studies.effective_bits.measure import Rounded, measure_rounded, read_levels
from hybrids.studies.effective_bits.record import FILE, write_rounded
from hybrids.training.record import RunFolder
from hybrids.training.run import Run
from hybrids.triangle.quantise import BITS
from hybrids.triangle.recall import check_has_bits

USAGE = f"""
  hybrids bits runs/<id> ...     runs, or folders of runs (runs, runs/sweeps/<date>)
  levels={",".join(map(str, BITS))}   bits per element to round the state to, 1 to 24
  num_examples=512       test examples, the first of those of the run
  batch_size=64
  accelerator=cpu        or gpu
  backend=               of all ops; without it that of the run
  threads=               of the CPU
Each finished run is measured at its training context: its state after the last fact and before any query is rounded,
every tensor of it to 2**bits evenly spaced levels. The step between the levels is fixed on validation examples, so it
is a part of the reader and carries no fact of the test examples. Written into each run: {FILE} and a PNG beside it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to measure."""

    levels: tuple[int, ...] = BITS
    num_examples: int = 512
    batch_size: int = 64
    accelerator: str = "cpu"
    backend: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        read_levels(self.levels)


class Candidate(NamedTuple):
    """A run that can be measured."""

    run: Run
    folder: RunFolder
    is_named: bool
    """Asked for by itself, so that it is an error where it cannot be measured."""


def run_bits() -> int:
    """`hybrids bits`. Exit code."""
    return run_program(_bits, "bits")


def _bits() -> None:
    arguments = sys.argv[1:]
    if not arguments or {"-h", "--help"} & set(arguments):
        print(f"{COMMANDS['bits']}\n{USAGE}")
        sys.exit(0 if arguments else 2)
    options, paths = read_options(arguments)
    candidates, unused = _find(paths)
    measured = []
    for number, candidate in enumerate(candidates, start=1):
        path = candidate.folder.path
        try:
            rounded = measure_rounded(candidate.run, candidate.folder, **vars(options))
        except UserError as error:
            if candidate.is_named:
                raise
            unused.append(f"{path}: {error}")
            continue
        _write(rounded, path)
        measured.append((path, rounded))
        if len(candidates) > 1:
            print(f"{number} of {len(candidates)}: {path / FILE} and .png beside it")
    if not measured:
        raise UserError(f"no run of {', '.join(map(str, paths))} could be measured; the last: {unused[-1]}")
    for reason in unused:
        print(f"not measured: {reason}")
    _print(measured)


def read_options(arguments: Sequence[str]) -> tuple[Options, list[Path]]:
    """Options, and folders; UserError for an option that cannot be."""
    names, given, paths = [field.name for field in fields(Options)], {}, []
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if argument.startswith("-") or (equals and name not in names and not Path(argument).exists()):
            raise UserError(f"unknown option {argument!r}; {suggest(name.lstrip('-'), names)}")
        if equals and name in names:
            given[name] = _read(name, text)
        else:
            paths.append(Path(argument))
    if not paths:
        raise UserError("no run is named; give folders of runs: hybrids bits runs/<id>")
    return Options(**given), paths


def _read(name: str, text: str) -> Any:
    if name in ("accelerator", "backend"):
        return text
    try:
        return tuple(int(part) for part in text.strip("[]").split(",")) if name == "levels" else int(text)
    except ValueError:
        what = f"whole numbers, as in {','.join(map(str, BITS[-3:]))}" if name == "levels" else "a whole number"
        raise UserError(f"{name}={text} is not {what}") from None


def _find(paths: Sequence[Path]) -> tuple[list[Candidate], list[str]]:
    """The runs asked for, each once, and why others in a folder cannot be measured.

    Raises UserError for a run that is named and cannot be, and where no run of a folder can.
    """
    found: dict[Path, Candidate] = {}
    unused: list[str] = []
    for path in paths:
        if not path.is_dir() or (path / "config.yaml").exists():
            found.setdefault(path.resolve(), Candidate(*_open(path), is_named=True))
            continue
        collection = collect(path)
        unused += [f"{one.name}: {one.reason}" for one in collection.missing]
        for run in collection.runs:
            try:
                found.setdefault(run.path.resolve(), Candidate(*_open(run.path), is_named=False))
            except UserError as error:
                unused.append(f"{run.name}: {error}")
    if not found:
        raise UserError(f"no run of {', '.join(map(str, paths))} can be measured; the first: {unused[0]}")
    return list(found.values()), unused


def _open(path: Path) -> tuple[Run, RunFolder]:
    """A finished run whose task has bits; UserError for another."""
    run, folder = open_run(path)
    if folder.read_result() is None:
        raise UserError(f"run={path} has not finished: it has no result.json; the same hybrids train goes on")
    try:
        check_has_bits(run.task.build())
    except UserError as error:
        raise UserError(f"run={path}: {error}") from None
    return run, folder


def _write(rounded: Rounded, run: Path) -> None:
    file = run / FILE
    file.parent.mkdir(exist_ok=True)
    write_rounded(rounded, file)
    bits.draw_rounded(rounded, file.with_suffix(".png"), title=run.resolve().name)


def _print(measured: Sequence[tuple[Path, Rounded]]) -> None:
    """The table of one run, or a line for each of several; exit code 1 where one breaks the law."""
    if len(measured) == 1:
        path, rounded = measured[0]
        title = f"recall of {path} at {rounded.context} tokens, {rounded.num_examples} examples"
        print_rows(title, bits.COLUMNS, bits.table_rows(rounded))
        print(bits.sentence(rounded))
        print(f"table and picture: {path / FILE}, {(path / FILE).with_suffix('.png')}")
    else:
        rows = [bits.summary_row(str(path), rounded) for path, rounded in measured]
        print_rows(
            "effective bits: the smallest state that keeps 99 % of the recalled bits", bits.SUMMARY_COLUMNS, rows
        )
    broken = [f"{path}: {told}" for path, rounded in measured for told in rounded.alarms]
    for told in broken:
        print(f"error: the law r <= s is broken: {told}", file=sys.stderr)
    if broken:
        sys.exit(1)

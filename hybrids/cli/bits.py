"""The command `bits`: how many bits of a trained model's state matter."""

import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from omegaconf import DictConfig, OmegaConf

from hybrids.cli.programs import HYDRA, reported, run_program
from hybrids.config.build import open_run
from hybrids.config.compose import spell_flags, spell_list, split_places
from hybrids.config.quoting import quote
from hybrids.config.schema import BitsConfig
from hybrids.errors import UserError, printable
from hybrids.report.page.collect import collect
from hybrids.report.terminal import effective_bits as report
from hybrids.report.terminal.table import print_rows
from hybrids.studies.effective_bits.record import FILE, write_rounded
from hybrids.studies.effective_bits.rounded import Rounded
from hybrids.training.files import obstacle_to_writing
from hybrids.training.record import RunFolder
from hybrids.training.run import Run
from hybrids.triangle.recall import check_has_bits


class Candidate(NamedTuple):
    """A run that can be measured."""

    run: Run
    folder: RunFolder
    is_named: bool
    """Asked for by itself, so that it is an error where it cannot be measured."""


def run_bits() -> int:
    """`hybrids bits`, with folders and settings in any order. Exit code."""
    return run_program(_bits, "bits", spell=spell_arguments)


def spell_arguments(arguments: Sequence[str]) -> list[str]:
    """The command line as Hydra takes it: the folders as the list `runs`."""
    paths, settings = split_places(arguments, [field.name for field in fields(BitsConfig)])
    runs = [f"runs=[{','.join(map(quote, paths))}]"] if paths else []
    return [*runs, *spell_list(spell_flags(settings), "levels")]


@hydra.main(**HYDRA, config_name="bits")
@reported
def _bits(config: DictConfig) -> None:
    settings: Any = OmegaConf.to_object(config)
    if not settings.runs:
        raise UserError("no run is named; give folders of runs: hybrids bits runs/<id>")
    candidates, unused = _find([Path(path) for path in settings.runs])
    measured = []
    obstacles = {one.folder.path: obstacle_to_writing((one.folder.path / FILE).parent) for one in candidates}
    for obstacle in filter(None, obstacles.values()):
        print(f"{obstacle}: what is measured is printed and not kept", file=sys.stderr)
    from hybrids.studies.effective_bits.measure import measure_rounded  # and with it Lightning, once a run is found

    for number, candidate in enumerate(candidates, start=1):
        path = candidate.folder.path
        try:
            rounded = measure_rounded(candidate.run, candidate.folder, settings)
        except UserError as error:
            if candidate.is_named:
                raise
            unused.append(f"{path}: {error}")
            continue
        measured.append((path, rounded))
        if obstacles[path]:
            continue
        _keep(rounded, path / FILE, title=printable(path.resolve().name))
        if len(candidates) > 1:
            print(f"{number} of {len(candidates)}: {path / FILE} and .png beside it")
    if not measured:
        raise UserError(f"no run of {', '.join(settings.runs)} could be measured; the last: {unused[-1]}")
    for reason in unused:
        print(f"not measured: {reason}")
    _print(measured)


def _keep(rounded: Rounded, path: Path, title: str) -> None:
    path.parent.mkdir(exist_ok=True)
    write_rounded(rounded, path)
    from hybrids.report.terminal.effective_bits_figure import draw_rounded  # matplotlib, once there is a picture

    draw_rounded(rounded, path.with_suffix(".png"), title=title)


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
        try:
            collection = collect(path)
        except UserError as error:
            if len(paths) == 1:
                raise
            unused.append(str(error))  # as of runs/report, where the user has typed runs/*
            continue
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
    folder.require_result()
    try:
        check_has_bits(run.task.build())
    except UserError as error:
        raise UserError(f"run={path}: {error}") from None
    return run, folder


def _print(measured: Sequence[tuple[Path, Rounded]]) -> None:
    """The table of one run, or a line for each of several; exit code 1 where one breaks the law."""
    if len(measured) == 1:
        path, rounded = measured[0]
        title = f"recall of {path} at {rounded.context} tokens, {rounded.num_examples} examples"
        print_rows(title, report.COLUMNS, report.table_rows(rounded))
        print(report.sentence(rounded))
        if (path / FILE).exists():
            print(f"table and picture: {path / FILE}, {(path / FILE).with_suffix('.png')}")
    else:
        rows = [report.summary_row(str(path), rounded) for path, rounded in measured]
        title = "effective bits: the smallest state that keeps 99 % of the recalled bits"
        print_rows(title, report.SUMMARY_COLUMNS, rows)
    broken = [f"{path}: {told}" for path, rounded in measured for told in rounded.alarms]
    for told in broken:
        print(f"error: the law r <= s is broken: {told}", file=sys.stderr)
    if broken:
        sys.exit(1)

"""The file metrics.csv of a run, `step,metric,value`: read, and cut back to where a run goes on."""

import csv
import os
from collections.abc import Iterator
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from hybrids.errors import UserError, printable
from hybrids.training.files import write_file
from hybrids.training.read import read_text

MOST_BYTES = 2**31
"""Of metrics.csv: some 60 million rows."""
HEADER = ("step", "metric", "value")


def read_metrics(path: Path) -> dict[str, dict[int, float]]:
    """Metrics of a run by name and step; where a step stands there twice, the last value. UserError where damaged.

    Runs of earlier versions that were interrupted have steps twice, and may have rows that a kill has cut.
    """
    metrics: dict[str, dict[int, float]] = {}
    for step, name, value in _rows(path):
        if value:
            try:
                metrics.setdefault(name, {})[int(step)] = float(value)
            except ValueError as error:
                raise UserError(f"{path} is damaged: {error}") from None
    return metrics


def read_rows(path: Path) -> dict[int, dict[str, float]]:
    """The same by step and name; none where the run has not started."""
    rows: dict[int, dict[str, float]] = {}
    for name, values in read_metrics(path).items() if path.exists() else ():
        for step, value in values.items():
            rows.setdefault(step, {})[name] = value
    return rows


def drop_metrics(path: Path, steps: int) -> None:
    """Remove what a run writes again when it goes on after `steps` steps, doubles, and a row that a kill has cut.

    A row has the number of steps done before it, so those of the last step before a checkpoint have `steps` - 1.
    """
    if not path.exists():
        return
    text = StringIO(newline="")
    rows = (row for row in _rows(path) if row[2] and row[0].isdecimal() and int(row[0]) < steps)
    kept = {(step, name): value for step, name, value in rows}  # the last value, as `read_metrics` takes it
    csv.writer(text).writerows([HEADER, *((*key, value) for key, value in kept.items())])
    if text.getvalue().encode() != path.read_bytes():
        write_file(path, text.getvalue())


def count_rows(path: Path) -> int:
    """Rows below the header, 0 without a file; UserError as of `read_metrics`."""
    return sum(1 for _ in _rows(path)) if path.exists() else 0


class Start(NamedTuple):
    """A metrics.csv as far as it was written at some time."""

    bytes: int
    sha256: str


def describe_start(path: Path) -> Start:
    """The file as far as it is written, once that is on the disk."""
    with path.open("rb") as file:
        content = file.read()
        os.fsync(file.fileno())
    return Start(len(content), sha256(content).hexdigest())


def check_start(path: Path, start: Start) -> None:
    """UserError unless the file begins with what was described."""
    content = path.read_bytes()[: start.bytes] if path.is_file() else b""
    if sha256(content).hexdigest() != start.sha256:
        what = "has lost rows" if len(content) < start.bytes else "was changed"
        raise UserError(f"{path} {what} since the last checkpoint was saved; rerun=true starts afresh")


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """Rows as they stand there, each of three texts; a last one without its end was cut, its value perhaps too.

    Raises UserError for a file that is no such table.
    """
    try:
        text = read_text(path, MOST_BYTES)
        lines = csv.reader(StringIO(text[: text.rfind("\n") + 1], newline=""))
        if (header := next(lines, None)) is not None and tuple(header) != HEADER:
            raise UserError(f"it begins with {printable(','.join(header))}")
        for line in lines:
            step, name, value = [*line, "", "", ""][:3]
            yield step, name, value
    except (UserError, csv.Error) as error:
        raise UserError(f"{path} is damaged: {error}") from None

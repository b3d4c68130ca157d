"""Any table of a command: as wide as the terminal, or whole for a pipe, or as CSV or JSON."""

import csv
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from shutil import get_terminal_size
from textwrap import fill
from typing import IO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hybrids.errors import UserError, check_choice

FORMATS = ("text", "csv", "json")

_PIPE_WIDTH = 240
_LONGEST_WORD = 16
"""Of a column of text that is made narrow: longer words are cut in two."""
_NUMBER = re.compile(r"[-+.,\dexnaif%]*")


@dataclass
class Output:
    """How tables are printed."""

    format: str = "text"
    is_wide: bool = False
    is_explained: bool = False
    stream: IO[str] | None = None
    """Where tables go that are not text; all else that a command prints then goes to stderr."""


OUTPUT = Output()


def take_flags(arguments: Sequence[str]) -> list[str]:
    """The arguments without `--wide`, `--explain`, `--format=`, which every table heeds.

    UserError for an unknown format.
    """
    OUTPUT.format, OUTPUT.is_wide, OUTPUT.is_explained, OUTPUT.stream = "text", False, False, None
    kept = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if argument == "--wide":
            OUTPUT.is_wide = True
        elif argument == "--explain":
            OUTPUT.is_explained = True
        elif name == "--format":
            if not value:
                raise UserError(f"--format is to be written --format=<format>; allowed: {', '.join(FORMATS)}")
            check_choice("--format", value, FORMATS)
            OUTPUT.format = value
        else:
            kept.append(argument)
    return kept


@contextmanager
def apart_from_tables() -> Iterator[None]:
    """Within it, what is no table goes to stderr where tables are to be read by a program."""
    OUTPUT.stream = sys.stdout
    try:
        with redirect_stdout(sys.stdout if OUTPUT.format == "text" else sys.stderr):
            yield
    finally:
        OUTPUT.stream = None


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table; columns of numbers stand to the right, and no number is broken.

    On a terminal at its width: words are wrapped, then columns are left out from the right, which is said. Into a file
    or a pipe it is wide enough to be searched line by line. As CSV it has a head, as JSON it is one object on a line.
    """
    assert len(set(columns)) == len(columns), f"a program could not tell columns apart: {columns}"
    stream = OUTPUT.stream or sys.stdout
    texts = [[str(cell) for cell in row] for row in rows]
    if OUTPUT.format == "csv":
        csv.writer(stream, lineterminator="\n").writerows([columns, *texts])
    elif OUTPUT.format == "json":
        records = [dict(zip(columns, map(_value, row), strict=True)) for row in texts]
        print(json.dumps({"title": title, "rows": records}), file=stream)
    else:
        _print_text(title, columns, texts)


def print_meanings(meanings: Mapping[str, str]) -> None:
    """What the heads of a table mean, where `--explain` asks for it."""
    if OUTPUT.is_explained:
        for word, meaning in meanings.items():
            print(fill(f"{word}: {meaning}", get_terminal_size().columns, subsequent_indent="  "))


def _print_text(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    cells = [[column, *(row[i] for row in rows)] for i, column in enumerate(columns)]
    is_numeric = [all(map(_NUMBER.fullmatch, texts[1:])) for texts in cells]
    least = [_least_width(texts, is_numeric=numeric) for texts, numeric in zip(cells, is_numeric, strict=True)]
    whole = [max(map(len, texts)) for texts in cells]
    shown = len(columns)
    while not OUTPUT.is_wide and shown > 1 and sum(least[:shown]) + 3 * shown + 1 > console.width:
        shown -= 1
    if OUTPUT.is_wide:
        console.width = max(console.width, sum(whole) + 3 * shown + 1)
    widths = _share_out(console.width - 3 * shown - 1, least[:shown], whole[:shown])
    table = Table(title=escape(title), title_justify="left")
    for column, numeric, width in zip(columns, is_numeric, widths, strict=False):
        table.add_column(escape(column), justify="right" if numeric else "left", overflow="fold", width=width)
    for row in rows:
        table.add_row(*map(escape, row[:shown]))
    console.print(table, soft_wrap=OUTPUT.is_wide)
    if shown < len(columns):
        print(f"left out for want of width: {', '.join(columns[shown:])} (--wide shows all)")


def _share_out(width: int, least: Sequence[int], whole: Sequence[int]) -> list[int]:
    """A width for each column: what it needs, and of what is left what it lacks, the narrowest lack first."""
    widths, left = list(least), width - sum(least)
    lacks = sorted((most - few, i) for i, (few, most) in enumerate(zip(least, whole, strict=True)) if most > few)
    for place, (lack, i) in enumerate(lacks):
        given = max(0, min(lack, left // (len(lacks) - place)))
        widths[i] += given
        left -= given
    return widths


def _least_width(texts: Sequence[str], *, is_numeric: bool) -> int:
    """Of the longest word; a number is not broken, a long word of a text is cut."""
    head, *cells = texts
    title = max(map(len, head.split()), default=0)
    if is_numeric:
        return max(title, *map(len, cells), 0)
    return max(title, min(_LONGEST_WORD, max((len(word) for cell in cells for word in cell.split()), default=0)))


def _value(text: str) -> object:
    """A number where it is one."""
    plain = text.replace(",", "")
    try:
        return int(plain)
    except ValueError:
        try:
            return float(plain)
        except ValueError:
            return text

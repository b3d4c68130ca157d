"""Tables for the terminal."""

import re
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hybrids.record import Result

_FILE_WIDTH = 240


def print_result(result: Result, folder: str) -> None:
    """The numbers of one finished run."""
    table = _table(f"run {result['id']}", ["measure", "value"], numeric=[False, False])
    test = result["test"]
    table.add_row("test accuracy", f"{test['accuracy']:.4f}  (chance {result['chance_accuracy']:.1g})")
    table.add_row("test exact match", f"{test['exact_match']:.4f}")
    for name, value in test.items():
        if name.startswith("accuracy/"):
            table.add_row(f"  {name.removeprefix('accuracy/')}", f"{value:.4f}")
    parameters = result["parameters"]
    table.add_row("parameters", f"{parameters['total']:,}  (backbone {parameters['backbone']:,})")
    table.add_row(f"state after {result['context']} tokens", f"{result['state_bits']:,} bits")
    table.add_row("one decode step", f"{result['step_flops']:,} FLOPs  (+ {result['head_flops']:,} for the head)")
    table.add_row(
        "training", f"{result['steps']:,} steps, {result['examples']:,} examples, stopped at {result['stopped']}"
    )
    table.add_row("time", f"{result['seconds']:.1f} s")
    shared = ", ".join(f"{split} {share:.2%}" for split, share in result["overlap"].items())
    table.add_row("examples also in training", shared)
    table.add_row("folder", escape(folder))
    _print(table)


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Any table; columns of numbers stand to the right."""
    table = _table(title, columns, numeric=[all(_is_number(row[i]) for row in rows) for i in range(len(columns))])
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    _print(table)


def _table(title: str, columns: Sequence[str], numeric: Sequence[bool]) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for column, is_right in zip(columns, numeric, strict=True):
        table.add_column(column, justify="right" if is_right else "left", overflow="fold")
    return table


def _is_number(cell: object) -> bool:
    return bool(re.fullmatch(r"[-+.,\dexn]*", str(cell)))


def _print(table: Table) -> None:
    """On a terminal at its width; into a file or a pipe wide enough to be searched line by line."""
    Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(table)

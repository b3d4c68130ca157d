"""`hybrids atlas`: published architectures, and where their formulas place them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hybrids.errors import UserError, check_number
from hybrids.report.terminal.table import print_rows
from hybrids.training.files import write_file
from hybrids.triangle.atlas import CONTEXT, FAMILIES

if TYPE_CHECKING:
    from hybrids.report.terminal.atlas import AtlasRow

MAX_CONTEXT = 10**12
"""Longer ones take minutes to place."""

WRITE = "hybrids atlas --write docs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", help="names, or parts of names; one alone is shown in full")
    parser.add_argument("--class", dest="label", default="", help="only what has exactly these: EC, R, ER, none, ...")
    parser.add_argument("--family", choices=FAMILIES, default="", help="only this family")
    parser.add_argument("--context", type=int, default=CONTEXT, help="n at which E and C are placed")
    parser.add_argument("--measure", action="store_true", help="run those that can be run, beside their formulas")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="everything as JSON")
    output.add_argument("--csv", action="store_true", help="everything as CSV")
    output.add_argument("--write", type=Path, metavar="FOLDER", help="atlas.md and atlas.png into this folder")


def run(args: argparse.Namespace) -> int:
    """Print, or write, the architectures asked for. Exit code."""
    check_number("context", args.context, 1, MAX_CONTEXT)
    from hybrids.report.terminal import atlas  # sympy: half a second that the other commands need not wait

    found = atlas.select(args.name, args.label, args.family)
    if not found:
        raise UserError("no architecture is of that name, class and family; hybrids atlas lists all")
    is_whole = args.json or args.csv or args.write is not None
    rows = atlas.make_rows(found, args.context, is_measured=args.measure or is_whole)
    if args.json:
        print(atlas.to_json(rows))
    elif args.csv:
        print(atlas.to_csv(rows), end="")
    elif args.write is not None:
        _write(rows, args.write)
    elif len(rows) == 1:
        (row,) = rows
        print_rows(f"{row.architecture.title}: {row.properties.label}", ["property", "value"], atlas.describe(row))
    else:
        title = f"{len(rows)} architectures, placed at n = {args.context:,}"
        print_rows(title, atlas.COLUMNS, atlas.table_rows(rows))
        print(f"{atlas.EXPLANATION} hybrids atlas <name> shows formulas, reasons and what is missing here.")
    return 0


def _write(rows: list["AtlasRow"], folder: Path) -> None:
    from hybrids.report.terminal import atlas
    from hybrids.report.terminal.atlas_figure import draw_atlas

    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "atlas.md", atlas.page(rows, WRITE, "atlas.png"))
    draw_atlas(rows, folder / "atlas.png")
    print(f"{len(rows)} architectures: {folder / 'atlas.md'}, {folder / 'atlas.png'}")

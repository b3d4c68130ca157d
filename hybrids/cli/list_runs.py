"""The command `runs`: what is finished in a folder, filtered and sorted."""

import argparse
from pathlib import Path

from hybrids.config.schema import store_schemas
from hybrids.report.page.collect import collect
from hybrids.report.terminal.runs import COLUMNS, cells, choose, summarise
from hybrids.report.terminal.table import print_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("filters", nargs="*", metavar="column=value", help="only runs with it, such as pattern=LLLA")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="runs, runs/sweeps/<date>, ... (runs)")
    parser.add_argument("--sort", default="accuracy", metavar="COLUMN", help=f"one of {', '.join(COLUMNS)}")


def run(args: argparse.Namespace) -> int:
    """List them, and how many are not finished or cannot be used. Exit code."""
    store_schemas()
    found = collect(args.folder)
    rows = choose(map(summarise, found.runs), args.filters, args.sort)
    print_rows(f"{len(rows)} of {len(found.runs)} finished runs in {args.folder}", COLUMNS, list(map(cells, rows)))
    for one in found.missing:
        print(f"not shown: {one.name}: {one.reason}")
    return 0

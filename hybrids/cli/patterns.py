"""The command `patterns`: the layers of a pattern, and its spelling in other notations."""

import argparse

from hybrids import notation
from hybrids.pattern import Pattern
from hybrids.report.terminal.table import print_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", help="such as LLLAx2; with --from, the text in that notation")
    parser.add_argument("--from", dest="source", metavar="NOTATION", help=", ".join(notation.PARSERS))


def run(args: argparse.Namespace) -> int:
    if args.source:
        converted = notation.parse_notation(args.source, args.pattern)
        pattern = converted.pattern
        for note in converted.notes:
            print(f"note: {note}")
    else:
        pattern = Pattern.parse(args.pattern)
    print_rows(
        f"pattern {pattern.compact()}", ["layer", "letters"], [[i, str(p)] for i, p in enumerate(pattern.layers)]
    )
    print_rows("in other notations", ["notation", "spelling"], notation.describe(pattern))
    return 0

"""The command `plugins`: what is registered, and from where."""

import argparse
import sys

from hybrids import outline, registry
from hybrids.report.terminal.table import print_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="import every plugin, and say which cannot be used")


def run(args: argparse.Namespace) -> int:
    """List them as their sources announce them, which takes no import; exit code 1 where one cannot be used."""
    if not args.check:
        found = outline.read_plugins()
        print_rows("plugins", ["kind", "name", "class", "source"], found)
        print(f"looked for in: {'; '.join(outline.places())} (entry points of the group {registry.GROUP})")
        return 0
    from hybrids.config.schema import store_schemas

    store_schemas()  # finds the plugins whose settings no configuration can hold
    rows = [[entry.kind, entry.name, entry.origin, entry.source] for entry in registry.entries()]
    print_rows("plugins that can be used", ["kind", "name", "class", "source"], rows)
    for failure in registry.failures():
        print(f"cannot be imported: {failure}", file=sys.stderr)
    return 1 if registry.failures() else 0

"""The command `plugins`: what is registered, and from where."""

import argparse
import sys

from hybrids import outline, registry
from hybrids.errors import UserError
from hybrids.plugin_files import load_files, take_files
from hybrids.report.terminal.table import print_rows

_COLUMNS = ("kind", "name", "class", "source")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="plugins=<file.py>", help="those in files too, which are imported")
    parser.add_argument("--check", action="store_true", help="import every plugin, and say which cannot be used")


def run(args: argparse.Namespace) -> int:
    """List them, exit code 1 where one cannot be used; without a file as their sources announce them, which takes no
    import."""
    paths, others = take_files(args.files)
    if others:
        raise UserError(f"{others[0]!r} is no argument of hybrids plugins; allowed: plugins=<file.py>, --check")
    if args.check or paths:
        load_files(paths)
        return _list_usable()
    print_rows("plugins", _COLUMNS, outline.read_plugins())
    _say_where()
    return 0


def _list_usable() -> int:
    from hybrids.config.schema import store_schemas

    store_schemas()  # finds the plugins whose settings no configuration can hold
    rows = [[entry.kind, entry.name, entry.origin, entry.source] for entry in registry.entries()]
    print_rows("plugins that can be used", _COLUMNS, rows)
    _say_where()
    for failure in registry.failures():
        print(f"cannot be imported: {failure}", file=sys.stderr)
    return 1 if registry.failures() else 0


def _say_where() -> None:
    files = [f"{file.given} (SHA-256 {file.sha256})" for file in registry.files()]
    print(f"looked for in: {'; '.join(outline.places())} (entry points of the group {registry.GROUP})")
    print(f"and in files given with plugins=<file.py>: {'; '.join(files) or 'none'}")

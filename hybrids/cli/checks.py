"""The command `check`: the conformance checks on a plugin."""

import argparse

from hybrids import registry
from hybrids.checks import run_checks
from hybrids.errors import UserError
from hybrids.plugin_files import load_files, take_files
from hybrids.report.terminal.table import print_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plugin", nargs="+", help="mixer=<name>, channel=<name> or task=<name>")
    parser.epilog = "plugins=<file.py> beside it: where the plugin is in a file, and not installed"


def run(args: argparse.Namespace) -> int:
    paths, named = take_files(args.plugin)
    allowed = ", ".join(f"{kind}=<name>" for kind in registry.KINDS)
    if len(named) != 1:
        raise UserError(f"hybrids check takes one plugin, not {len(named)}; write one of {allowed}")
    kind, equals, name = named[0].partition("=")
    if not equals:
        raise UserError(f"{named[0]!r} names no plugin; write {allowed}")
    load_files(paths)
    results = run_checks(kind, name)
    print_rows(f"checks of {named[0]}", ["check", "result"], [[r.check, r.message or "passed"] for r in results])
    return 0 if all(result.passed for result in results) else 1

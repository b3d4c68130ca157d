"""The command `check`: the conformance checks on a plugin."""

import argparse

from hybrids import registry
from hybrids.checks import run_checks
from hybrids.errors import UserError
from hybrids.report.terminal.table import print_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plugin", help="mixer=<name>, channel=<name> or task=<name>")


def run(args: argparse.Namespace) -> int:
    kind, equals, name = args.plugin.partition("=")
    if not equals:
        raise UserError(f"{args.plugin!r} names no plugin; write {', '.join(f'{k}=<name>' for k in registry.KINDS)}")
    results = run_checks(kind, name)
    print_rows(f"checks of {args.plugin}", ["check", "result"], [[r.check, r.message or "passed"] for r in results])
    return 0 if all(result.passed for result in results) else 1

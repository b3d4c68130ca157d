"""Commands that show what is there: plugins, tasks, patterns, backends."""

import argparse
import json
import sys

from hybrids import notation, registry
from hybrids.checks import run_checks
from hybrids.cli.programs import COMMANDS, run_program
from hybrids.config.compose import compose
from hybrids.config.schema import store_schemas
from hybrids.doctor import examine
from hybrids.errors import UserError
from hybrids.pattern import Pattern
from hybrids.report.terminal import examples
from hybrids.report.terminal.tables import print_rows
from hybrids.training.memory import check_length


def run_task() -> int:
    """`hybrids task`: examples of a task, and what it states. Exit code."""
    return run_program(_show_task, "task", spell=list)


def _show_task() -> None:
    args = examples.read_arguments(sys.argv[1:], COMMANDS["task"])
    settings = [f"task.{setting.removeprefix('task.')}" for setting in args.settings]
    chosen = compose([f"task={args.task}", *settings]).task
    check_length(chosen, args.count, "--count")
    task = chosen.build()
    examples.show(task, args)


def show_plugins(args: argparse.Namespace) -> int:
    store_schemas()  # finds the plugins whose settings no configuration can hold
    rows = [[entry.kind, entry.name, entry.origin, entry.source] for entry in registry.entries()]
    print_rows("plugins", ["kind", "name", "class", "source"], rows)
    for failure in registry.failures():
        print(f"cannot be imported: {failure}", file=sys.stderr)
    return 1 if registry.failures() else 0


def show_doctor(args: argparse.Namespace) -> int:
    store_schemas()  # finds the plugins whose settings no configuration can hold
    diagnosis = examine()
    if args.json:
        print(json.dumps(diagnosis, indent=2))
        return 1 if diagnosis["failed_plugins"] else 0
    versions = [[name, found or "not installed"] for name, found in diagnosis["versions"].items()]
    print_rows("versions", ["", "version"], versions)
    print_rows("devices", ["device"], [[device] for device in diagnosis["devices"]])
    columns = ["op", "backend", "usable", "why", "what would make it so"]
    rows = [
        [row["op"], row["backend"], "yes" if row["usable"] else "no", row["why"], "; ".join(row["commands"])]
        for row in diagnosis["backends"]
    ]
    print_rows("backends", columns, rows)
    for failure in diagnosis["failed_plugins"]:
        print(f"plugin cannot be used: {failure}", file=sys.stderr)
    return 1 if diagnosis["failed_plugins"] else 0


def show_pattern(args: argparse.Namespace) -> int:
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


def check_plugin(args: argparse.Namespace) -> int:
    kind, equals, name = args.plugin.partition("=")
    if not equals:
        raise UserError(f"{args.plugin!r} names no plugin; write {', '.join(f'{k}=<name>' for k in registry.KINDS)}")
    results = run_checks(kind, name)
    print_rows(f"checks of {args.plugin}", ["check", "result"], [[r.check, r.message or "passed"] for r in results])
    return 0 if all(result.passed for result in results) else 1

"""The command `doctor`: what runs on this machine."""

import argparse
import json
import sys

from hybrids.config.schema import store_schemas
from hybrids.doctor import examine
from hybrids.report.terminal.table import print_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def run(args: argparse.Namespace) -> int:
    store_schemas()  # finds the plugins whose settings no configuration can hold
    diagnosis = examine()
    if args.json:
        print(json.dumps(diagnosis, indent=2))
        return 1 if diagnosis["failed_plugins"] else 0
    versions = [[name, found or "not installed"] for name, found in diagnosis["versions"].items()]
    print_rows("versions", ["package", "version"], versions)
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

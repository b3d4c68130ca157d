"""The command `hybrids report`."""

import argparse
import importlib.util
import re
import sys
from pathlib import Path

from hybrids.errors import UserError

_NEEDED = ("plotly", "jinja2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="runs/sweeps/<date>, or any folder that holds run folders")
    parser.add_argument("--letter", default="A", help="the letter whose number and place are compared (A)")
    parser.add_argument(
        "--facts", default=None, help="the slice of the scores that counts facts (what the tasks of the runs say)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the page; exit code 1 where a result breaks the law, and where no run could be used."""
    absent = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        raise UserError(f"hybrids report needs {' and '.join(absent)}: pip install 'hybrids[report]'")
    if not re.fullmatch("[A-Z]", args.letter):
        raise UserError(f"--letter={args.letter} is no letter of a pattern; allowed: one of A-Z")
    if not args.folder:
        raise UserError("the folder is empty; give a folder that holds runs: hybrids report runs/sweeps/<date>")
    from hybrids.report.page.collect import collect
    from hybrids.report.page.page import write_report  # an extra, which other commands do without

    report = write_report(collect(Path(args.folder)), letter=args.letter, facts=args.facts)
    for sentence in report.set_aside:
        print(sentence)
    for one in report.missing:
        print(f"not shown: {one.name}: {one.reason}")
    print(f"{report.num_runs} runs shown, {len(report.missing)} not: {report.page}")
    for sentence in report.alarms:
        print(f"error: the law r <= s is broken: {sentence}", file=sys.stderr)
    if report.num_runs == 0:
        print(f"error: no run in {args.folder} can be used", file=sys.stderr)
    return 1 if report.alarms or report.num_runs == 0 else 0

"""The command `compare`: two runs beside each other."""

import argparse
from pathlib import Path

from hybrids.config.build import open_run
from hybrids.config.schema import store_schemas
from hybrids.errors import UserError, check_number
from hybrids.report.page.collect import ReportedRun
from hybrids.report.terminal.comparison import explain, print_numbers, print_settings
from hybrids.training.record import RunFolder
from hybrids.training.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", type=Path, help="folder of a finished run")
    parser.add_argument("second", metavar="B", type=Path, help="folder of another one")
    parser.add_argument("--examples", type=int, default=None, help="test examples (as many as the runs were tested on)")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu", help="where the models answer (cpu)")


def run(args: argparse.Namespace) -> int:
    """Print what differs in settings, and every number of both. Exit code."""
    if args.first.resolve() == args.second.resolve():
        raise UserError(f"{args.first} and {args.second} are one run; give the folders of two")
    if args.examples is not None:
        check_number("--examples", args.examples, 2)
    store_schemas()
    opened = [_open(path) for path in (args.first, args.second)]
    for name, (_, folder, _) in zip("AB", opened, strict=True):
        print(f"{name}: {folder.path}")
    reported = [one for _, _, one in opened]
    print_settings(*reported)
    from hybrids.studies.paired import compare  # and with it Lightning, once there are two runs
    from hybrids.training.process import silence_foreign_messages

    silence_foreign_messages()
    first, second = ((run, folder) for run, folder, _ in opened)
    pair = compare(first, second, num_examples=args.examples, accelerator=args.accelerator)
    print_numbers(pair)
    print(explain(pair))
    return 0


def _open(path: Path) -> tuple[Run, RunFolder, ReportedRun]:
    run, folder = open_run(path)
    result = folder.read_result()
    if result is None:
        raise UserError(f"{path} has not finished: it has no result.json; the same hybrids train goes on")
    return run, folder, ReportedRun(str(path), path, run.pattern, folder.read_config(), result)

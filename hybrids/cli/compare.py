"""The command `compare`: two runs beside each other."""

import argparse
from pathlib import Path

from hybrids.config.build import open_run
from hybrids.config.schema import store_schemas
from hybrids.errors import UserError, check_number
from hybrids.plugin_files import load_files, take_files
from hybrids.report.page.collect import ReportedRun
from hybrids.report.terminal.comparison import explain, print_numbers, print_settings
from hybrids.training.record import RunFolder
from hybrids.training.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="A B", nargs="+", help="folders of two finished runs")
    parser.add_argument("--examples", type=int, default=None, help="test examples (as many as the runs were tested on)")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu", help="where the models answer (cpu)")
    parser.epilog = "plugins=<file.py> beside them: where a run was made with a plugin in a file"


def run(args: argparse.Namespace) -> int:
    """Print what differs in settings, and every number of both. Exit code."""
    files, named = take_files(args.runs)
    if len(named) != 2:
        raise UserError(f"hybrids compare takes the folders of two runs, not {len(named)}; of more: hybrids report")
    first, second = map(Path, named)
    if first.resolve() == second.resolve():
        raise UserError(f"{first} and {second} are one run; give the folders of two")
    if args.examples is not None:
        check_number("--examples", args.examples, 2)
    load_files(files)
    store_schemas()
    opened = [_open(path) for path in (first, second)]
    for name, (_, folder, _) in zip("AB", opened, strict=True):
        print(f"{name}: {folder.path}")
    reported = [one for _, _, one in opened]
    print_settings(*reported)
    from hybrids.studies.paired import compare  # and with it Lightning, once there are two runs
    from hybrids.training.process import silence_foreign_messages

    silence_foreign_messages()
    pair = compare(*(one[:2] for one in opened), num_examples=args.examples, accelerator=args.accelerator)
    print_numbers(pair)
    print(explain(pair))
    return 0


def _open(path: Path) -> tuple[Run, RunFolder, ReportedRun]:
    run, folder = open_run(path)
    result = folder.require_result()
    return run, folder, ReportedRun(str(path), path, run.pattern, folder.read_config(), result)

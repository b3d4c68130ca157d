"""The command `hybrids`, and what train.py and eval.py run."""

import argparse
import sys

from hybrids.cli import atlas
from hybrids.cli.bits import run_bits
from hybrids.cli.capacity import run_capacity
from hybrids.cli.dashboard import run_dashboard
from hybrids.cli.programs import COMMANDS, print_anywhere, report
from hybrids.cli.reports import show_report
from hybrids.cli.runs import run_eval, run_train
from hybrids.cli.shows import check_plugin, run_task, show_doctor, show_pattern, show_plugins
from hybrids.cli.stacks import run_state, run_triangle
from hybrids.config.explain import USER_ERRORS
from hybrids.errors import UserError, suggest
from hybrids.notation import PARSERS

__all__ = ["main", "run_eval", "run_train"]


def main() -> int:
    """The console command; Hydra parses the arguments of the commands named here, argparse those of the others."""
    programs = {
        "train": run_train,
        "eval": run_eval,
        "state": run_state,
        "triangle": run_triangle,
        "task": run_task,
        "capacity": run_capacity,
        "bits": run_bits,
        "dashboard": run_dashboard,
    }
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in programs:
        return programs[command]()
    try:
        if command and not command.startswith("-") and command not in COMMANDS:
            raise UserError(f"unknown command {command!r}; {suggest(command, COMMANDS)}")
        print_anywhere()
        args = _parser().parse_args()
        return args.run(args)
    except USER_ERRORS as error:
        return report(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hybrids", description="Train, evaluate and inspect hybrid stacks.")
    parser.set_defaults(run=lambda args: parser.print_help() or 2)
    commands = parser.add_subparsers(metavar="command")
    add = {name: commands.add_parser(name, help=text, description=text) for name, text in COMMANDS.items()}
    add["plugins"].set_defaults(run=show_plugins)
    add["doctor"].add_argument("--json", action="store_true", help="the same as JSON")
    add["doctor"].set_defaults(run=show_doctor)
    patterns = add["patterns"]
    patterns.add_argument("pattern", help="such as LLLAx2; with --from, the text in that notation")
    patterns.add_argument("--from", dest="source", metavar="NOTATION", help=", ".join(PARSERS))
    patterns.set_defaults(run=show_pattern)
    add["report"].add_argument("folder", help="runs/sweeps/<date>, or any folder that holds run folders")
    add["report"].add_argument("--letter", default="A", help="the letter whose number and place are compared (A)")
    add["report"].add_argument(
        "--facts", default=None, help="the slice of the scores that counts facts (what the tasks of the runs say)"
    )
    add["report"].set_defaults(run=show_report)
    add["check"].add_argument("plugin", help="mixer=<name>, channel=<name> or task=<name>")
    add["check"].set_defaults(run=check_plugin)
    atlas.add_arguments(add["atlas"])
    return parser

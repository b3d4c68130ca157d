"""The command `hybrids`, and what train.py and eval.py run.

Nothing heavy is imported before it is known what is asked: torch alone takes longer than most answers.
"""

import argparse
import gc
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from types import ModuleType

import hybrids
from hybrids.cli.commands import COMMANDS, introduce
from hybrids.errors import UserError, suggest
from hybrids.report.terminal.table import apart_from_tables, take_flags

INTERRUPTED = 130
"""Exit code after Ctrl-C, as of a shell."""

_UNREAD = 141
"""Exit code where who reads the output has stopped (`hybrids plugins | head`), as of a shell."""


def main() -> int:
    """The console command; Hydra parses the arguments of some commands, argparse those of the others."""
    return run_command(sys.argv[1] if len(sys.argv) > 1 else "")


def run_train() -> int:
    """train.py. Exit code."""
    return run_command("train")


def run_eval() -> int:
    """eval.py. Exit code."""
    return run_command("eval")


def run_command(name: str) -> int:
    """Run a command; whatever ends it is at most a line on stderr, but a defect has its traceback. Exit code."""
    print_anywhere()
    typed = list(sys.argv)
    gc.disable()  # nothing that is imported or composed is garbage: a tenth of the time until the command begins
    try:
        sys.argv[1:] = take_flags(typed[1:])
        with apart_from_tables():
            code = _run(name)
        sys.stdout.flush()
        return code
    except UserError as error:
        return complain(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains as it ends
        return _UNREAD
    except SystemExit as end:  # of argparse, which has said what there is to say
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        print(f"hybrids {name} was interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        gc.enable()
        take_flags([])
        sys.argv[:] = typed


def _run(name: str) -> int:
    if name in COMMANDS:
        command = COMMANDS[name]
        module = import_module(f"hybrids.cli.{command.module}")
        is_parsed_here = hasattr(module, "add_arguments")
        return _parse_and_run(name, module) if is_parsed_here else getattr(module, command.function)()
    if name and not name.startswith("-"):
        return complain(UserError(f"unknown command {name!r}; {suggest(name, COMMANDS)}"))
    parser = argparse.ArgumentParser(
        prog="hybrids",
        description="Train, evaluate and inspect hybrid stacks.",
        epilog="hybrids <command> --help shows its settings and examples. "
        "Every table takes --wide, --explain and --format=csv|json.",
    )
    parser.add_argument("--version", action="version", version=f"hybrids {hybrids.__version__}")
    commands = parser.add_subparsers(metavar="command")
    for known, command in COMMANDS.items():
        commands.add_parser(known, help=command.text)
    parser.parse_args()
    parser.print_help()
    return 2


def _parse_and_run(name: str, module: ModuleType) -> int:
    parser = argparse.ArgumentParser(
        prog=f"hybrids {name}",
        description=introduce(name) if {"-h", "--help"} & set(sys.argv) else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    args = parser.parse_args(sys.argv[2:])
    try:
        return module.run(args)
    except (UserError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        return complain(error)


def complain(error: Exception) -> int:
    """Say in one line what its user can mend; with HYBRIDS_TRACEBACK=1 the traceback. Exit code."""
    if isinstance(error, UserError) and os.environ.get("HYBRIDS_TRACEBACK") != "1":
        print(f"error: {error}", file=sys.stderr)
        return 1
    from hybrids.cli.programs import report

    return report(error)


def print_anywhere() -> None:
    """Let a terminal that lacks a character, as under LC_ALL=C, show a question mark for it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="replace")

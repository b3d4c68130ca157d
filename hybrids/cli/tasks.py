"""The command `task`: examples of a task, and what it states."""

import json
import sys
from shutil import get_terminal_size
from textwrap import fill

from hybrids import outline, registry
from hybrids.cli.commands import introduce
from hybrids.plugin_files import load_files, take_files
from hybrids.report.terminal.example_arguments import make_parser, read_arguments


def run_task() -> int:
    """`hybrids task`. Exit code."""
    arguments = sys.argv[2:]
    if {"-h", "--help"} & set(arguments):
        return _help([argument for argument in arguments if not argument.startswith("-")])
    from hybrids.cli.programs import run_program  # and with it torch, for which help need not wait

    return run_program(_show_task, "task", spell=list)


def _help(named: list[str]) -> int:
    """The arguments, and the names of all tasks or the settings of one."""
    paths, named = take_files(named)
    make_parser(introduce("task")).print_help()
    load_files(paths)
    if not named:
        known = registry.names("task") if paths else outline.names("task")
        told = f"tasks: {', '.join(known)}; hybrids task <name> --help shows the settings of one"
        print(f"\n{fill(told, get_terminal_size().columns)}")
        return 0
    entry = registry.get("task", named[0])
    print(f"\nsettings of {entry.name} ({entry.source}):")
    for name, value in registry.defaults_of(entry.cls).items():
        print(f"  {name}={value if isinstance(value, str) else json.dumps(value)}")
    return 0


def _show_task() -> None:
    from hybrids.config.compose import compose
    from hybrids.report.terminal import examples
    from hybrids.training.memory import check_length

    args = read_arguments(take_files(sys.argv[1:])[1])
    settings = [f"task.{setting.removeprefix('task.')}" for setting in args.settings]
    chosen = compose([f"task={args.task}", *settings]).task
    check_length(chosen, args.count, "--count")
    task = chosen.build()
    examples.show(task, args)

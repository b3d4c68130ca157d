"""The arguments of `hybrids task`, apart from what shows it: help need not wait for torch."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from hybrids.errors import UserError, suggest

SPLITS = ("train", "val", "test")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see hybrids task --help")


def make_parser(description: str = "") -> argparse.ArgumentParser:
    parser = _Parser(prog="hybrids task", description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="its name")
    parser.add_argument("settings", nargs="*", metavar="setting=value", help="as in task.setting=value of a run")
    parser.add_argument("--split", default="train", help=f"one of {', '.join(SPLITS)}")
    parser.add_argument("--seed", type=int, default=0, help="data.seed of a run")
    parser.add_argument("--index", type=int, default=0, help="number of the first example")
    parser.add_argument("--count", type=int, default=3, help="how many")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    return parser


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Arguments of `hybrids task`; UserError for a wrong one."""
    args = make_parser().parse_intermixed_args(arguments)
    if args.split not in SPLITS:
        raise UserError(f"unknown split {args.split!r}; {suggest(args.split, SPLITS)}")
    for name, least in (("seed", 0), ("index", 0), ("count", 1)):
        if getattr(args, name) < least:
            raise UserError(f"--{name}={getattr(args, name)} must be at least {least}")
    return args

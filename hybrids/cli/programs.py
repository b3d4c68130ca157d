"""How a command that takes Hydra's arguments is run, and how its errors are said."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from io import TextIOWrapper

from omegaconf import DictConfig

from hybrids.config.compose import spell_flags, spell_overrides
from hybrids.config.explain import USER_ERRORS, explain
from hybrids.config.schema import store_schemas
from hybrids.errors import UserError
from hybrids.training.logs import silence_foreign_messages
from hybrids.training.memory import told_in_a_sentence

HYDRA = {"version_base": "1.3", "config_path": "pkg://hybrids_conf"}

_WANTS_TRACEBACK = "HYBRIDS_TRACEBACK"
"""Environment variable: 1 shows the traceback of every error."""

_SWEEP = re.compile(r"(-m|--multirun)$|\+*hydra\.mode=.*MULTIRUN")

_given: list[str] = []
"""The command line as it was typed, while Hydra sees its own part of it."""

COMMANDS = {
    "train": "train a run: hybrids train arch=hybrid pattern=LLLA (Hydra arguments; -m sweeps)",
    "eval": "evaluate a run: hybrids eval run=runs/<id> (Hydra arguments)",
    "state": "what each layer carries and costs per step: hybrids state pattern=LLLA context=1024 (Hydra arguments)",
    "triangle": "Efficiency, Compactness and how they come about: hybrids triangle pattern=LLLA context=1024 (Hydra)",
    "task": "decoded examples of a task, chance, bits and sizes: hybrids task <name> <setting>=<value>",
    "capacity": "how many facts a pattern learns to recall: hybrids capacity pattern=LLLA rates=1e-3,1e-2 (Hydra)",
    "bits": "how many bits of a trained state matter: hybrids bits runs/<id> levels=16,8,4",
    "report": "a page with the figures of a folder of runs: hybrids report runs/sweeps/<date>",
    "dashboard": "a W&B workspace and report on a sweep: hybrids dashboard runs/sweeps/<date>, or project=.. group=..",
    "doctor": "what runs on this machine: each op and backend, why not, and the command that would make it so",
    "plugins": "list what is registered, and from where",
    "patterns": "show a pattern's layers, and convert it to and from other notations",
    "atlas": "published architectures and what their formulas imply: hybrids atlas, hybrids atlas jamba, or --class EC",
    "check": "run the conformance checks on a plugin",
}


def reported(job: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """End the program where a job fails by its user's fault: Hydra would print a line of its own before ours."""

    @wraps(job)
    def run(config: DictConfig) -> None:
        if _given:
            sys.argv = list(_given)  # Lightning starts further ranks with it
        try:
            with told_in_a_sentence():
                job(config)
        except USER_ERRORS as error:
            sys.exit(report(error))

    return run


Spelling = Callable[[Sequence[str]], list[str]]
"""From arguments as they are typed to arguments as Hydra takes them."""


def run_program(program: Callable[[], None], name: str, *, spell: Spelling = spell_flags) -> int:
    """Run a Hydra program; what its user can mend is one line on stderr and exit code 1, the rest a traceback.

    `spell` is what this command alone spells in another way than Hydra.
    """
    silence_foreign_messages()
    print_anywhere()
    os.environ["PYTHONSAFEPATH"] = "1"  # a process that is started here imports nothing from the user's folder
    try:
        store_schemas()
        with _hydra_arguments(name, spell), told_in_a_sentence():
            program()
    except USER_ERRORS as error:
        return report(error)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def report(error: BaseException) -> int:
    if os.environ.get(_WANTS_TRACEBACK) == "1":
        raise error
    print(f"error: {explain(error)}", file=sys.stderr)
    return 1


def print_anywhere() -> None:
    """Let a terminal that lacks a character, as under LC_ALL=C, show a question mark for it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="replace")


@contextmanager
def _hydra_arguments(name: str, spell: Spelling) -> Iterator[None]:
    """Give Hydra its part of the command line, and its errors to us."""
    _given[:] = sys.argv
    full_error = os.environ.get("HYDRA_FULL_ERROR", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or Hydra prints errors itself and exits
    try:
        typed = sys.argv[2 if sys.argv[1:2] == [name] else 1 :]
        if name != "train" and any(_SWEEP.match(text) for text in typed):
            raise UserError(f"-m sweeps over runs; only hybrids train does that, not hybrids {name}")
        sys.argv = [sys.argv[0], *spell_overrides(spell(typed))]
        yield
    finally:
        sys.argv = list(_given)
        os.environ["HYDRA_FULL_ERROR"] = full_error

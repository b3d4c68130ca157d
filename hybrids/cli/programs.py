"""How a command that takes Hydra's arguments is run, and how its errors are said."""

import gc
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps

from omegaconf import DictConfig

from hybrids.cli.help import show_help
from hybrids.config.compose import spell_flags, spell_overrides
from hybrids.config.explain import explain, user_errors
from hybrids.config.schema import store_schemas
from hybrids.errors import UserError
from hybrids.plugin_files import load_files, take_files
from hybrids.training.memory import told_in_a_sentence
from hybrids.training.process import silence_foreign_messages

HYDRA = {"version_base": "1.3", "config_path": "pkg://hybrids_conf"}

_WANTS_TRACEBACK = "HYBRIDS_TRACEBACK"
"""Environment variable: 1 shows the traceback of every error."""

_SWEEP = re.compile(r"(-m|--multirun)$|\+*hydra\.mode=.*MULTIRUN")

_HELP = {"-h", "--help"}

_given: list[str] = []
"""The command line as it was typed, while Hydra sees its own part of it."""


def reported(job: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """End the program where a job fails by its user's fault: Hydra would print a line of its own before ours."""

    @wraps(job)
    def run(config: DictConfig) -> None:
        if _given:
            sys.argv = list(_given)  # Lightning starts further ranks with it
        gc.freeze()  # what is there by now stays to the end
        gc.enable()
        try:
            load_files(config.get("plugins", ()), is_reloaded=False)  # a launcher may have started this process
            with told_in_a_sentence():
                job(config)
        except BrokenPipeError:
            raise
        except user_errors() as error:
            sys.exit(report(error))

    return run


Spelling = Callable[[Sequence[str]], list[str]]
"""From arguments as they are typed to arguments as Hydra takes them."""


def run_program(
    program: Callable[[], None], name: str, *, spell: Spelling = spell_flags, config_name: str = "", header: str = ""
) -> int:
    """Run a Hydra program; what its user can mend is one line on stderr and exit code 1, the rest a traceback.

    `spell` is what this command alone spells in another way than Hydra. Asked for help, it shows the `header`, or what
    the configuration `config_name` says of itself (without one that of the command's name), and the settings.
    """
    config_name = config_name or name
    silence_foreign_messages()
    os.environ["PYTHONSAFEPATH"] = "1"  # a process that is started here imports nothing from the user's folder
    try:
        with _hydra_arguments(name, spell), told_in_a_sentence():
            if _HELP & set(sys.argv):
                show_help(name, config_name, [text for text in sys.argv[1:] if text not in _HELP], header=header)
            else:
                program()
    except BrokenPipeError:  # who reads the output has enough
        raise
    except user_errors() as error:
        return report(error)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def report(error: BaseException) -> int:
    if os.environ.get(_WANTS_TRACEBACK) == "1":
        raise error
    print(f"error: {explain(error)}", file=sys.stderr)
    return 1


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
        load_files(take_files(sys.argv[1:])[0])
        store_schemas()
        yield
    finally:
        sys.argv = list(_given)
        os.environ["HYDRA_FULL_ERROR"] = full_error

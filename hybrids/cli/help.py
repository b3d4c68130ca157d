"""`hybrids <command> --help` of the commands that take Hydra's arguments.

What else stands on the command line is heeded: `hybrids train task=copying --help` shows the settings of copying.
Hydra's own help reads every group of its store anew, which takes three seconds.
"""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from shutil import get_terminal_size
from textwrap import fill

import yaml
from omegaconf import OmegaConf

from hybrids import registry
from hybrids.cli.commands import introduce
from hybrids.config.compose import compose_anything
from hybrids.config.explain import NONE

_GROUPS = ("arch", "trainer", "logger", "debug", "experiment", "sweep")
"""Folders of hybrids_conf whose files are options."""


def show_help(command: str, name: str, overrides: Sequence[str], *, header: str = "") -> None:
    """What a command is for, and every setting of the configuration `name` with its value under these overrides.

    Between them stands `header`, or what the configuration says of itself.
    """
    config = compose_anything(name, list(overrides))
    told = config.hydra.help
    print(f"hybrids {command}: {introduce(command)}\n\n{header or told.header.rstrip()}")
    if "pattern" in config:
        print("\n== Groups: <group>=<option> ==")
        for group, chosen in options():
            line = f"{group}: {', '.join(chosen)}"
            print(fill(line, min(120, get_terminal_size().columns), subsequent_indent="    "))
    print("\n== Settings: <setting>=<value> ==")
    settings = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    print(yaml.dump(settings, Dumper=_Dumper, sort_keys=False).rstrip())
    print(f"\n{told.footer.strip()}")


class _Dumper(yaml.SafeDumper):
    """Writes lists on one line, as they are typed."""


_Dumper.add_representer(
    list, lambda self, items: self.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)


def options() -> Iterator[tuple[str, list[str]]]:
    """Each group, and what can be chosen of it."""
    for group in _GROUPS:
        found = (path.name for path in files("hybrids_conf").joinpath(group).iterdir())
        yield group, sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))
    for kind, group in (("task", "task"), ("mixer", "mixer@mixers.<letter>"), ("channel", "channel")):
        none = [] if kind == "task" else [NONE]
        yield group, [*registry.names(kind), *none]

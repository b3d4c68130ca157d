"""The command `completion`: a script with which a shell completes commands, groups, settings and options."""

import argparse
import re
from collections.abc import Iterator
from importlib import import_module
from string import Template

from omegaconf import OmegaConf

from hybrids import outline, registry
from hybrids.cli.commands import COMMANDS
from hybrids.cli.help import options
from hybrids.config.compose import compose_anything
from hybrids.config.schema import store_schemas

_CONFIGS = {"state": "train", "triangle": "train"}
"""Of commands that take the settings of another one."""
_FLAGS = ("--help", "--wide", "--explain", "--format=csv", "--format=json")

# A shell completes what follows the last of its word breaks, so what stands before is cut from the candidates.
_SCRIPT = Template("""\
_hybrids() {
    local line="$${COMP_LINE:0:$$COMP_POINT}" words known
    local current="$${line##*[[:space:]]}" typed
    read -ra typed <<< "$$line"
    case "$${typed[1]}" in
$cases
        *) words="$commands" ;;
    esac
    [[ $${#typed[@]} -eq 2 && -n "$$current" ]] && words="$commands"
    local before="$${current%"$${current##*[=@:]}"}"
    COMPREPLY=()
    for known in $$words; do
        [[ "$$known" == "$$current"* ]] && COMPREPLY+=("$${known#"$$before"}")
    done
    [[ "$${COMPREPLY[0]}" == *= ]] && compopt -o nospace
    return 0
}
complete -o default -F _hybrids hybrids
""")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"), help="the shell that is to complete")


def run(args: argparse.Namespace) -> int:
    """Print the script. Exit code."""
    store_schemas()
    cases = [f'        {name}) words="{" ".join(_words(name))}" ;;' for name in COMMANDS]
    script = _SCRIPT.substitute(cases="\n".join(cases), commands=" ".join(COMMANDS))
    start = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n" if args.shell == "zsh" else ""
    print(f"{start}{script}", end="")
    return 0


def _words(name: str) -> Iterator[str]:
    """What can follow a command."""
    yield from _FLAGS
    module = import_module(f"hybrids.cli.{COMMANDS[name].module}")
    if hasattr(module, "add_arguments"):
        parser = argparse.ArgumentParser(add_help=False)
        module.add_arguments(parser)
        yield from dict.fromkeys(re.findall(r"--\w[\w-]*", parser.format_usage()))
    elif name == "task":
        yield from outline.names("task")
    else:
        yield from _settings(_CONFIGS.get(name, name))
    if name == "check":
        yield from (f"{entry.kind}={entry.name}" for entry in registry.entries())


def _settings(name: str) -> Iterator[str]:
    config = compose_anything(name, [])
    if "pattern" in config:
        for group, chosen in options():
            groups = [group.replace("<letter>", letter) for letter in config.mixers] if "<" in group else [group]
            yield from (f"{one}={option}" for one in groups for option in chosen)
    yield from _keys(OmegaConf.to_container(OmegaConf.masked_copy(config, [str(k) for k in config if k != "hydra"])))


def _keys(tree: object, above: str = "") -> Iterator[str]:
    if not isinstance(tree, dict) or not tree:
        yield f"{above}="
        return
    for key, value in tree.items():
        yield from _keys(value, f"{above}.{key}" if above else str(key))

"""One sentence for an error of Hydra, OmegaConf or this package: what was given, what is allowed, what was meant."""

import errno
import re
import sys
from collections.abc import Sequence

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hybrids import registry
from hybrids.errors import UserError, suggest
from hybrids.pattern import Pattern

NONE = "none"
"""Option of the groups mixer and channel for a layer without one."""


def user_errors() -> tuple[type[BaseException], ...]:
    """What a user can mend; everything else, another ValueError too, is a defect and deserves its traceback.

    Lightning's own is among them once Lightning is imported, for which commands that do not train do not wait.
    """
    lightning = sys.modules.get("lightning.fabric.utilities.exceptions")
    foreign = () if lightning is None else (lightning.MisconfigurationException,)
    return HydraException, OmegaConfBaseException, UserError, OSError, *foreign


_PLACES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENOENT)
_KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false", "String": "text"}
_LAUNCHERS = {"joblib": "joblib", "ray": "ray", "submitit_local": "slurm", "submitit_slurm": "slurm"}
"""Launchers of Hydra that are packages of their own, and the extra that brings each."""

_GROUP_OF_LETTER = re.compile(r"(mixer|channel)@(?:mixers|channels)\.(\w+)")


def explain(error: BaseException) -> str:
    """One sentence for any error."""
    root: BaseException = error
    while root.__cause__ is not None and not isinstance(root, OmegaConfBaseException):
        root = root.__cause__
    if isinstance(root, OmegaConfBaseException) and root.full_key:
        return _explain_value(root)
    if isinstance(error, OverrideParseException):
        return _explain_override(error)
    if isinstance(error, HydraException):
        return _explain_group(str(error))
    if isinstance(error, OSError) and error.strerror:
        return _explain_file(error)
    text = " ".join(str(error).split()) or type(error).__name__
    return text.removeprefix("UserError raised while resolving interpolation: ")


def unbound_letter(letter: str, bound: Sequence[str]) -> str:
    """What is wrong with a letter that stands for nothing, and how to bind it."""
    if not re.fullmatch("[A-Z]", letter):
        return f"{letter!r} is no letter of a pattern; allowed: one of A-Z"
    known = f"bound: {', '.join(sorted(bound))}; " if bound else ""
    return f"the letter {letter} is not bound; {known}bind it with +mixer@mixers.{letter}=<mixer>"


def _explain_value(error: OmegaConfBaseException) -> str:
    """A setting that does not exist, or a value that it cannot hold."""
    key, message = str(error.full_key), (error.msg or str(error)).splitlines()[0]
    if re.match(r"Key .* (not in|is not in)", message):
        return _explain_key(error)
    if found := re.fullmatch(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", message):
        return f"{key}={found[1]} is not {_KINDS.get(found[2], found[2])}"
    if found := re.fullmatch(r"Value '(.*)' is not a valid bool .*", message):
        return f"{key}={found[1]} is not true or false"
    if "is not Optional" in message:
        return f"{key}=null is not allowed; leave {key} out for its default"
    if found := re.search(r"is not a subclass of .*value: (.*)", message):
        settings = _leaves(error.parent_node[error.key], key) if isinstance(error.parent_node, DictConfig) else []
        return f"{key}={found[1]} is not allowed: {key} has no options, but settings: {', '.join(settings)}"
    if "is not a ListConfig" in message:
        return f"{key} must be a list, such as [1,2]"
    if "is not a Mapping" in message or "to DictConfig" in message or "to Dict[" in message:
        return f"{key} is a group of settings, not one value"
    return f"{key}: {message}"


def _explain_key(error: OmegaConfBaseException) -> str:
    parent, key = error.parent_node, str(error.key)
    if not isinstance(parent, DictConfig):
        return f"unknown setting {error.full_key!r}"
    prefix = str(error.full_key).removesuffix(key)
    if prefix == "mixers.":
        return unbound_letter(key, [str(letter) for letter in parent])
    allowed = [str(name) for name in parent if name not in ("hydra", "name")]
    root: DictConfig = parent._get_root()  # type: ignore[assignment]
    elsewhere = [name for name in _leaves(root) if name.rpartition(".")[2] == key]
    if elsewhere and not prefix:
        return f"unknown setting {key!r}; did you mean {' or '.join(repr(name) for name in elsewhere)}?"
    return f"unknown setting {error.full_key!r}; {suggest(key, allowed)}"


def _leaves(node: object, prefix: str = "") -> list[str]:
    """Full keys of all settings below a node."""
    if not isinstance(node, DictConfig) or node._is_none():
        return [prefix]
    keys = [str(key) for key in node if key not in ("hydra", "name")]
    return [leaf for key in keys for leaf in _leaves(node._get_node(key), f"{prefix}.{key}" if prefix else key)]


def _explain_override(error: OverrideParseException) -> str:
    """An argument that Hydra cannot read; a pattern is never in need of quotes, so its own message is better."""
    key, equals, value = error.override.partition("=")
    if not equals:
        return f"{error.override!r} is not an argument; write key=value, such as pattern=LLLA"
    return _explain_unreadable(key, value, str(error))


def _explain_unreadable(key: str, value: str, reason: str) -> str:
    if key == "pattern":
        sweep = "; to sweep over several patterns, add -m" if "," in value else ""
        try:
            Pattern.parse(value)
        except UserError as problem:
            return f"{problem}{sweep}"
    if "," in value:
        return f"{key}={value} gives several values; add -m to sweep over them, or write a list as {key}=[{value}]"
    return f"{key}={value} cannot be read ({_one_line(reason)}); quote the value: {key}='\"{value}\"'"


def _explain_group(text: str) -> str:
    """A choice that cannot be made: unknown option, unknown group, letter that is not bound, several at once."""
    if found := re.match(r"Ambiguous value for argument '([^=]*)=(.*)'$", text, re.MULTILINE):
        return _explain_unreadable(found[1], found[2], "")
    if found := re.search(r"Could not find '([\w/]+)/([^']*)'", text):
        return _explain_option(found[1], found[2], text)
    if found := re.match(r"Could not override '([^']*)'", text):
        return _explain_missing_group(found[1])
    if found := re.match(r"Multiple values for ([^\s]+)\. ", text):
        return f"{found[1]} is chosen already; to choose another, leave the + out: {found[1]}=<option>"
    return _one_line(text)


def _explain_missing_group(group: str) -> str:
    if found := _GROUP_OF_LETTER.fullmatch(group):
        return unbound_letter(found[2], [])
    if group in ("mixer", "mixers"):
        return f"{group} needs a letter; write mixer@mixers.L=<mixer> to choose what L means"
    if group == "channels":
        return "channels needs a letter; write channel@channels.L=<channel mixer> to choose that of L"
    if group == "sweep":
        return "sweep= is over many runs; only hybrids train takes it"
    return f"unknown group {group!r}"


def _explain_option(group: str, name: str, text: str) -> str:
    if group in registry.KINDS:
        try:
            registry.get(group, name, beside=[] if group == "task" else [NONE])
        except UserError as error:
            return str(error)
    listing = text.partition("Available options")[2].partition("Config search path")[0]
    options = [line.strip() for line in listing.splitlines() if line.startswith("\t")]
    if group == "hydra/launcher" and name in _LAUNCHERS:
        return f"hydra/launcher={name} is not installed: pip install 'hybrids[{_LAUNCHERS[name]}]'"
    return f"unknown {group} {name!r}; {suggest(name, options)}"


def _explain_file(error: OSError) -> str:
    where = f" {error.filename}" if error.filename is not None else ""
    hint = "; runs_dir=<folder> keeps runs in another place" if error.errno in _PLACES else ""
    return f"cannot use{where}: {error.strerror}{hint}"


def _one_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line and not line.startswith("See https://hydra.cc")]
    return " ".join(" ".join(lines).split())

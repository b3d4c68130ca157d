"""A configuration from what is typed on a command line."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from omegaconf import DictConfig

from hybrids.config.build import build_run
from hybrids.config.quoting import quote_text
from hybrids.errors import UserError, suggest
from hybrids.training.run import Run

_NULL_GROUP = re.compile(r"\+{0,2}(arch|task|trainer|logger|(mixer|channel)(@[\w.]+)?)=null")


def spell_overrides(arguments: Sequence[str]) -> list[str]:
    """Command line arguments as Hydra takes them, `-m` first.

    UserError for a group without an option, for what takes settings away, and for what moves the process.
    """
    for argument in arguments:
        if _NULL_GROUP.fullmatch(argument):
            raise UserError(f"{argument} is not allowed: name an option; `none` is no mixer, or no channel mixer")
        if argument.startswith("~") and not _LETTER.match(argument):
            raise UserError(f"{argument} is not allowed: only a letter can be taken away, as in ~mixers.S")
        if _CHDIR.match(argument):
            raise UserError(f"{argument} is not allowed: a run is kept in runs_dir and found there by its identity")
    spelt = [re.sub(r"^(\+{0,2})channel@channel=", r"\1channel=", argument) for argument in arguments]
    single = [re.sub(rf"^({_LISTED})=(-?\d+(-\d+)?)$", r"\1=[\2]", argument) for argument in spelt]
    ours = [re.sub(rf"^({_SIZES})", r"++\1", argument) for argument in single]  # Hydra takes keys of a dict as new
    texts = [quote_text(argument) for argument in ours]
    return sorted(texts, key=lambda argument: argument not in ("-m", "--multirun"))


_SIZES = r"(?:curriculum\.)?sizes\."
_LISTED = rf"{_SIZES}\w+|curriculum\.steps"
"""Settings that are lists, where one value is spelt without brackets."""
_LETTER = re.compile(r"~(mixers|channels|(mixer|channel)@(mixers|channels))\.")
_CHDIR = re.compile(r"\+{0,2}hydra\.job\.chdir=(?!false$|False$|null$)")
_LONG = re.compile(r"--[A-Za-z_][\w.@]*")
_HYDRA_FLAGS = re.compile(r"-\w\w?|--(help|hydra-help|version|cfg|resolve|package|info|multirun|run|shell-completion)")


def spell_flags(
    arguments: Sequence[str], flags: Mapping[str, str] | None = None, names: Sequence[str] = ()
) -> list[str]:
    """Arguments with each of `flags` as the setting that it stands for, and `--<name>=` as `<name>=`.

    The latter is how W&B's sweep agents write settings. Raises UserError for an option that neither Hydra nor these
    have.
    """
    flags = flags or {}
    spelt = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        name = flag.removeprefix("--")
        if flag in flags and equals:
            raise UserError(f"{name}={value}: it takes no value, write {flag}")
        is_known = flag in flags or name in names or _HYDRA_FLAGS.fullmatch(flag)
        if equals and not is_known and _LONG.fullmatch(flag):
            argument = argument.removeprefix("--")
        elif argument.startswith("-") and not is_known:
            known = dict.fromkeys([*names, *(known.removeprefix("--") for known in flags)])
            hint = suggest(name, known) if known else f"write {name.lstrip('-')}=<value>"
            raise UserError(f"unknown option {argument!r}; {hint}")
        spelt.append(flags[flag] if flag in flags else argument.removeprefix("--") if name in names else argument)
    return spelt


def spell_list(arguments: Sequence[str], name: str, spell: Callable[[str], str] = str) -> list[str]:
    """`<name>=a,b` as Hydra writes a list, with each part as `spell` gives it."""
    spelt = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        is_listed = key == name and equals and not value.startswith("[")
        spelt.append(f"{name}=[{','.join(map(spell, value.split(',')))}]" if is_listed else argument)
    return spelt


def split_places(arguments: Sequence[str], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Folders and files among the arguments, and the settings and flags; a folder's name may hold a `=`."""

    def is_place(argument: str) -> bool:
        name, equals, _ = argument.partition("=")
        return not argument.startswith("-") and (not equals or (name not in names and Path(argument).exists()))

    if "" in arguments:
        raise UserError("an argument is empty; give a folder, or a setting as key=value")
    places = [argument for argument in arguments if is_place(argument)]
    return places, [argument for argument in arguments if argument not in places]


def compose(overrides: list[str]) -> Run:
    """The run that these overrides describe."""
    return build_run(compose_config(overrides))


def compose_config(overrides: list[str]) -> DictConfig:
    """The configuration of a run with these overrides; UserError for a sweep, which is many."""
    for text in overrides:
        if text.lstrip("+").startswith("sweep="):
            raise UserError(f"{text} is a sweep over runs; only hybrids train takes it")
    return compose_anything("train", overrides, is_whole=False)


def compose_anything(name: str, overrides: list[str], *, is_whole: bool = True) -> DictConfig:
    """The configuration of a command; as a `is_whole` one with Hydra's own settings."""
    outside = get_gh_backup()  # who calls this from Python may be a program of Hydra's
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_module("hybrids_conf", version_base="1.3"):
            return hydra.compose(name, overrides, return_hydra_config=is_whole)
    finally:
        restore_gh_from_backup(outside)

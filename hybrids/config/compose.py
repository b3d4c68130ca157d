"""A configuration from what is typed on a command line."""

import re
from collections.abc import Sequence

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from hybrids.config.build import build_run
from hybrids.errors import UserError
from hybrids.training.run import Run

_NULL_GROUP = re.compile(r"\+{0,2}(arch|task|trainer|logger|(mixer|channel)(@[\w.]+)?)=null")


def spell_overrides(arguments: Sequence[str]) -> list[str]:
    """Command line arguments as Hydra takes them, `-m` first; UserError for a group without an option."""
    for argument in arguments:
        if _NULL_GROUP.fullmatch(argument):
            raise UserError(f"{argument} is not allowed: name an option; `none` is no mixer, or no channel mixer")
    spelt = [re.sub(r"^(\+{0,2})channel@channel=", r"\1channel=", argument) for argument in arguments]
    single = [re.sub(r"^(sizes\.\w+)=(-?\d+)$", r"\1=[\2]", argument) for argument in spelt]
    ours = [re.sub(r"^sizes\.", "++sizes.", argument) for argument in single]  # Hydra takes keys of a dict as new
    return sorted(ours, key=lambda argument: argument not in ("-m", "--multirun"))


def compose(overrides: list[str]) -> Run:
    """The run that these overrides describe."""
    return build_run(compose_config(overrides))


def compose_config(overrides: list[str]) -> DictConfig:
    """The configuration of a run with these overrides; UserError for a sweep, which is many."""
    for text in overrides:
        if text.lstrip("+").startswith("sweep="):
            raise UserError(f"{text} is a sweep over runs; only hybrids train takes it")
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("hybrids_conf", version_base="1.3"):
        return hydra.compose("train", overrides)

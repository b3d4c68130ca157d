"""The command `capacity`: how many facts a pattern learns to give back, from ordinary runs."""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from hybrids.cli.programs import HYDRA, reported, run_program
from hybrids.config.build import build_run
from hybrids.config.compose import spell_flags, spell_list
from hybrids.config.quoting import quote
from hybrids.errors import UserError
from hybrids.report.terminal import capacity as report
from hybrids.report.terminal.progress import RunsBar
from hybrids.report.terminal.table import print_meanings, print_rows
from hybrids.studies.capacity.plan import EXAMPLES_PER_SIZE, Plan, find_search
from hybrids.studies.capacity.record import Outcome, write
from hybrids.studies.capacity.search import facts_grid
from hybrids.studies.capacity.settings import SearchSettings
from hybrids.studies.capacity.trials import check_ceiling
from hybrids.training.stop import Stopped

SET_HERE = {
    "optim.lr": "rates",
    "seed": "seeds",
    "trainer.max_steps": "steps",
    "context": "task.length",
    "vary_facts": "max_facts",
}
"""Settings of a run that this command sets, and what to give instead."""

_FLAGS = {"--confirm": "confirm=true", "--smoke": "smoke=small"}


def run_capacity() -> int:
    """`hybrids capacity`. Takes Hydra's arguments; several patterns and rates stand after commas. Exit code."""
    return run_program(_capacity, "capacity", spell=spell_arguments)


def spell_arguments(arguments: Sequence[str]) -> list[str]:
    """The command line as Hydra takes it; UserError for what this command sets itself."""
    for argument in arguments:
        name = argument.partition("=")[0]
        if name in SET_HERE:
            raise UserError(f"{argument}: hybrids capacity sets {name}; give {SET_HERE[name]}=")
    names = [field.name for field in fields(SearchSettings)]
    return spell_list(spell_list(spell_flags(arguments, _FLAGS, names), "rates"), "pattern", quote)


@hydra.main(**HYDRA, config_name="capacity")
@reported
def _capacity(config: DictConfig) -> None:
    given: Any = OmegaConf.to_container(config, resolve=True)
    del given["plugins"]  # paths of files, which have been imported
    search = {field.name: given.pop(field.name) for field in fields(SearchSettings)}
    settings: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SearchSettings), search))
    overrides = list(HydraConfig.get().overrides.task)
    plans = _make_plans(given, settings, overrides)
    folder = find_search(plans, settings)
    print_rows("what can be shown at most", report.CEILING_COLUMNS, [report.ceiling_row(plan) for plan in plans])
    for note in dict.fromkeys(note for plan in plans for note in plan.run.notes):
        print(note)
    for plan in plans:
        check_ceiling(plan.ceiling, settings.min_utilisation)
    end = math.inf if settings.budget is None else time.monotonic() + 60 * settings.budget
    try:
        with RunsBar(len(plans) * (len(set(settings.rates)) + settings.seeds - 1)) as bar:
            outcomes = [plan.search(settings, f"capacity-{folder.name}", end, bar) for plan in plans]
    except (KeyboardInterrupt, SystemExit) as stopped:  # Lightning exits where a training is interrupted
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(stopped.code if isinstance(stopped, Stopped) else 130)
    asked = {**asdict(settings), "settings": overrides}
    _print(outcomes, write(folder, outcomes, asked))


def _make_plans(config: dict[str, Any], settings: SearchSettings, overrides: Sequence[str]) -> list[Plan]:
    """A plan for each pattern."""
    grid = facts_grid(settings.max_facts)
    steps = {} if settings.steps is None else {"max_steps": settings.steps}
    config["trainer"] |= {**steps, "target": None, "progress_bar": False}
    if not any(text.lstrip("+").startswith("data.num_test_examples=") for text in overrides):
        config["data"]["num_test_examples"] = EXAMPLES_PER_SIZE * len(grid)
    patterns = (config["pattern"] or [None]) if isinstance(config["pattern"], list) else [config["pattern"]]
    return [Plan({**config, "pattern": pattern}, grid, build_run, overrides) for pattern in dict.fromkeys(patterns)]


def _print(outcomes: Sequence[Outcome], paths: Sequence[object]) -> None:
    print_rows("capacity: facts recalled with accuracy 0.9", report.COLUMNS, [report.table_row(o) for o in outcomes])
    print_meanings(report.MEANINGS)
    for outcome in outcomes:
        if outcome.missing:
            print(f"{outcome.pattern}: missing: {', '.join(outcome.missing)}; the same command goes on")
    print(f"curves and record: {', '.join(map(str, paths))}")
    broken = [outcome.pattern for outcome in outcomes if outcome.law_broken]
    if broken:
        why = "the answers leak past the state, or the state is under-counted"
        print(f"error: more was recalled than the state of {', '.join(broken)} holds: {why}", file=sys.stderr)
        sys.exit(1)

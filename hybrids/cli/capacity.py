"""The command `capacity`: how many facts a pattern learns to give back, from ordinary runs."""

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from omegaconf import OmegaConf

from hybrids import registry
from hybrids.cli.programs import COMMANDS, run_program
from hybrids.config.build import build_run
from hybrids.config.compose import compose_config
from hybrids.config.derived import check_varies_facts
from hybrids.errors import UserError, suggest
from hybrids.model.backbone import Backbone
from hybrids.report.terminal import capacity as report
from hybrids.report.terminal.progress import RunsBar
from hybrids.report.terminal.tables import print_rows
from hybrids.studies.capacity.record import Outcome, facts_asked, write
from hybrids.studies.capacity.search import bisect, facts_grid
from hybrids.studies.capacity.trials import (
    OutOfTime,
    Trials,
    check_ceiling,
    check_precision,
    measure_ceiling,
    search,
)
from hybrids.task import VariesFacts
from hybrids.training.run import Run
from hybrids.triangle.match import size_of
from hybrids.triangle.recall import check_has_bits

EXAMPLES_PER_SIZE = 256
"""Test examples of each number of facts, where data.num_test_examples is not given."""

SMOKE = ("task.vocab_size=512", "task.length=64", "model.d_model=16", "trainer.val_every=50")
"""What --smoke sets, where the user does not: with `Options.smoked`, five runs of a small model."""

SET_HERE = {
    "optim.lr": "rates",
    "seed": "seeds",
    "trainer.max_steps": "steps",
    "context": "task.length",
    "vary_facts": "max_facts",
}
"""Settings of a run that this command sets, and what to give instead."""

USAGE = """
  rates=1e-3,3e-3,1e-2   learning rates; the best on the first seed is used for the others
  seeds=4                seeds of the weights, the first for choosing the rate
  max_facts=64           largest number of facts; examples have 1 ... max_facts, log-uniform
  steps=<n>              of each run; none stops early
  min_utilisation=0.001  refuse a search in which even full recall would use less of the state
  --budget=<minutes>     start no run after that; the same command continues
  --confirm              then train at single numbers of facts around K*, by bisection
  --smoke                small: 5 runs of width 16, 400 steps, 16 facts: under 10 minutes on two cores
Several patterns: pattern=LLLA,AAAA. Other settings are those of a run: hybrids train --help"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the search itself is told; everything else is a setting of its runs."""

    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    seeds: int = 4
    max_facts: int = 64
    steps: int | None = None
    min_utilisation: float = 1e-3
    budget: float | None = None
    confirm: bool = False
    smoke: bool = False

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("max_facts", 1), ("steps", 1), ("min_utilisation", 0), ("budget", 0)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise UserError(f"{name}={value} must be at least {least}")
        if not self.rates or not all(0 < rate < math.inf for rate in self.rates):
            raise UserError(f"rates={','.join(f'{rate:g}' for rate in self.rates)}: all must be positive")


def run_capacity() -> int:
    """`hybrids capacity`. Takes Hydra's arguments and those of `Options`. Exit code."""
    return run_program(_capacity, "capacity")


def _capacity() -> None:
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"{COMMANDS['capacity']}\n{USAGE}")
        return
    options, settings = read_options(sys.argv[1:])
    grid = facts_grid(options.max_facts)
    plans = [_plan(options, grid, given) for given in _split_patterns(settings)]
    name = _name(plans, options)
    print_rows("what can be shown at most", CEILING_COLUMNS, [plan.ceiling_row() for plan in plans])
    for note in dict.fromkeys(note for plan in plans for note in plan.run.notes):
        print(note)
    for plan in plans:
        check_ceiling(plan.ceiling, options.min_utilisation)
    end = math.inf if options.budget is None else time.monotonic() + 60 * options.budget
    num_runs = len(plans) * (len(set(options.rates)) + options.seeds - 1)
    try:
        with RunsBar(num_runs) as bar:
            outcomes = [plan.search(options, f"capacity-{name}", end, bar) for plan in plans]
    except (KeyboardInterrupt, SystemExit):  # Lightning exits where a training is interrupted
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    asked = {field.name: getattr(options, field.name) for field in fields(options)}
    paths = write(plans[0].run.runs_dir / "capacity" / name, outcomes, {**asked, "settings": settings})
    _print(outcomes, paths)


def read_options(arguments: Sequence[str]) -> tuple[Options, list[str]]:
    """Options of the search and settings of its runs; UserError for one that cannot be."""
    given: dict[str, Any] = {"rates": (1e-2, 3e-2, 1e-1), "seeds": 3, "max_facts": 16, "steps": 400}
    given = given if "--smoke" in arguments else {}
    names, settings = [field.name for field in fields(Options)], []
    for argument in arguments:
        name, equals, text = argument.removeprefix("--").partition("=")
        if name in names:
            given[name] = _read(name, text, is_flag=not equals)
        elif argument.startswith("-"):
            raise UserError(f"unknown option {argument!r}; {suggest(name, names)}")
        elif name in SET_HERE:
            raise UserError(f"{argument}: hybrids capacity sets {name}; give {SET_HERE[name]}=")
        else:
            settings.append(argument)
    return Options(**given), settings


def _read(name: str, text: str, *, is_flag: bool) -> Any:
    if name in ("confirm", "smoke"):
        if not is_flag:
            raise UserError(f"{name}={text}: it takes no value, write --{name}")
        return True
    kind, what = (int, "a whole number") if name in ("seeds", "max_facts", "steps") else (float, "a number")
    try:
        return tuple(float(part) for part in text.split(",")) if name == "rates" else kind(text)
    except ValueError:
        what = "numbers, as in 1e-3,3e-3,1e-2" if name == "rates" else what
        raise UserError(f"{name}={text} is not {what}") from None


def _split_patterns(settings: Sequence[str]) -> list[list[str]]:
    """The settings, once for each of the patterns in them."""
    given = [text for text in settings if text.startswith("pattern=")]
    others = [text for text in settings if text not in given]
    patterns = given[-1].removeprefix("pattern=").split(",") if given else []
    return [[*others, f"pattern={pattern}"] for pattern in dict.fromkeys(patterns)] or [others]


CEILING_COLUMNS = (
    "pattern",
    "d_model",
    "parameters",
    "step FLOPs",
    "state bits after the facts",
    "facts",
    "alphabet",
    "largest measurable utilisation",
)


class Plan:
    """One pattern of a search: how its runs are composed, and what they can show."""

    def __init__(self, overrides: Sequence[str], grid: tuple[int, ...]) -> None:
        self.grid = grid
        self.config: Any = OmegaConf.to_container(compose_config(list(overrides)), resolve=True)
        plain = build_run({**self.config, "match": None, "match_to": None})
        if not isinstance(plain.task.cls, VariesFacts):
            check_has_bits(plain.task.build())  # the stronger reason, where there is one
        self.task, self.cls = plain.task, check_varies_facts(plain)
        _check_free(overrides, self.cls.vary_facts(grid, self.task.settings))
        self.run = self.describe(grid)
        check_precision(self.run, len(grid))
        self.ceiling = measure_ceiling(self.describe(grid[-1:]), grid[-1])
        width = self.run.model.d_model
        context = self.run.task.build().length
        self.size = size_of(lambda d_model: Backbone(d_model, self.run.pattern, self.run.letters), width, context)
        self.pattern = self.run.pattern.compact()

    def describe(self, facts: tuple[int, ...], *, rate: float | None = None, seed: int = 0) -> Run:
        """The run whose examples have these numbers of facts: what hybrids train makes of the same settings."""
        changes = self.cls.vary_facts(facts, self.task.settings)
        config = {**self.config, "seed": seed, "task": {**self.config["task"], **changes}}
        if rate is not None:
            config["optim"] = {**config["optim"], "lr": rate}
        try:
            replace(self.task, settings={**self.task.settings, **changes}).build()
        except UserError as error:
            raise UserError(f"max_facts={self.grid[-1]}: {error}") from error
        return build_run(config)

    def ceiling_row(self) -> list[object]:
        size, most = self.size, self.ceiling
        numbers = (size.params, size.flops, most.state_bits, most.facts, most.num_symbols)
        return [self.pattern, size.d_model, *(f"{value:,}" for value in numbers), f"{most.utilisation:.4f}"]

    def search(self, options: Options, group: str, end: float, bar: RunsBar) -> Outcome:
        """Train what is asked for, or as much of it as there is time for."""
        seeds = range(options.seeds)
        trials = Trials(describe=self._runs_of(group), grid=self.grid, end=end, on_start=bar.start, on_end=bar.end)
        capacity, missing = search(trials, options.rates, seeds)
        confirmed, asked = None, facts_asked(capacity)
        if options.confirm and capacity is not None and not missing:
            bar.confirm()
            try:
                confirmed = bisect(
                    lambda facts: trials.recalls(capacity.rate, seeds[-1], facts), self.grid[-1], start=asked or 1
                )
            except OutOfTime:
                missing = ["confirmation at single numbers of facts"]
        return Outcome(
            pattern=self.pattern,
            size=self.size,
            capacity=capacity,
            at_most=self.ceiling,
            at_capacity=None if asked is None else measure_ceiling(self.describe((asked,)), asked),
            missing=missing,
            confirmed=confirmed,
        )

    def _runs_of(self, group: str) -> Callable[[float, int, tuple[int, ...]], Run]:
        def of(rate: float, seed: int, facts: tuple[int, ...]) -> Run:
            stage = "confirm" if facts != self.grid else "rate" if seed == 0 else "seed"
            run = self.describe(facts, rate=rate, seed=seed)
            return replace(run.logged_as(run.logger.group or group, f"capacity-{stage}"), notes=())

        return of


def _check_free(overrides: Sequence[str], changes: Mapping[str, Any]) -> None:
    """UserError for a setting of the task that varying its facts sets."""
    for text in overrides:
        name = text.partition("=")[0]
        if name.removeprefix("task.") in changes and name.startswith("task."):
            raise UserError(f"{text}: hybrids capacity sets {name}; give max_facts=")


def _plan(options: Options, grid: tuple[int, ...], given: Sequence[str]) -> Plan:
    """The settings of the command, then the user's, then what a capacity needs."""
    preset = [*(SMOKE if options.smoke else ()), f"data.num_test_examples={EXAMPLES_PER_SIZE * len(grid)}"]
    steps = [] if options.steps is None else [f"trainer.max_steps={options.steps}"]
    return Plan([*preset, *given, *steps, "trainer.target=null", "trainer.progress_bar=false"], grid)


def _name(plans: Sequence[Plan], options: Options) -> str:
    """Task, patterns, and a hash of what the search is made of."""
    runs = [{**plan.run.identity, "optim": {**plan.run.identity["optim"], "lr": None}} for plan in plans]
    text = json.dumps([runs, sorted(set(options.rates)), options.seeds, options.max_facts], sort_keys=True)
    spelt = "_".join(plan.pattern.replace(":", "~") for plan in plans)
    task = registry.name_of(plans[0].run.task.cls)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{task}-{spelt if len(spelt) <= 32 else spelt[:29] + '...'}-{digest}"


def _print(outcomes: Sequence[Outcome], paths: Sequence[object]) -> None:
    print_rows("capacity: facts recalled with accuracy 0.9", report.COLUMNS, [report.table_row(o) for o in outcomes])
    for outcome in outcomes:
        if outcome.missing:
            print(f"{outcome.pattern}: missing: {', '.join(outcome.missing)}; the same command goes on")
    print(f"curves and record: {', '.join(map(str, paths))}")
    broken = [outcome.pattern for outcome in outcomes if outcome.law_broken]
    if broken:
        why = "the answers leak past the state, or the state is under-counted"
        print(f"error: more was recalled than the state of {', '.join(broken)} holds: {why}", file=sys.stderr)
        sys.exit(1)

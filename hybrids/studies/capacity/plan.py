"""A search for a capacity as it is asked for: its settings, and for each pattern its runs and what they can show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from hybrids import registry
from hybrids.errors import UserError
from hybrids.model.backbone import Backbone
from hybrids.studies.capacity.record import Outcome, asks_for, facts_asked
from hybrids.studies.capacity.search import Trial, bisect
from hybrids.studies.capacity.settings import SearchSettings, check_varies_facts
from hybrids.studies.capacity.trials import OutOfTime, Trials, check_precision, measure_ceiling, search
from hybrids.task import VariesFacts
from hybrids.training.curriculum import Curriculum
from hybrids.training.identity import DIGITS, FORMER_DIGITS, digest_of
from hybrids.training.memory import check_length, check_run
from hybrids.training.record import Result
from hybrids.training.run import Run
from hybrids.triangle.match import size_of
from hybrids.triangle.recall import check_has_bits

EXAMPLES_PER_SIZE = 256
"""Test examples of each number of facts, where data.num_test_examples is not given."""


class Watcher(Protocol):
    """Who is told how far a search has come."""

    def start(self, run: Run) -> None: ...

    def end(self, trial: Trial, result: Result) -> None: ...

    def confirm(self) -> None: ...


class Plan:
    """One pattern of a search: how its runs are built from `config`, and what they can show.

    UserError for what cannot be searched, also for a setting among the `overrides` that varying the facts sets.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        grid: tuple[int, ...],
        build: Callable[[Mapping[str, Any]], Run],
        overrides: Sequence[str] = (),
    ) -> None:
        self.config, self.grid, self.build = config, grid, build
        plain = build({**config, "match": None, "match_to": None})
        check_length(plain.task, plain.data.batch_size, "data.batch_size")
        if not isinstance(plain.task.cls, VariesFacts):
            check_has_bits(plain.task.build())  # the stronger reason, where there is one
        self.task, self.cls = plain.task, check_varies_facts(plain)
        changed = self.cls.vary_facts(grid, self.task.settings)
        for text in overrides:
            group, _, name = text.partition("=")[0].lstrip("+").partition(".")
            if group == "task" and name in changed:
                raise UserError(f"{text}: hybrids capacity sets task.{name}; give max_facts=")
        self.run = self.describe(grid)
        check_precision(self.run, len(grid))
        _check_curriculum(self.run)
        task = self.run.task.build()
        check_run(self.run, task, Curriculum.of(self.run, task).length)
        self.ceiling = measure_ceiling(self.describe(grid[-1:]), grid[-1])
        width, context = self.run.model.d_model, task.length
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
        return self.build(config)

    def search(self, settings: SearchSettings, group: str, end: float, watcher: Watcher) -> Outcome:
        """Train what is asked for, or as much of it as there is time for."""

        def describe(rate: float, seed: int, facts: tuple[int, ...]) -> Run:
            stage = "confirm" if facts != self.grid else "rate" if seed == 0 else "seed"
            run = self.describe(facts, rate=rate, seed=seed)
            return replace(run.logged_as(run.logger.group or group, f"capacity-{stage}"), notes=())

        trials = Trials(describe=describe, grid=self.grid, end=end, on_start=watcher.start, on_end=watcher.end)
        capacity, missing = search(trials, settings.rates, range(settings.seeds))
        confirmed, asked = None, facts_asked(capacity)
        if settings.confirm and capacity is not None and not missing:
            watcher.confirm()
            rate, last = capacity.rate, settings.seeds - 1
            try:
                confirmed = bisect(lambda facts: trials.recalls(rate, last, facts), self.grid[-1], start=asked or 1)
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


def _check_curriculum(run: Run) -> None:
    """UserError for a last stage of a curriculum that is not left to the search, whose runs have facts of their own."""
    if run.curriculum.lists_last:
        why = "in hybrids capacity the last stage is what the search trains on"
        raise UserError(f"curriculum.sizes has a last stage of its own: {why}; leave it out")


def find_search(plans: Sequence[Plan], settings: SearchSettings) -> Path:
    """The folder of a search: task, patterns, and a digest of what the search is made of.

    The one that version 0.1 has named, by 8 digits, where its record asks for the same.
    """
    runs = [{**plan.run.identity, "optim": {**plan.run.identity["optim"], "lr": None}} for plan in plans]
    digest = digest_of([runs, sorted(set(settings.rates)), settings.seeds, settings.max_facts])
    spelt = "_".join(plan.pattern.replace(":", "~") for plan in plans)
    spelt = spelt if len(spelt) <= 32 else spelt[:29] + "..."
    name = f"{registry.name_of(plans[0].run.task.cls)}-{spelt}"
    place = plans[0].run.runs_dir / "capacity"
    folder, former = (place / f"{name}-{digest[:digits]}" for digits in (DIGITS, FORMER_DIGITS))
    is_former = not folder.exists() and asks_for(former, [plan.pattern for plan in plans], asdict(settings))
    return former if is_former else folder

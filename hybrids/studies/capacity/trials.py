"""The runs behind a capacity: what they can show at most, how each is read, and what is said when time is short."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from hybrids.errors import UserError
from hybrids.model.backbone import Backbone
from hybrids.model.measure import prefill, state_bits
from hybrids.studies.capacity.record import Ceiling
from hybrids.studies.capacity.search import THRESHOLD, Capacity, Trial, find_capacity, is_settled
from hybrids.task import VariesFacts
from hybrids.training.metrics import read_metrics
from hybrids.training.record import Result
from hybrids.training.run import Run
from hybrids.training.train import train
from hybrids.triangle.bound import max_utilisation
from hybrids.triangle.recall import check_has_bits

WORST_ERROR = 0.03
"""Largest standard error of an accuracy near the threshold with which a capacity is read."""


def measure_ceiling(run: Run, facts: int) -> Ceiling:
    """What a run can show whose examples all have `facts` facts; UserError for a task without bits."""
    task = run.task.build()
    offered = check_has_bits(task)
    assert task.facts == facts and task.facts_end is not None
    width = run.model.d_model
    bits = state_bits(prefill(Backbone(width, run.pattern, run.letters), width, task.facts_end))
    symbols = round(2 ** (offered / facts))
    return Ceiling(facts, symbols, bits, max_utilisation(facts, symbols, bits))


def check_ceiling(ceiling: Ceiling, least: float) -> None:
    """UserError for an alphabet smaller than the facts, and where recall of everything would use next to nothing."""
    facts, symbols = ceiling.facts, ceiling.num_symbols
    if symbols < facts:
        raise UserError(
            f"max_facts={facts} exceeds the alphabet of {symbols} values, so a guess would count as recall; "
            f"allowed: up to {symbols}, or a larger task.vocab_size"
        )
    if ceiling.utilisation < least:
        raise UserError(
            f"max_facts={facts} of {math.log2(symbols):.1f} bits can use at most {ceiling.utilisation:.2g} of a state "
            f"of {ceiling.state_bits:,} bits, less than min_utilisation={least:g}: the comparison would be empty; use "
            "a smaller model.d_model, more facts or a larger task.vocab_size (min_utilisation=0 asks for it anyway)"
        )


def check_precision(run: Run, num_sizes: int) -> None:
    """UserError where an accuracy at the threshold would rest on too few test examples of each number of facts.

    The error is that of one answer per example: the answers of one example share a state and may fail together.
    """
    given = run.data.num_test_examples
    needed = math.ceil(num_sizes * THRESHOLD * (1 - THRESHOLD) / WORST_ERROR**2)
    if given < needed:
        raise UserError(
            f"data.num_test_examples={given} over {num_sizes} numbers of facts: the standard error of an accuracy of "
            f"{THRESHOLD} would exceed {WORST_ERROR}; allowed: {needed} or more"
        )


def read_trial(run: Run, result: Result, facts: Sequence[int]) -> Trial:
    """What a finished run says: accuracy by number of facts on its test set, and whether training had settled."""
    cls = run.task.cls
    assert isinstance(cls, VariesFacts)
    scores = [result["test"][f"accuracy/{cls.facts_slice}={num}"] for num in facts]
    curve = {num: score or 0.0 for num, score in zip(facts, scores, strict=True)}  # null after divergence
    validated = read_metrics(run.folder.metrics_file).get("val/accuracy", {})
    settled = result["stopped"] == "diverged" or is_settled(validated)
    return Trial(run.optim.lr, run.seed, curve, result["steps"], settled, str(run.folder.path))


class OutOfTime(Exception):
    """The budget is spent and the next run has not been trained yet."""


@dataclass(kw_only=True)
class Trials:
    """Trains the runs of one search as they are asked for, until `end` (of `time.monotonic`); finished ones are read.

    `describe(rate, seed, facts)` gives the run whose examples have these numbers of facts.
    """

    describe: Callable[[float, int, tuple[int, ...]], Run]
    grid: tuple[int, ...]
    end: float = math.inf
    on_start: Callable[[Run], None] = lambda run: None
    on_end: Callable[[Trial, Result], None] = lambda trial, result: None
    done: dict[tuple[float, int], Trial] = field(default_factory=dict)

    def __call__(self, rate: float, seed: int) -> Trial:
        trial = self.done[rate, seed] = self._train(rate, seed, self.grid)
        return trial

    def recalls(self, rate: float, seed: int, facts: int) -> bool:
        """Whether a run that is trained on this number of facts alone recalls them."""
        return self._train(rate, seed, (facts,)).capacity > 0

    def _train(self, rate: float, seed: int, facts: tuple[int, ...]) -> Trial:
        run = self.describe(rate, seed, facts)
        finished = run.folder.read_result()
        if finished is None and time.monotonic() >= self.end:
            raise OutOfTime
        self.on_start(run)
        result = train(run) if finished is None else finished
        trial = read_trial(run, result, facts)
        self.on_end(trial, result)
        return trial


def search(trials: Trials, rates: Sequence[float], seeds: Sequence[int]) -> tuple[Capacity | None, list[str]]:
    """The capacity and what is missing from it; None where the time was too short for a single run."""
    try:
        return find_capacity(trials, rates, seeds), []
    except OutOfTime:
        done, first = trials.done, seeds[0]
        tried = [rate for rate in sorted(set(rates)) if (rate, first) in done]
        missing = [f"rate {rate:g}" for rate in sorted(set(rates)) if rate not in tried]
        others = [seed for seed in seeds[1:] if not any((rate, seed) in done for rate in tried)]
        missing += [f"seed {seed} at the chosen rate" for seed in others]
        if not tried:
            return None, missing
        used = [seed for seed in seeds if seed not in others]
        found = find_capacity(lambda rate, seed: done[rate, seed], tried, used)
        reason = f"the budget was spent before {len(missing)} runs"
        return replace(found, reasons=(*found.reasons, reason)), missing

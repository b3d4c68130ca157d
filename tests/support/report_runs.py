"""Run folders written by hand, as training would leave them: for tests of the report."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import yaml

from hybrids.studies.capacity.record import Outcome, write
from hybrids.studies.capacity.search import Capacity, Trial
from hybrids.studies.capacity.trials import Ceiling
from hybrids.studies.effective_bits.record import FILE, write_rounded
from hybrids.studies.effective_bits.rounded import Rounded
from hybrids.triangle.intervals import Estimate
from hybrids.triangle.match import Size
from hybrids.triangle.quantise import METHOD
from hybrids.triangle.recall import EffectiveBits, Recall

MIXERS = {"L": "gla", "A": "attention"}


def write_run(runs: Path, pattern: str, *, name: str = "", lr: float = 0.01, seed: int = 0, **changes) -> Path:
    """A finished run; `changes` replace keys of its result, None removes one; `mixers`, `task` ...: settings."""
    mixers, matched = changes.pop("mixers", MIXERS), changes.pop("matched", None)
    letters = {letter: {"mixer": {"name": mixers[letter]}, "channel": {"name": "swiglu"}} for letter in set(pattern)}
    identity = {
        "pattern": pattern,
        "letters": letters,
        "task": {"name": "mqar", "num_pairs": 8} | changes.pop("task", {}),
        "model": {"d_model": changes.pop("d_model", 32)},
        "optim": {} if lr == 0.003 else {"lr": lr},  # what is at its default does not enter
        "data": changes.pop("data", {}),
        "trainer": {},
        "precision": "32-true",
        "backend": dict.fromkeys(letters, "torch"),
        "seed": seed,
    }
    scores = {"loss": 0.5, "accuracy": 0.9, "exact_match": 0.5, "accuracy/num_pairs=8": 0.9}
    result = {
        "version": 1,
        "id": f"mqar-{pattern}-{lr:g}-{seed}",
        "identity": identity,
        "code": {"commit": "0123456789abcdef", "changes": None, "hybrids": "0.1.0"},
        "hardware": {"device": "a processor", "cores": 2, "threads": 1, "ranks": 1},
        "backend": identity["backend"],
        "parameters": {"total": 3000, "backbone": 2000, "embedding": 1000},
        "context": 64,
        "state_elements": 1000,
        "state_bits": 32000,
        "step_flops": 5000,
        "step_bytes": 9000,
        "head_flops": 100,
        "steps": 500,
        "examples": 32000,
        "seconds": 12.5,
        "stopped": "max_steps",
        "overlap": {"val": 0.0, "test": 0.0},
        "chance_accuracy": 0.01,
        "val": scores,
        "test": scores,
    } | changes
    folder = runs / (name or result["id"])
    folder.mkdir(parents=True)
    result = {key: value for key, value in result.items() if value is not None}
    (folder / "result.json").write_text(json.dumps(result))
    settings = {"pattern": pattern, "optim": {"lr": lr}, "matched": matched, "seed": seed}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def entry(context: int, state_bits: int = 32000, **changes) -> dict:
    """One context of `triangle` in a result."""
    measured = {"context": context, "state_bits": state_bits, "step_flops": 5000, "step_bytes": 9000}
    recalled = {"recalled_bits": 80.0, "recalled_low": 70.0, "recalled_high": 90.0, "surely": 60.0}
    rest = {"offered_bits": 100.0, "facts_state_bits": state_bits, "efficiency": 1.0, "compactness": 1.0, "recall": 0.8}
    return measured | recalled | rest | {"utilisation": 80.0 / state_bits, "law_broken": False} | changes


def scores(accuracy: float | None, **by_facts: float) -> dict:
    """Scores with slices: scores(0.9, k4=1.0, k8=0.8)."""
    slices = {f"accuracy/num_pairs={name[1:]}": value for name, value in by_facts.items()}
    return {"loss": 0.5, "accuracy": accuracy, "exact_match": 0.4, **slices}


def write_trajectories(runs: Path) -> None:
    """Every placement of A among four layers: three rates, three seeds, three contexts."""
    for pattern in ("LLLL", "ALLL", "LALL", "LLAL", "LLLA", "LALA", "AALL", "AAAA"):
        share = pattern.count("A") / 4
        for lr in (0.001, 0.003, 0.01):
            for seed in (0, 1, 2):
                skill = (0.5 + 0.45 * share) * (1 - abs(lr - 0.003) * 40) - 0.02 * seed - 0.05 * pattern.startswith("A")
                curve = {f"k{k}": max(0.01, min(1.0, skill + 0.5 - 0.06 * k / (1 + 2 * share))) for k in (2, 4, 8, 16)}
                triangle = [_place(context, share, skill) for context in (64, 128, 256)]
                measured = scores(max(skill, 0.0), **curve)
                write_run(runs, pattern, lr=lr, seed=seed, val=measured, test=measured, triangle=triangle)


def _place(context: int, share: float, skill: float) -> dict:
    fixed, growing = 20000 * (1 - share), 2000 * context * share
    recalled = max(skill - 0.1 * (1 - share) * context / 64, 0.0)
    place = {
        "efficiency": 1 - share * context / (context + 200),
        "compactness": 1 - growing / (fixed + growing),
        "recall": recalled,
        "recalled_bits": 200 * recalled,
        "recalled_low": 180 * recalled,
        "recalled_high": 220 * recalled,
        "surely": 150 * recalled,
        "offered_bits": 200.0,
        "step_flops": int(40000 + 100 * context * share),
    }
    return entry(context, int(fixed + growing), **place)


def write_effective(
    run: Path, recalled: float = 80.0, *, elements: int = 1000, surely: float = 60.0, method: int = METHOD
) -> None:
    """What `hybrids bits` leaves in a run: rounded to 8, 4 and 2 bits it keeps all, 99.5 % and half."""
    (run / "eval").mkdir()

    def told(share: float) -> Estimate:
        return Estimate(share * recalled, share * recalled - 1, share * recalled + 1, 0.1, share * surely)

    curve = [EffectiveBits(b, b * elements, told(share)) for b, share in ((8, 1.0), (4, 0.995), (2, 0.5))]
    stored = Recall(told(1.0), 100.0, 32 * elements, elements)
    write_rounded(Rounded(stored, tuple(curve), 64, 512, method), run / FILE)


TRIED = ((0.001, 0), (0.003, 0), (0.01, 0), (0.003, 1), (0.003, 2))
"""Rate and seed of the trials of a search."""


def write_search(runs: Path, patterns: dict[str, dict], *, name: str = "mqar-a-search") -> Path:
    """The record of a search whose trials are the runs mqar-<pattern>-<rate>-<seed>; changes for each pattern."""
    outcomes = []
    for pattern, changes in patterns.items():
        # a search that was started elsewhere has named them from there
        trials = tuple(
            Trial(rate, seed, {1: 1.0, 4: 0.5}, 400, True, f"elsewhere/runs/mqar-{pattern}-{rate:g}-{seed}")
            for rate, seed in TRIED
        )
        found = replace(Capacity(trials, 0.003, 5.0, (4.0, 6.0), 2, 0, (0.001, 0.003), ()), **changes)
        at = None if found.facts is None else Ceiling(math.ceil(found.facts), 256, 2000, 0.02)
        size = Size(16, 1234, 99, 4321)
        most = Ceiling(64, 256, 2400, 0.2)
        outcomes.append(Outcome(pattern=pattern, size=size, capacity=found, at_most=most, at_capacity=at))
    return write(runs / "capacity" / name, outcomes, {})[0]


def table(folder: Path, name: str) -> list[dict[str, str]]:
    """What a report on this folder has written as <name>.csv."""
    with (folder / "report" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))

"""How much memory a run needs at least, and how much there is: what cannot fit is refused before anything is built.

The estimate is a lower bound: what certainly must be there at one time. Parameters are counted without allocating them.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from hybrids.errors import UserError, check_number
from hybrids.model.backbone import Backbone, check_letters
from hybrids.model.block import Choice, Letter
from hybrids.model.unfilled import unfilled
from hybrids.pattern import Pattern
from hybrids.task import Task
from hybrids.training.run import Run

PARAMETER_BYTES = 4 + 4 + 8
"""Of a weight in training: itself, its gradient and two moments of AdamW, in float32."""

WORKER_BYTES = 10 * 2**20
"""Of a worker of the loader, at the very least: a Python process."""


EVALUATED = "a batch of evaluation"

MAX_CONTEXT = 2**26
"""Tokens that a state is measured after: all of them are run through the stack, which took minutes for 2^20."""


class Need(NamedTuple):
    """Bytes that something takes, and the settings that decide how many."""

    what: str
    bytes: int
    settings: str


def check_length(task: Choice[Task], num_examples: int, of: str) -> None:
    """UserError where the tokens alone of so many examples cannot fit: a task may fill memory when it is built.

    `of` is the setting that says how many.
    """
    settings = {name: value for name, value in task.settings.items() if name in ("length", "max_length")}
    longest = max((value for value in settings.values() if isinstance(value, int)), default=0)
    named = ", ".join([f"{of}={num_examples}", *(f"task.{name}={value}" for name, value in settings.items())])
    _check([Need("the tokens of a batch", 8 * num_examples * longest, named)], host_memory(), "this machine")


def check_run(run: Run, task: Task, longest: int) -> None:
    """UserError where a run needs more memory than its device, or its host, can give.

    `longest` is the number of tokens of the longest examples that it trains on.
    """
    needs = estimate(run, task, longest)
    weights, largest = needs[0], max(needs[1:], key=lambda need: need.bytes)
    ranks = run.trainer.devices
    if run.trainer.accelerator == "gpu":
        _check([weights, largest], torch.cuda.mem_get_info()[1], "its GPU")
    else:
        _check([need._replace(bytes=ranks * need.bytes) for need in (weights, largest)], host_memory(), "this machine")


def check_evaluation(run: Run, task: Task) -> None:
    """UserError where a batch of evaluation does not fit."""
    _check([need for need in estimate(run, task) if need.what == EVALUATED], host_memory(), "this machine")


def check_stack(pattern: Pattern, letters: Mapping[str, Letter], d_model: int, context: int) -> None:
    """UserError where a stack and its state after `context` tokens of one sequence need more memory than there is."""
    check_number("context", context, 0, MAX_CONTEXT, why="so many tokens are run through the stack")
    settings = f"pattern={pattern.compact()}, model.d_model={d_model}"
    parameters, state = _count(pattern, letters, d_model, context)
    weights = Need("the weights", 4 * parameters, settings)
    _check([weights, Need("the state", 4 * state, f"context={context}, {settings}")], host_memory(), "this machine")


def estimate(run: Run, task: Task, longest: int | None = None) -> list[Need]:
    """What every rank needs: first the weights, then what may be there beside them, one at a time.

    Examples of training have `longest` tokens, those of evaluation as many as the task says, which is the default.
    A training batch leaves at least the input of every layer for the backward pass, unless a compiler computes some
    of them again; an evaluation has one of them and what the layer makes of it.
    """
    width, data, length = run.model.d_model, run.data, task.length
    pattern, sizes = f"pattern={run.pattern.compact()}", f"{_sizes(task)}, model.d_model={width}"
    backbone, _ = _count(run.pattern, run.letters, width, length)
    tables = 1 if run.model.tie_embeddings else 2
    parameters = backbone + tables * task.vocab_size * width
    element = 2 if run.trainer.precision == "bf16-mixed" else 4
    kept = 1 if run.trainer.compile else 1 + len(run.pattern)
    ranks = run.trainer.devices * run.trainer.num_nodes
    train, evaluated = data.batch_size // ranks, min(data.eval_batch_size, data.num_test_examples) // ranks
    seen = max(data.num_val_examples, data.num_test_examples)
    return [
        Need("weights, gradients and optimiser", PARAMETER_BYTES * parameters, f"{pattern}, {sizes}"),
        Need(
            "a batch of training",
            train * (longest or length) * (8 + kept * width * element),
            f"data.batch_size={data.batch_size}, {pattern}, {sizes}{_of_curriculum(run)}",
        ),
        Need(
            EVALUATED,
            evaluated * length * (8 + 2 * width * element),
            f"data.eval_batch_size={data.eval_batch_size}, {sizes}",
        ),
        Need(
            "the examples that are looked up among those of training",
            seen * 8 * length,
            f"data.num_val_examples={data.num_val_examples}, data.num_test_examples={data.num_test_examples}, {sizes}",
        ),
        Need(
            "the recalled examples",
            8 * data.num_recall_examples,
            f"data.num_recall_examples={data.num_recall_examples}",
        ),
        Need("the loader's workers", WORKER_BYTES * data.num_workers, f"data.num_workers={data.num_workers}"),
    ]


@contextmanager
def told_in_a_sentence(settings: str = "smaller sizes") -> Iterator[None]:
    """Memory that runs out inside is a UserError, which names what could be smaller."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError, and says more than a line
        if not _is_out_of_memory(error):
            raise
        first = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UserError(f"memory ran out ({first}); allowed: smaller ones of {settings}") from error


def _is_out_of_memory(error: BaseException) -> bool:
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or any(words in str(error) for words in ("DefaultCPUAllocator", "bad_alloc"))


def host_memory() -> int:
    """Bytes that this process can hope for: what the machine has free, and no more than its control group may have."""
    return min([_free(), *_limits_of_groups()])


def _check(needs: list[Need], limit: int, who: str) -> None:
    total = sum(need.bytes for need in needs)
    if total > limit:
        largest = max(needs, key=lambda need: need.bytes)
        raise UserError(
            f"this needs at least {_spell(total)} of memory and {who} has {_spell(limit)}: {_spell(largest.bytes)} for "
            f"{largest.what}; allowed: smaller ones of {largest.settings}"
        )


def _count(pattern: Pattern, letters: Mapping[str, Letter], d_model: int, context: int) -> tuple[int, int]:
    """Parameters of a backbone, and elements of its state for one sequence; each kind of layer is built once."""
    check_letters(pattern, letters)  # each layer alone would be called the pattern
    parameters = state = 0
    for layer, times in Counter(pattern.layers).items():
        with unfilled():
            backbone = Backbone(d_model, Pattern((layer,)), letters)
        parameters += times * sum(p.numel() for p in backbone.parameters())
        state += times * backbone.state_elements(context)
    return parameters, state


def _of_curriculum(run: Run) -> str:
    return "".join(f", curriculum.sizes.{name}" for name in run.curriculum.sizes)


def _sizes(task: Task) -> str:
    settings = task.settings()
    names = [name for name in settings if name in task.sizes or name == "vocab_size"]
    return ", ".join(f"task.{name}={settings[name]}" for name in names)


def _free() -> int:
    """What can be had without taking it from another process, swap included."""
    found = dict(line.split(":") for line in _read("/proc/meminfo").splitlines() if ":" in line)
    if "MemAvailable" in found:
        return sum(int(found[name].split()[0]) * 1024 for name in ("MemAvailable", "SwapFree"))
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limits_of_groups() -> list[int]:
    """Limits of the control groups of this process and of those above them (version 2, and version 1 of memory)."""
    limits = []
    for line in _read("/proc/self/cgroup").splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        root = Path("/sys/fs/cgroup") / kinds
        file = "memory.limit_in_bytes" if kinds else "memory.max"
        folder = root / path.lstrip("/")
        limits += [_read(place / file).strip() for place in (folder, *folder.parents) if place.is_relative_to(root)]
    return [int(limit) for limit in limits if limit.isdecimal()]


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:  # another system, or no such group
        return ""


def _spell(size: float) -> str:
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:,.1f} {units[0]}"

"""Making a batch of each task, over the training step that it feeds; and against one example at a time.

    python benchmarks/task_generation.py [--rounds 9] [--tasks mqar copying ...]
    ZOOLOGY=<checkout> python benchmarks/task_generation.py

Every registered task at its defaults, and where it has a setting `mode`, every mode of it; batch 64, on the CPU, one
thread. The step is that of `hybrids train` on such a batch without making it: two layers LA (linear attention, then
attention) of width 64 with their channel mixers, forward, loss, backward, clipping and AdamW. Both are timed in one
process, in turns, by CPU time, which others on the machine disturb least; a share is the median of the shares within
a round. Target: 5 %, and 25 % for is_tree in the mode retrieval.

The last column is how many times as long a peer takes for as many examples. For the mqar tasks that is zoology (see
mqar_generation.py), which makes a segment at once. The published codes of the n-gram and IsTree tasks make one
example at a time in Python; they are not at hand, so plain restatements of these (below: `one_ngram`, `one_tree`),
written for this comparison and marked with a *, stand in for them. That of IsTree with retrieval writes a walk of a few
numbers per step, a fraction of the trace that the task writes, so its ratio is far too low.
"""

import argparse
import importlib
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType

import torch
from torch import nn

from hybrids import registry
from hybrids.model.block import Choice, Letter
from hybrids.model.model import Model
from hybrids.pattern import Pattern
from hybrids.report.terminal.examples import modes_of
from hybrids.task import Batch, Split, Task
from hybrids.training.optim import build_optimizer
from hybrids.training.process import keep_freed_memory, set_threads
from hybrids.training.settings import OptimSettings

PATTERN, D_MODEL, BATCH_SIZE, REPEATS = "LA", 64, 64, 4
TARGET, SEARCH_TARGET = 0.05, 0.25
"""Share of a step; the second for traces that hold the answers of searches."""

Make = Callable[[int], object]
"""Makes batch number `round`."""


def cases(names: list[str]) -> Iterator[tuple[str, str | None]]:
    """Names of tasks, with each mode."""
    for name in names:
        yield from ((name, mode) for mode in modes_of(registry.get("task", name).cls) or [None])


def generator(task: Task) -> Callable[[int], Batch]:
    index = torch.arange(BATCH_SIZE)
    return lambda round: task.sample(index + round * BATCH_SIZE, seed=0, split=Split.TRAIN)


def training_step(task: Task, batch: Batch) -> Make:
    """What `hybrids train` does with a batch that is there."""
    channel = Choice(registry.get("channel", "swiglu").cls, {})
    mixers = {"L": "linear_attention", "A": "attention"}
    letters = {letter: Letter(Choice(registry.get("mixer", name).cls, {}), channel) for letter, name in mixers.items()}
    model, settings = Model(task.vocab_size, D_MODEL, Pattern.parse(PATTERN), letters), OptimSettings()
    optimizer = build_optimizer(model, settings)

    def step(round: int) -> None:
        loss, _ = model.answer(batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
        optimizer.step()

    return step


def zoologys(checkout: str, module: str, task: Task, **settings: int) -> Make:
    """One segment of zoology's `module`, which names its function."""
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
    unused = ModuleType("zoology.utils")
    unused.__dict__["import_from_str"] = None
    sys.modules.setdefault("zoology.utils", unused)
    place = importlib.import_module(f"zoology.data.{module}")
    generate = getattr(place, module)
    sizes = {"vocab_size": task.vocab_size, "num_examples": BATCH_SIZE, "input_seq_len": task.length, **settings}
    return lambda round: generate(**sizes, seed=round)


def one_ngram(draw: random.Random, length: int, num_query: int, num_answer: int, num_symbols: int) -> list[int]:
    """A text and one of its n-grams that stands there once, found by counting all of them; drawn again until it is."""
    while True:
        text = [draw.randrange(num_symbols) for _ in range(length)]
        grams = [tuple(text[i : i + num_query]) for i in range(length - num_query - num_answer + 1)]
        once = [i for i, gram in enumerate(grams) if grams.count(gram) == 1]
        if once:
            start = draw.choice(once)
            return [*text, *text[start : start + num_query + num_answer]]


def one_tree(draw: random.Random, num_nodes: int, mode: str) -> list[int]:
    """Edges of a tree or of a graph with a cycle, in random order; then what the mode writes behind them."""
    names = draw.sample(range(num_nodes), num_nodes)
    parents = {names[i]: names[draw.randrange(i)] for i in range(1, num_nodes)}
    edges = list(parents.items())
    if draw.random() < 0.5:
        first, second = draw.sample(names[:-1], 2)
        edges[-1] = (first, second)
    draw.shuffle(edges)
    tokens = [number for edge in edges for number in (*edge, num_nodes)]
    return tokens if mode == "vanilla" else tokens + tour(edges, names[0], searches=mode == "retrieval")


def tour(edges: list[tuple[int, int]], root: int, *, searches: bool) -> list[int]:
    """Nodes in the order of a depth-first walk; with `searches`, each step looks through the edges, and says so."""
    trace, stack, seen = [], [root], {root}
    unused = list(edges)
    while stack:
        node = stack[-1]
        found = next((edge for edge in unused if node in edge), None)
        trace += [node, *edges.index(found).to_bytes(2, "big"), *found] if searches and found else [node]
        if found is None:
            stack.pop()
            continue
        unused.remove(found)
        other = found[0] if found[1] == node else found[1]
        if other in seen:
            return trace
        seen.add(other)
        stack.append(other)
    return trace


def one_by_one(example: Callable[[random.Random], object]) -> Make:
    return lambda round: [example(random.Random(f"{round}/{i}")) for i in range(BATCH_SIZE)]


def peer_of(name: str, mode: str | None, task: Task, checkout: str | None) -> tuple[str, Make] | None:
    """Who else makes such examples, and how; None where nobody is at hand."""
    published = {
        "mqar": "multiquery_ar",
        "mqar_updates": "forgetting_mqar",
        "mqar_two_token_keys": "compositional_mqar",
    }
    settings = task.settings()
    if name in published and checkout:
        sizes = {"num_kv_pairs": settings["num_pairs"]}
        sizes |= {"num_updates": settings["num_updates"]} if "num_updates" in settings else {}
        return "zoology", zoologys(checkout, published[name], task, **sizes)
    if name == "ngram_retrieval":
        sizes = {"num_query": "query_length", "num_answer": "answer_length", "num_symbols": "num_symbols"}
        sizes = {key: settings[setting] for key, setting in sizes.items()}
        return "restated*", one_by_one(partial(one_ngram, length=settings["max_length"], **sizes))
    if name == "is_tree":
        nodes = int(settings["num_nodes"])
        return "restated*", one_by_one(partial(one_tree, num_nodes=nodes, mode=str(mode)))
    return None


def seconds(make: Make, round: int, repeats: int) -> float:
    """CPU time of one call, the mean of `repeats`."""
    start = time.process_time()
    for i in range(repeats):
        make(round * repeats + i)
    return (time.process_time() - start) / repeats


def measure(name: str, mode: str | None, rounds: int, checkout: str | None) -> str:
    """One line of the table."""
    task: Task = registry.get("task", name).cls(**({"mode": mode} if mode else {}))
    make = generator(task)
    step, peer = training_step(task, make(0)), peer_of(name, mode, task, checkout)
    sides = [make, step] + ([peer[1]] if peer else [])
    times = [[seconds(side, turn, REPEATS) for side in sides] for turn in range(rounds + 1)][1:]
    own, whole = (statistics.median(row[i] for row in times) * 1e3 for i in (0, 1))
    share = statistics.median(row[0] / row[1] for row in times)
    target = SEARCH_TARGET if (name, mode) == ("is_tree", "retrieval") else TARGET
    verdict = "met" if share <= target else "MISSED"
    line = f"{' '.join(filter(None, (name, mode))):<28}{task.length:>7}{own:>9.2f} ms{whole:>9.1f} ms{share:>9.1%}"
    line += f"   of {target:>4.0%} {verdict:<7}"
    return line + (f"{peer[0]} {statistics.median(row[2] / row[0] for row in times):.1f} x" if peer else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tasks", nargs="+", default=registry.names("task"), help="default: all")
    args = parser.parse_args()
    set_threads(1)
    keep_freed_memory()  # as in training; for all sides
    torch.manual_seed(0)
    checkout = os.environ.get("ZOOLOGY")
    if not checkout:
        print("ZOOLOGY is not set: no ratio for the mqar tasks (see mqar_generation.py)")
    print(f"batch {BATCH_SIZE}, {PATTERN} of width {D_MODEL}, 1 thread, CPU time, torch {torch.__version__}")
    print(f"{'task':<28}{'tokens':>7}{'batch':>12}{'step':>12}{'share':>9}   target         peer takes")
    for name, mode in cases(args.tasks):
        print(measure(name, mode, args.rounds, checkout), flush=True)


if __name__ == "__main__":
    main()
